"""What a claim is, and the committed results by what the pages call their rows."""

import pathlib
import re
import statistics
from collections.abc import Callable
from typing import NamedTuple

from experiments.studies.results import read_study
from experiments.studies.rows import Row
from experiments.studies.rows import TestScore as Score

REFERENCE = pathlib.Path(__file__).parents[2] / "results" / "reference"


class Scores:
    """The committed results of a study, by what the pages call its rows."""

    def __init__(self, name: str) -> None:
        self.folder = REFERENCE / name
        self.study = read_study(self.folder)

    def rows(self, attention: str = "", **where: str) -> list[Row]:
        """Returns the rows of an attention, with its fields or without, in which fields of the config begin so."""
        found = [row for row in self.study.rows if all(field(row, key).startswith(v) for key, v in where.items())]
        specs = [row.attention.removeprefix("conv+") for row in found]
        if attention not in specs:
            specs = ["+".join(part.partition(":")[0] for part in spec.split("+")) for spec in specs]
        return [row for row, spec in zip(found, specs, strict=True) if attention in ("", spec)]

    def row(self, attention: str, **where: str) -> Row:
        """Returns the only such row."""
        (row,) = self.rows(attention, **where)
        return row

    def accuracy(self, attention: str, **where: str) -> float:
        return mean(self.row(attention, **where))

    def times_full(self, attention: str, name: str, **where: str) -> float:
        """Returns how many times the cost of full attention a row has."""
        return (self.row(attention, **where).mean(name) or 0.0) / (self.row("full", **where).mean(name) or 0.0)

    def gap(self, attention: str, **where: str) -> float:
        """Returns how far below its ceiling a row is."""
        row = self.row(attention, **where)
        return (row.mean("ceiling") or 0.0) - mean(row)

    def bins(self, attention: str, name: str, **where: str) -> list[float]:
        """Returns the accuracy in every bin of a slice."""
        slices = self.row(attention, **where).slices(name)
        return [statistics.fmean(values) for values in zip(*(each["accuracy"] for each in slices), strict=True)]

    def test(self, attention: str, value: str, **where: str) -> Score:
        """Returns the test on other rows that is called so, such as "64", or whose spec begins so."""
        (found,) = [test for test in self.row(attention, **where).other_rows if test.key.value.startswith(value)]
        return found

    def at(self, attention: str, value: str, **where: str) -> float:
        """Returns the mean accuracy in that test."""
        return statistics.fmean(self.test(attention, value, **where).accuracies)

    def called(self, *keys: str, **where: str) -> dict[tuple[str, ...], Row]:
        """Returns rows by their attention without fields and these fields of their config."""
        found: dict[tuple[str, ...], Row] = {}
        for row in self.rows(**where):
            name = "+".join(part.partition(":")[0] for part in row.attention.removeprefix("conv+").split("+"))
            row_key = (name, *(field(row, key) for key in keys))
            assert row_key not in found, f"two rows are called {row_key}"
            found[row_key] = row
        return found

    def edges(self, *keys: str, **where: str) -> dict[tuple[str, ...], int]:
        """Returns which rows, `called` so, chose the smallest, -1, or the largest, 1, of what was tried."""
        edges = {key: row.choices[0].edge for key, row in self.called(*keys, **where).items()}
        return {key: edge for key, edge in edges.items() if edge}

    def head(self, attention: str, task: str, column: str) -> float:
        """Returns what the table of heads says in a column, of the only row of an attention on a task."""
        head, _, *lines = (self.folder / "heads.md").read_text().splitlines()
        names, *rows = ([cell.strip(" `") for cell in line.strip("|").split("|")] for line in (head, *lines))
        (row,) = [row for row in rows if row[0] == attention and row[1].startswith(task)]
        return float(row[names.index(column)])

    def moved(self, layer: str, rows: str) -> float:
        """Returns how far the attention of a layer moved where answers are read, on rows of "task" or another."""
        head, *lines = (self.folder / "moved.txt").read_text().splitlines()
        names = [name.strip() for name in re.split(r" {2,}", head)]
        (cells,) = [re.split(r" {2,}", line) for line in lines if line.startswith(layer)]
        return float(cells[names.index(f"{rows}: read out")].split()[0])


def field(row: Row, key: str) -> str:
    """Returns a field of the config by the last part of its name, with an end that a prefix can ask for."""
    values = {name: value for name, value in row.config.items() if not name.startswith("pretrain.")}
    (value,) = [value for name, value in values.items() if name.split(".")[-1] == key]
    return f"{value};"


def mean(row: Row) -> float:
    assert row.accuracy is not None
    return row.accuracy.mean


def near(value: float | None, *shown: float) -> bool:
    """Whether a page may show `value` so, with two decimals."""
    return value is not None and all(abs(value - each) <= 0.005 + 1e-9 for each in shown)


class Claim(NamedTuple):
    """A piece of a page, word for word but for line breaks and links, and what must be true of a study then."""

    study: str
    quote: str
    holds: Callable[[Scores], bool]
