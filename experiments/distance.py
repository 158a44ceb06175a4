"""The picture that tells "can't see" from "didn't learn": accuracy by how far back the answer stands."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments import plots, reach, settings
from experiments.model import layer_mixers
from experiments.summary import Row, Study
from experiments.table import wrap_spec
from experiments.tasks.base import Task

_ROWS = 1024  # of the task, to say what is within reach


def accuracy_by_distance(study: Study) -> Figure | None:
    """One small panel per row: accuracy by how far back the answer stands; grey is what the pattern cannot reach."""
    rows = [row for row in study.rows if any("distance" in result["slices"] for result in row.results)]
    if not rows:
        return None
    columns = min(3, len(rows))
    height = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(2.75 * columns, 2.35 * height + 0.3), layout="constrained")
    panels = np.atleast_1d(figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False)).ravel()
    appearance = dict(zip(map(study.label, study.rows), plots.looks(study), strict=True))
    for index, (axes, row) in enumerate(zip(panels, rows, strict=False)):
        colour, marker = appearance[study.label(row)]
        _distance_panel(axes, row, colour, marker)
        axes.set_title("\n".join(wrap_spec(study.label(row), 30)), color=plots.INK)
        axes.set_ylim(0, 1.04)
        if index % columns == 0:
            axes.set_ylabel("test accuracy")
        if index + columns >= len(rows):
            axes.set_xlabel("tokens back to the answer")
            axes.tick_params(labelbottom=True)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    return figure


def _distance_panel(axes: Axes, row: Row, colour: str, marker: str) -> None:
    slices = [result["slices"]["distance"] for result in row.results if "distance" in result["slices"]]
    groups = [_groups(item) for item in slices]
    starts = sorted({start for group in groups for start in group})
    ends = {start: group[start][0] for group in groups for start in group}
    middles = [math.sqrt(max(start, 0.7) * max(ends[start] - 1, start, 0.7)) for start in starts]
    ceilings = _distance_ceilings(row, [(start, ends[start]) for start in starts])
    if ceilings:
        edges = [*(max(start, 0.7) for start in starts), max(ends[starts[-1]], 1)]
        axes.fill_between(edges, [*ceilings, ceilings[-1]], 1.0, step="post", color="#dfe3e8", linewidth=0, zorder=1)
    for group in groups:
        axes.plot(middles, [group.get(s, (0, math.nan))[1] for s in starts], color=colour, linewidth=0.8, alpha=0.35)
    means = [np.mean([group[start][1] for group in groups if start in group]) for start in starts]
    axes.plot(middles, means, color=colour, marker=marker, markersize=5, linewidth=1.8, markeredgecolor="white")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    floor = row.mean("floor")
    if floor is not None:
        axes.axhline(floor, color=plots.FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)


def _groups(item: dict[str, Any]) -> dict[int, tuple[int, float]]:
    """Returns {first distance: (end, accuracy)} of the bins of one slice that hold targets."""
    if "edges" in item:
        bounds = list(zip(item["edges"][:-1], item["edges"][1:], strict=True))
    else:
        bounds = [(value, value + 1) for value in item["values"]]
    filled = zip(bounds, item["accuracy"], item["count"], strict=True)
    return {start: (end, accuracy) for (start, end), accuracy, count in filled if count}


def _distance_ceilings(row: Row, bins: Sequence[tuple[int, int]]) -> list[float] | None:
    """Returns the highest accuracy that the row's pattern allows in each bin of distances, from rows of the task."""
    try:
        run = settings.read(row.results[0]["config"])
        seen = reach.model_reach(layer_mixers(run.model), run.task.input_length, run.task.causal, run.model.short_conv)
        distance, weights, position, evidence, guess = _sampled(run.task)
    except (ValueError, NotImplementedError):  # the results of a version that had what this one has not
        return None
    within = (seen[position[..., None], evidence] | (evidence < 0)).all(axis=-1)
    best = np.where(within, 1.0, guess)
    ceilings = []
    for start, end in bins:
        inside = weights * ((distance >= start) & (distance < end))
        ceilings.append(float((best * inside).sum() / inside.sum()) if inside.sum() else 1.0)
    return ceilings


@functools.lru_cache(maxsize=16)
def _sampled(task: Task) -> tuple[np.ndarray, ...]:
    """Returns (distance, weight, position, evidence, guess rate) of the targets of some rows."""
    batch = jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(0), _ROWS))
    return batch.slices["distance"], batch.weights, batch.positions, batch.evidence, task.guess_rate(batch)
