"""The picture that tells "can't see" from "didn't learn": accuracy by how far back the answer stands."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from experiments import canvas, labels, reach, settings
from experiments.canvas import Look
from experiments.model import layer_mixers
from experiments.summary import Row, Study
from experiments.table import wrap_spec
from experiments.tasks.base import Task

_ROWS = 1024  # of the task, to say what is within reach
_LABEL = "tokens back to the answer"


class _Curve(NamedTuple):
    """Accuracy of a row over bins of distances."""

    middles: list[float]  # of the bins
    seeds: list[list[float]]
    means: list[float]
    edges: list[float]  # one more than bins
    ceilings: list[float]  # from edge to edge, the last one twice; empty where unknown


def accuracy_by_distance(study: Study) -> Figure | None:
    """Accuracy by how far back the answer stands, and what the attention pattern cannot reach; None without distances.

    One small panel per row; of several tasks a panel per task with a line per model, or strips where those are many.
    """
    tasks = [(title, [row for row in rows if _slices(row)]) for title, rows in canvas.tasks(study)]
    tasks = [(title, rows) for title, rows in tasks if rows]
    if not tasks:
        return None
    if canvas.many(study):
        cells = {title: {study.model(row): row for row in rows} for title, rows in tasks}
        return canvas.strips(study, cells, _strip, _LABEL)
    return _panel_per_row(study, tasks[0][1]) if len(study.by_task) == 1 else _panel_per_task(study, tasks)


def _panel_per_row(study: Study, rows: Sequence[Row]) -> Figure:
    columns = min(3, len(rows))
    height = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(2.75 * columns, 2.35 * height + 0.3), layout="constrained")
    panels = np.atleast_1d(figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False)).ravel()
    appearance = canvas.looks(study)
    for index, (axes, row) in enumerate(zip(panels, rows, strict=False)):
        curve = _read(row)
        _shade(axes, curve)
        _draw(axes, curve, canvas.mark_style(study, appearance[study.model(row)], 5))
        floor = row.mean("floor")
        if floor is not None:
            axes.axhline(floor, color=canvas.FAINT, linewidth=1, linestyle=canvas.DASHES, zorder=1)
        axes.set_title("\n".join(wrap_spec(study.label(row), 30)), color=canvas.INK)
        axes.set_ylim(0, 1.04)
        if index % columns == 0:
            axes.set_ylabel("test accuracy")
        if index + columns >= len(rows):
            axes.set_xlabel(_LABEL)
            axes.tick_params(labelbottom=True)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    return figure


def _panel_per_task(study: Study, tasks: Sequence[tuple[str, list[Row]]]) -> Figure:
    figure, panels = canvas.panels(study, tasks)
    appearance = canvas.looks(study)
    for axes, rows in panels:
        for index, row in enumerate(rows):
            look, curve = appearance[study.model(row)], _read(row)
            _draw(axes, curve, canvas.mark_style(study, look, 5))
            if curve.ceilings:
                dots = (index * 1.4, (1, 3))  # of several ceilings in one place every one shows
                axes.step(curve.edges, curve.ceilings, where="post", color=look.colour, linewidth=1.4, linestyle=dots)
        canvas.accuracy_axis(axes, rows, "test accuracy")
    dotted = Line2D([], [], color=canvas.FAINT, linewidth=1.4, linestyle=(0, (1, 3)), label="ceiling, in that colour")
    labels.name_marks(figure, study, [(axes, []) for axes, _ in panels], _LABEL, dotted)
    return figure


def _strip(axes: Axes, row: Row, look: Look) -> None:
    curve = _read(row)
    _shade(axes, curve)
    axes.fill_between(curve.middles, curve.means, color=look.colour, alpha=0.25, linewidth=0)
    _draw(axes, curve, {"color": look.colour}, 1.3)
    canvas.score_strip(axes, row)


def _shade(axes: Axes, curve: _Curve) -> None:
    """Greys what the pattern cannot reach."""
    if curve.ceilings:
        axes.fill_between(curve.edges, curve.ceilings, 1.0, step="post", color=canvas.HIDDEN, linewidth=0, zorder=1)


def _draw(axes: Axes, curve: _Curve, mark: Mapping[str, Any], width: float = 1.8) -> None:
    """Draws every seed thin, their mean thick."""
    for seed in curve.seeds:
        axes.plot(curve.middles, seed, color=mark["color"], linewidth=0.8, alpha=0.35)
    axes.plot(curve.middles, curve.means, linewidth=width, **mark)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def _read(row: Row) -> _Curve:
    groups = [_groups(item) for item in _slices(row)]
    starts = sorted({start for group in groups for start in group})
    ends = {start: group[start][0] for group in groups for start in group}
    ceilings = _distance_ceilings(row, [(start, ends[start]) for start in starts])
    return _Curve(
        middles=[math.sqrt(max(start, 0.7) * max(ends[start] - 1, start, 0.7)) for start in starts],
        seeds=[[group.get(start, (0, math.nan))[1] for start in starts] for group in groups],
        means=[float(np.mean([group[start][1] for group in groups if start in group])) for start in starts],
        edges=[*(max(start, 0.7) for start in starts), max(ends[starts[-1]], 1)],
        ceilings=[*ceilings, ceilings[-1]] if ceilings else [],
    )


def _slices(row: Row) -> list[dict[str, Any]]:
    return [result["slices"]["distance"] for result in row.results if "distance" in result["slices"]]


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
        seen = reach.model_reach(layer_mixers(run.model), run.task.input_length, run.causal, run.model.short_conv)
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
