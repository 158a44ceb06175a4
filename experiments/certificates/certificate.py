"""What a certificate is: one published configuration, what was published about it, and what is obtained here."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.studies.results import read_study
from experiments.studies.rows import Row

REFERENCE = Path(__file__).parents[2] / "results" / "reference"

REPRODUCED, ORDERING, NOT_REPRODUCED = "reproduced", "ordering only", "not reproduced"
BY_NOBODY = "not reproducible by others either"


class Check(NamedTuple):
    """One published number or ordering, and what was obtained."""

    what: str
    published: str
    obtained: str
    tolerance: str  # "" for an ordering
    holds: bool

    @property
    def is_ordering(self) -> bool:
        """Whether what was published is an order of results, not a number."""
        return not self.tolerance


def number(what: str, published: float, obtained: float, tolerance: float, digits: int = 3) -> Check:
    """Returns the check of a number, which holds within an absolute tolerance."""
    return Check(
        what,
        f"{published:.{digits}f}",
        f"{obtained:.{digits}f}",
        f"{tolerance:g}",
        abs(obtained - published) <= tolerance,
    )


def count(what: str, published: int, obtained: int) -> Check:
    """Returns the check of a number that must be met exactly."""
    return Check(what, f"{published:,}", f"{obtained:,}", "exact", obtained == published)


def at_most(what: str, published: int, obtained: int) -> Check:
    """Returns the check of a bound."""
    return Check(what, f"at most {published:,}", f"{obtained:,}", "exact", obtained <= published)


def equal(what: str, difference: float, tolerance: float = 1e-5) -> Check:
    """Returns the check that two functions are equal, by the largest difference of their outputs over their size."""
    return Check(what, "equal", f"{difference:.1e} apart", f"{tolerance:g}", difference <= tolerance)


def ordering(what: str, published: str, obtained: str, holds: bool) -> Check:
    """Returns the check of an order of results."""
    return Check(what, published, obtained, "", holds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """One published configuration. What is computed has `checks`; what is trained has a `study` and its `judge`."""

    name: str
    claim: str  # one sentence: what was published
    source: str  # authors, year, arXiv, table or equation
    configuration: str  # what is computed or trained here, and how it differs
    checks: Callable[[], Sequence[Check]] | None = None
    study: str | None = None  # its name: of configs/NAME.py and of results/reference/NAME
    judge: Callable[[Sequence[Row]], Sequence[Check]] | None = None  # of the rows of its table
    disputed: bool = False  # whether others did not obtain what was published either

    def outcome(self, folder: str | Path | None = None) -> "Outcome":
        """Returns the outcome of a computation, or of the runs of a study.

        Args:
          folder: the study's; None: the kept one, REFERENCE / study. In another folder, the rows that count are those
            with the task and the tests of a kept row.

        Raises:
          ValueError: there is no such study, or it lacks a row; one line.
        """
        if self.judge is None:
            return Outcome(self, self.checks() if self.checks else ())
        kept = REFERENCE / str(self.study)
        rows: Sequence[Row] = read_study(kept).rows
        if folder is not None:
            rows = _asked_alike(read_study(folder).rows, rows, folder)
        return Outcome(self, self.judge(rows), Path(kept if folder is None else folder), _runs(rows))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A certificate with its outcome."""

    certificate: Certificate
    checks: Sequence[Check]
    folder: Path | None = None  # of the study
    runs: str = ""  # seeds, what was chosen, and among which values

    @property
    def verdict(self) -> str:
        """`reproduced` where all that was published holds, and `ordering only` where orderings do and numbers do not.

        A certificate of orderings alone is `ordering only` at best. Where others did not obtain it either, the verdict
        on what is not reproduced says so.
        """
        verdict = self._verdict()
        return BY_NOBODY if verdict == NOT_REPRODUCED and self.certificate.disputed else verdict

    def _verdict(self) -> str:
        orderings = [check for check in self.checks if check.is_ordering]
        numbers = [check for check in self.checks if not check.is_ordering]
        if not all(check.holds for check in orderings):
            return NOT_REPRODUCED
        if numbers and all(check.holds for check in numbers):
            return REPRODUCED
        return ORDERING if orderings else NOT_REPRODUCED


def _asked_alike(rows: Sequence[Row], kept: Sequence[Row], folder: str | Path) -> Sequence[Row]:
    """Returns the rows that have the task and tests of a kept row.

    Raises:
      ValueError: there is none; one line.
    """
    wanted = {_questions(row) for row in kept}
    found = [row for row in rows if _questions(row) in wanted]
    if not found:
        had, asked = (" or ".join(sorted({_questions(row) for row in some})) for some in (rows, kept))
        raise ValueError(f"no row of {str(folder)!r} has the task and the tests that are judged: {asked}; got {had}.")
    return found


def _questions(row: Row) -> str:
    """Returns the task of a row and its tests on other rows."""
    tests = ", ".join(test.key.value for test in row.other_rows)
    return f"{row.config['task']}{f' tested at {tests}' if tests else ''}"


def _runs(rows: Sequence[Row]) -> str:
    """Returns how many seeds the rows of a study have, what was chosen for them, and among which values."""
    seeds = sorted({len(row.seeds) for row in rows})
    choices = {choice.key: [value for value, _ in choice.curve] for row in rows for choice in row.choices}
    chosen = [f"{key} chosen of {', '.join(map(str, values))}" for key, values in choices.items()]
    return "; ".join([f"{' or '.join(map(str, seeds))} seeds", *chosen])
