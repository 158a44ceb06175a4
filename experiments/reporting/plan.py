"""The text of `--dry_run`: the runs of a study and what they will cost."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.reporting.text import human, plural

_HEADING = (
    *("run", "seeds", "params", "controls", "train FLOPs", "ideal", "forward/token", "state", "memory >=", "start"),
)
_COUNTS = ("params", "control_params", "train_flops_executed", "train_flops_ideal", "forward_flops_per_token")


class Planned(NamedTuple):
    """One cell of a study's grid."""

    name: str  # distinguishes it from the other cells
    seeds: Sequence[int]
    cost: Mapping[str, float]  # of one run, with the names of a result's "compute"
    least_bytes: int  # that one run needs at once
    start: Sequence[float]  # root mean square of every mixer's output at step 0


def plan_text(cells: Sequence[Planned]) -> str:
    """Returns a line for each cell with its seeds and the cost of a run, and a line with the total."""
    lines = [_HEADING, *map(_line, cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    runs = plural(sum(len(cell.seeds) for cell in cells), "run")
    total = human(sum(cell.cost["train_flops_executed"] * len(cell.seeds) for cell in cells))
    return "\n".join(
        [
            *text,
            f"{runs}, at most {total} training FLOPs in total (a run that solves its task stops).",
            "Start: root mean square of what the mixer of each layer adds at step 0.",
        ]
    )


def _line(cell: Planned) -> tuple[str, ...]:
    counts = [human(cell.cost[key]) for key in _COUNTS]
    memory = human(cell.cost["cache_bytes"], "B"), human(cell.least_bytes, "B")
    start = "+".join(f"{scale:.2g}" for scale in cell.start)
    return (cell.name, _spans(cell.seeds), *counts, *memory, start)


def _spans(numbers: Sequence[int]) -> str:
    """Returns "0,2,5-9" for 0, 2, 5, 6, 7, 8 and 9."""
    groups = itertools.groupby(enumerate(numbers), key=lambda item: item[1] - item[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)
