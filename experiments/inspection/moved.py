"""How far attention moved between the end of a pretraining and the end of the run that began there.

The distance of a query is the total variation between its shares of weight before and after (`Map.shares`), half the
sum of |p - q| over keys: 0 if it looks where it did, 1 if it looks only at other keys. Both are of the same rows.
Unlike the heads of two seeds, a head is the same before and after, so heads are paired.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from experiments.config.run import Run
from experiments.inspection.maps import Looker, Map
from experiments.model.hooks import Site
from experiments.model.streams import TEST, split_key
from experiments.studies.pretraining import folder_of
from experiments.studies.run_folder import RunFolder
from experiments.studies.trained import open_run, trained_model
from experiments.tasks.base import Batch

OWN, BEFORE = "task", "pretrain.task"  # whose rows
READ_OUT, ALL = "read out", "all queries"


class Moved(NamedTuple):
    """How far one attention layer of one run moved, mean over rows, heads and queries."""

    site: Site
    rows: str  # OWN or BEFORE
    queries: str  # READ_OUT, where answers are read, or ALL
    distance: float  # in [0, 1]; NaN where no query has nonzero weights


def moved_in_run(folder: Path, num_rows: int) -> list[Moved]:
    """Returns how far each layer moved, on the first test rows of the run's own task and of its pretraining's.

    Raises:
      ValueError: the run began from scratch, or one of the two has no checkpoint; one line.
    """
    run = open_run(folder)
    first = _pretraining(run)
    before = trained_model(folder_of(run, RunFolder(folder)).path, first)
    after = trained_model(folder, run)
    found = []
    for name, task in ((OWN, run.task), (BEFORE, first.task)):
        rows = task.sample(split_key(jax.random.key(run.seed), TEST), num_rows)
        looker = Looker(before)  # the rows of two tasks may differ in length
        found += moved(looker(before, rows).maps, looker(after, rows).maps, rows, name)
    return found


def has_pretraining(folder: Path) -> bool:
    """Whether a run began from the parameters of another; raises a one-line ValueError if `folder` is not a run."""
    return open_run(folder).pretraining is not None


def moved(before: Sequence[Map], after: Sequence[Map], rows: Batch, name: str) -> list[Moved]:
    """Compares the maps of two models on the same rows, which are called `name`; encoders have no read-out queries."""
    found = []
    for one, other in zip(before, after, strict=True):
        distances, counted = _distances(one, other)
        kinds = {ALL: counted}
        if one.site.part != "encoder":
            read = np.zeros((len(distances), 1, distances.shape[2]), bool)
            for row, target in np.argwhere(np.asarray(rows.weights) > 0):
                read[row, 0, np.asarray(rows.positions)[row, target]] = True
            kinds = {READ_OUT: counted & read, ALL: counted}
        for queries, chosen in kinds.items():
            mean = float(distances[chosen].mean()) if chosen.any() else float("nan")
            found.append(Moved(one.site, name, queries, mean))
    return found


def _distances(
    one: Map, other: Map
) -> tuple[Float[np.ndarray, "batch heads query_length"], Bool[np.ndarray, "batch heads query_length"]]:
    """Returns the total variation of each query, and which queries have nonzero weights in both maps."""
    before, after = one.shares, other.shares
    counted = (before.sum(-1) > 0) & (after.sum(-1) > 0)
    return np.abs(before - after).sum(-1) / 2, counted


def _pretraining(run: Run) -> Run:
    if run.pretraining is None:
        raise ValueError(f"run {run.digests.run} began anew; --moved needs one with pretrain.task.")
    return run.pretraining
