"""The text of `--dry_run`: the runs of a study and what they will cost."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.text import aligned, human, listed, plural
from experiments.studies.estimates import CellEstimate, StudyEstimate

_HEADING = (
    *("run", "seeds", "params", "controls", "train FLOPs", "ideal", "forward/token", "state", "memory >=", "time"),
    "start",
)
_COUNTS = ("params", "control_params", "train_flops_executed", "train_flops_ideal", "forward_flops_per_token")


def plan_text(estimate: StudyEstimate) -> str:
    """Returns a line for each cell with its seeds and the cost of a run, and lines with the total."""
    cells = estimate.cells
    lines = [_HEADING, *map(_line, cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    runs = plural(sum(len(cell.seeds) for cell in cells), "run")
    total = human(sum(cell.cost["train_flops_executed"] * len(cell.seeds) for cell in cells))
    return "\n".join(
        [
            *text,
            f"{runs}, at most {total} training FLOPs in total (a run that solves its task stops).",
            _time(estimate),
            "Start: root mean square of what the mixer of each layer adds at step 0.",
        ]
    )


def match_text(matches: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Returns a line for each model of a matched study: what it spends, and how far that is from its target.

    Args:
      matches: the name of each model, and what `spending.matched` says about it.
    """
    quantity = matches[0][1]["quantity"]
    what = {"params": "parameters", "state": "bytes of decoding state", "flops": "executed training FLOPs"}[quantity]
    lines = [
        [name, each["by"] or "as it was", *map(_exact, (each["spent"], each["target"])), f"{each['mismatch']:+.1%}"]
        for name, each in matches
    ]
    return f"Matched {quantity}: {what}.\n{aligned([['row', 'solved for', 'spends', 'target', 'off'], *lines])}\n"


def _exact(number: int) -> str:
    return f"{number:,}" if number < 1e9 else human(number, digits=5)


def _time(estimate: StudyEstimate) -> str:
    known = estimate.speeds.known
    if not known:
        return "Time: unknown until a run of any study below --results has ended."
    seconds = sum((cell.seconds or 0.0) * len(cell.seeds) for cell in estimate.cells)
    devices = dict.fromkeys(f"{speed.environment.get('device', 'an unknown device')}" for speed in known)
    counted = "" if estimate.speeds.complete else "; compilation and evaluation come on top"
    return (
        f"Time: about {duration(seconds)}, one run at a time, by the speed of {plural(len(known), 'ended run')} on "
        f"{listed(devices)}{counted}."
    )


def duration(seconds: float) -> str:
    """Returns "40 s", "12 min", "3.4 h" or "2.1 days"."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 48 * 3600)):
        if seconds < most:
            return f"{seconds / size:.2g} {unit}" if unit == "h" and seconds < 36000 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.2g} days"


def _line(cell: CellEstimate) -> tuple[str, ...]:
    counts = [human(cell.cost[key]) for key in _COUNTS]
    memory = human(cell.cost["cache_bytes"], "B"), human(cell.least_bytes, "B")
    time = "" if cell.seconds is None else duration(cell.seconds)
    start = "+".join(f"{scale:.2g}" for scale in cell.start)
    return (cell.name, _spans(cell.seeds), *counts, *memory, time, start)


def _spans(numbers: Sequence[int]) -> str:
    """Returns "0,2,5-9" for 0, 2, 5, 6, 7, 8 and 9."""
    groups = itertools.groupby(enumerate(numbers), key=lambda item: item[1] - item[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)
