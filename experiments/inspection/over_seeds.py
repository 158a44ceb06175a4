"""What the heads of several runs look at: scores over the seeds of a study, and along training.

Heads of a layer have no order: head 1 of one seed has no more to do with head 1 of another than with its head 2. So
heads are never paired between seeds. For each layer and score there are the highest head of every run, and the mean
of its heads. The highest head may differ from score to score.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config.run import Run
from experiments.inspection.head_scores import SPREADS, HeadScore, head_scores
from experiments.inspection.maps import Looker
from experiments.model.hooks import Site
from experiments.model.objective import read_out
from experiments.model.streams import TEST, split_key
from experiments.studies.intervals import Estimate, mean_accuracy, mean_number
from experiments.studies.trained import kept_steps, open_run, trained_model
from experiments.tasks.base import Batch

BEST, MEAN, ONLY = "best head", "mean of heads", "its head"  # of a layer; the last if it has only one head


class Scored(NamedTuple):
    """What the heads of one run look at, with the parameters of one step."""

    seed: int
    step: int | None  # None: the parameters with the best validation accuracy
    accuracy: float  # on the same rows
    scores: list[HeadScore]


def score_runs(folders: Sequence[Path], num_rows: int, *, along_training: bool = False) -> list[Scored]:
    """Scores the heads of runs that differ only in their seeds, each on the first `num_rows` test rows of its seed.

    Args:
      folders: of the runs.
      num_rows: rows to average over.
      along_training: at every step whose parameters are kept, rather than with the best parameters.

    Raises:
      ValueError: a run has no checkpoint, or none along training; one line.
    """
    found: list[Scored] = []
    looker = None
    for folder in folders:
        run, rows = open_with_rows(folder, num_rows)
        steps: Sequence[int | None] = kept_steps(folder) if along_training else (None,)
        for step in steps:
            model = trained_model(folder, run, step)
            looker = looker or Looker(model)
            seen = looker(model, rows)
            answers = jax.tree.map(np.asarray, read_out(jnp.asarray(seen.logits), rows, run.task))
            accuracy = float(np.average(answers.correct, weights=answers.weights))
            found.append(Scored(run.seed, step, accuracy, head_scores(seen.maps, rows)))
    return found


def open_with_rows(folder: Path, num_rows: int) -> tuple[Run, Batch]:
    """Returns a run and the first test rows of its seed; raises a one-line ValueError if `folder` is not a run."""
    run = open_run(folder)
    return run, run.task.sample(split_key(jax.random.key(run.seed), TEST), num_rows)


class Line(NamedTuple):
    """A score of a layer over runs."""

    site: Site
    which: str  # of its heads: BEST, MEAN or ONLY
    name: str  # of the score
    estimate: Estimate | None  # None where no run has keys of the kind
    baseline: float


def sum_up(scored: Sequence[Scored]) -> list[Line]:
    """Returns every score of every layer over runs; what measures a spread, such as entropy, has no best head."""
    runs = [by_layer(each.scores) for each in scored]
    return [
        Line(site, which, name, _estimate(name, [run[site, which, name][0] for run in runs]), baseline)
        for (site, which, name), (_, baseline) in runs[0].items()
    ]


def by_layer(scores: Sequence[HeadScore]) -> Mapping[tuple[Site, str, str], tuple[float, float]]:
    """Returns (value, baseline) of one run by layer, choice of heads, and score; NaN where no query counts."""
    heads: dict[tuple[Site, str], list[HeadScore]] = {}
    for score in scores:
        heads.setdefault((score.site, score.name), []).append(score)
    return {
        (site, which, name): (value, found[0].baseline)
        for (site, name), found in heads.items()
        for which, value in _of_layer(name, [score.value for score in found])
    }


def _of_layer(name: str, values: Sequence[float]) -> Iterator[tuple[str, float]]:
    if len(values) == 1:
        yield ONLY, values[0]
        return
    known = [value for value in values if not math.isnan(value)]
    if name not in SPREADS:
        yield BEST, max(known, default=math.nan)
    yield MEAN, statistics.fmean(known) if known else math.nan


def _estimate(name: str, values: Sequence[float]) -> Estimate | None:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    if name in SPREADS:
        return mean_number(known)
    return mean_accuracy(np.clip(known, 0, 1).tolist())  # sums of shares exceed 1 by rounding
