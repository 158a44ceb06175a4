"""One column of a study's table: its heading, its cells and the note that explains it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.reporting.text import human
from experiments.studies.intervals import Estimate
from experiments.studies.rows import Row


class Interval(NamedTuple):
    """The two ends of an interval or a range, to be written with `digits` decimals."""

    low: float
    high: float
    digits: int | None  # None: as people read numbers, see `human`
    kind: str = "interval"  # or "range"


class Cell(NamedTuple):
    """The content of a table for one row and column."""

    text: str
    mark: str  # refers to a note below the table; may be empty
    detail: str | Interval  # in addition, smaller or on a line of its own; may be empty
    best: bool  # whether it is emphasised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table."""

    key: str  # its name in CSV
    heading: tuple[str, str]  # two lines, the first of which may be empty
    value: Callable[[Row], Any]  # at full precision, for CSV
    text: Callable[[Row], str]
    more: Callable[[Row], dict[str, Any]] = lambda row: {}  # more values for CSV, by name
    detail: Callable[[Row], str | Interval] = lambda row: ""
    mark: Callable[[Row], str] = lambda row: ""
    best: Callable[[Row], bool] = lambda row: False
    note: str = ""  # explains the column below the table
    shown: bool = True  # False: only CSV has it
    names_row: bool = False  # whether it distinguishes rows, and so is part of every table

    @property
    def title(self) -> str:
        """The heading on one line."""
        return " ".join(self.heading).strip()

    def cell(self, row: Row) -> Cell:
        """Returns the cell of the table for `row`."""
        return Cell(self.text(row), self.mark(row), self.detail(row), self.best(row))

    def record(self, row: Row) -> dict[str, Any]:
        """Returns the values for CSV by name."""
        return {self.key: self.value(row), **self.more(row)}


def number(
    key: str, heading: tuple[str, str], value: Callable[[Row], Any], show: Callable[[Any], str] = human, **more: Any
) -> Column:
    """Returns a column whose text is `show` of its value."""
    return Column(key=key, heading=heading, value=value, text=lambda row: show(value(row)), **more)


def spread(estimate: Estimate | None, digits: int | None = 3) -> str | Interval:
    """Returns the interval or the range of a mean, nothing for a single run."""
    return Interval(estimate.low, estimate.high, digits, estimate.kind) if estimate and estimate.kind else ""


def spread_record(name: str, estimate: Estimate | None) -> dict[str, Any]:
    """Returns the ends of the interval or range of `name` for CSV, and which of the two it is."""
    low, high, kind = (estimate.low, estimate.high, estimate.kind) if estimate and estimate.kind else (None, None, "")
    return {f"{name}_low": low, f"{name}_high": high, f"{name}_spread": kind}
