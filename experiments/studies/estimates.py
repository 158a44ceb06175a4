"""What a study will cost, as plain values, for those who print it."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.studies.speeds import Speeds


class CellEstimate(NamedTuple):
    """One cell of a study's grid."""

    name: str  # distinguishes it from the other cells
    seeds: Sequence[int]
    cost: dict[str, int]  # of one run, with the names of a result's "compute"
    least_bytes: int  # that one run needs at once
    start: Sequence[float]  # root mean square of every mixer's output at step 0
    seconds: float | None  # of one run, approximately; None where no run has ended


class StudyEstimate(NamedTuple):
    """The cells of a study, and the runs by which they are timed."""

    cells: Sequence[CellEstimate]
    speeds: Speeds
