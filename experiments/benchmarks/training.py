"""Times whole training steps: tokens per second of every cell of a study's grid."""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies import grid
from experiments.training import loop

_STEPS = 300


def measure(config: Config) -> Iterator[dict[str, Any]]:
    """Yields attention and training tokens per second of every cell, one seed each."""
    runs = [Run.read(cell) for cell in grid.expand(config, (), 1)]
    for run in runs:
        loop.validate(run)
    for run in runs:
        yield {"attention": run.model.attention, "tokens_per_second": loop.throughput(run, _STEPS)}


def render(timings: Sequence[dict[str, Any]]) -> str:
    """Returns one line per cell."""
    return "\n".join(f"{each['attention']}: {each['tokens_per_second']:,.0f} training tokens/s" for each in timings)
