"""Differences between rows of one task over the seeds that they share, corrected for how many rows are compared."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.studies import intervals
from experiments.studies.intervals import Estimate
from experiments.studies.rows import Row

ERROR_RATE = 0.05  # of all tests of one task together, at which differences are distinguished from 0


class Difference(NamedTuple):
    """By how much the score of a row is above that of the row it is compared with, over the seeds that both have."""

    estimate: Estimate | None  # None without a common seed, or for a metric that is not compared in pairs
    p: float | None  # with Holm's correction; None with fewer than `intervals.LEAST` common seeds
    alike: bool  # whether both rows ran with the same versions on the same device, seed by seed

    @property
    def separates(self) -> bool | None:
        """Whether the difference is distinguished from 0; None if that cannot be tested."""
        return self.p <= ERROR_RATE if self.alike and self.p is not None else None


def differences(rows: Sequence[Row], reference: Row) -> list[Difference]:
    """Returns each of `rows` minus `reference`, all of one task.

    A seed draws the same data and the same initial values of what two models share, so its effect on both cancels.
    The correction is for the number of rows that have enough seeds in common with the reference.
    """
    kind = reference.metric.kind
    pairs = [_pairs(row, reference) for row in rows]
    if kind.difference is None or kind.p is None:
        return [Difference(None, None, alike(row, reference)) for row in rows]
    tested = [index for index, pair in enumerate(pairs) if len(pair[0]) >= intervals.LEAST]
    p_values = np.array([kind.p(*map(np.array, pairs[index])) for index in tested])
    corrected = dict(zip(tested, intervals.holm(p_values).tolist(), strict=True))
    number = max(len(tested), 1)
    return [
        Difference(
            kind.difference(*pairs[index], number) if pairs[index][0] else None,
            corrected.get(index),
            alike(row, reference),
        )
        for index, row in enumerate(rows)
    ]


def best(rows: Sequence[Row]) -> Row | None:
    """Returns the row of a task that is better than every other, each difference distinguished from 0, or None."""
    scored = [row for row in rows if row.score.accuracy]
    if len(rows) < 2 or not scored:
        return None
    first = min(scored, key=lambda row: row.metric.rank(row.score.accuracy))
    behind = differences([row for row in rows if row is not first], first)
    worse = -1 if first.metric.higher else 1
    apart = all(each.separates and each.estimate and each.estimate.mean * worse > 0 for each in behind)
    return first if apart else None


def alike(row: Row, other: Row) -> bool:
    """Returns whether runs of the same seed had the same versions and device in both rows."""
    setups = dict(zip(other.seeds, other.setups, strict=True))
    own = dict(zip(row.seeds, row.setups, strict=True))
    return all(setups[seed] == setup for seed, setup in own.items() if seed in setups)


def _pairs(row: Row, reference: Row) -> tuple[list[float], list[float]]:
    """Returns the scores of both in the order of the seeds that they share."""
    one, two = row.score_by_seed, reference.score_by_seed
    shared = [seed for seed in one if seed in two]
    return [one[seed] for seed in shared], [two[seed] for seed in shared]
