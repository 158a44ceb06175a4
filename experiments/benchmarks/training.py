"""Times whole training steps: tokens per second of every cell of a study, and of PyTorch twins on request."""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.benchmarks import peers
from experiments.config.files import Loaded
from experiments.config.run import Run
from experiments.studies import grid
from experiments.studies.runner import cell_labels
from experiments.training import loop

_TOKENS = 1_000_000  # on which each model is timed


def measure(study: Loaded, *, with_peers: bool = False) -> Iterator[dict[str, Any]]:
    """Yields attention, label and training tokens per second of every cell, one seed each.

    With peers, where PyTorch is installed, a cell that has a twin (`torch_twin.misfit`) also has the twin's.
    """
    runs = [Run.read(cell) for cell in grid.expand(study.config, (), 1, study.sweep)]
    for run in runs:
        loop.validate(run)
    for label, run in zip(labels(runs), runs, strict=True):
        steps = max(5, _TOKENS // (run.train.batch_size * run.task.input_length))
        speed = loop.throughput(run, steps)
        found = {"attention": run.model.attention, "cell": label, "tokens_per_second": speed}
        if with_peers and peers.missing("torch") is None:
            from experiments.benchmarks import torch_twin  # needs PyTorch

            if torch_twin.misfit(run) is None:
                found["torch_tokens_per_second"] = torch_twin.throughput(run, steps)
        yield found


def labels(runs: Sequence[Run]) -> list[str]:
    """Returns what tables call the cells: attention and size, or whatever they differ in where that is not enough."""
    short = [f"{run.model.attention}, width {run.model.model_dim}, {run.task.input_length} tokens" for run in runs]
    return short if len(set(short)) == len(short) else cell_labels([run.config for run in runs])


def render(timings: Sequence[dict[str, Any]]) -> str:
    """Returns one line per cell."""
    return "\n".join(map(_line, timings))


def _line(timing: dict[str, Any]) -> str:
    ours, theirs = timing["tokens_per_second"], timing.get("torch_tokens_per_second")
    twin = "" if theirs is None else f", {ours / theirs:.2f} times the PyTorch twin's {theirs:,.0f}"
    return f"{timing['cell']}: {ours:,.0f} training tokens/s{twin}"
