"""Times whole training steps: tokens per second of every cell of a study's grid, and of PyTorch twins on request."""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.benchmarks import peers
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies import grid
from experiments.training import loop

_STEPS = 300


def measure(config: Config, *, with_peers: bool = False) -> Iterator[dict[str, Any]]:
    """Yields attention and training tokens per second of every cell, one seed each.

    With peers, where PyTorch is installed, a cell that has a twin (`torch_twin.misfit`) also has the twin's.
    """
    runs = [Run.read(cell) for cell in grid.expand(config, (), 1)]
    for run in runs:
        loop.validate(run)
    for run in runs:
        found = {"attention": run.model.attention, "tokens_per_second": loop.throughput(run, _STEPS)}
        if with_peers and peers.missing("torch") is None:
            from experiments.benchmarks import torch_twin  # needs PyTorch

            if torch_twin.misfit(run) is None:
                found["torch_tokens_per_second"] = torch_twin.throughput(run, _STEPS)
        yield found


def render(timings: Sequence[dict[str, Any]]) -> str:
    """Returns one line per cell."""
    return "\n".join(map(_line, timings))


def _line(timing: dict[str, Any]) -> str:
    ours, theirs = timing["tokens_per_second"], timing.get("torch_tokens_per_second")
    twin = "" if theirs is None else f", {ours / theirs:.2f} times the PyTorch twin's {theirs:,.0f}"
    return f"{timing['attention']}: {ours:,.0f} training tokens/s{twin}"
