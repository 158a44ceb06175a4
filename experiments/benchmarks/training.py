"""Times whole training steps: tokens per second of every cell of a study's grid."""

from typing import Any

from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies import grid
from experiments.training import loop

_STEPS = 300


def measure(config: Config) -> list[dict[str, Any]]:
    """Returns attention and training tokens per second of every cell, one seed each."""
    timings = []
    for cell in grid.expand(config, (), 1):
        run = Run.read(cell)
        loop.validate(run)
        timings.append({"attention": cell.model.attention, "tokens_per_second": loop.throughput(run, _STEPS)})
    return timings


def render(timings: list[dict[str, Any]]) -> str:
    """Returns one line per cell."""
    return "\n".join(f"{each['attention']}: {each['tokens_per_second']:,.0f} training tokens/s" for each in timings)
