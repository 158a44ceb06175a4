"""Pictures of a study as matplotlib figures: accuracy against cost, and learning curves. figures.py lists all.

A study of one task has one panel; of several, a panel for each. Where more models than colours meet several tasks,
curves stand in strips, one for each model.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.reporting.figures import labels
from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures.labels import Mark
from experiments.reporting.figures.layout import Look
from experiments.studies.results import Row, Study
from experiments.table import human


def accuracy_against_flops(study: Study) -> Figure:
    """Test accuracy against executed training FLOPs."""
    return _against(study, lambda row: row.mean("train_flops_executed"), "training FLOPs, executed (mean over seeds)")


def accuracy_against_state(study: Study) -> Figure:
    """Test accuracy against the bytes that decoding one sequence carries."""
    return _against(study, lambda row: row.mean("cache_bytes"), "decoding state per sequence, bytes", "B")


def _against(study: Study, cost: Callable[[Row], float | None], label: str, unit: str = "") -> Figure:
    """Accuracy with interval against `cost` on a logarithmic axis; a grey tick is the ceiling."""
    figure, panels = canvas.panels(study)
    appearance, size = canvas.looks(study), 5.5 if canvas.many(study) else 8.0
    parts = (1.0, 2.0, 5.0) if len(panels) == 1 else (1.0, 2.0, 3.0, 5.0)  # two at least where an axis spans a factor 4
    drawn = []
    for axes, rows in panels:
        marks = []
        for row in rows:
            x = cost(row)
            if row.accuracy is None or not x:
                continue
            look = appearance[study.model(row)]
            _point(axes, row, x, look.colour, canvas.mark_style(study, look, size))
            marks.append(Mark((x, row.accuracy[0]), study.model(row), look))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=parts, numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, unit)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        canvas.accuracy_axis(axes, rows, "test accuracy")
        drawn.append((axes, marks))
    _pad_log([axes for axes, marks in drawn if marks])
    tick = Line2D([], [], color=canvas.FAINT, marker="_", markersize=12, markeredgewidth=1.6, linestyle="none")
    tick.set_label("ceiling of the model in its colour")
    labels.name_marks(figure, study, drawn, label, tick)
    return figure


def _point(axes: Axes, row: Row, x: float, colour: str, mark: Mapping[str, Any]) -> None:
    """Draws mean, interval and ceiling of `row` at `x`."""
    if row.accuracy is None:
        return
    (mean, low, high), width = row.accuracy, mark["markersize"] / 8
    ceiling = row.mean("ceiling")
    if ceiling is not None:
        axes.plot([x, x], [mean, ceiling], color=colour, linewidth=width, linestyle=(0, (1, 2)), zorder=2)
        axes.plot([x], [ceiling], marker="_", markersize=14 * width, markeredgewidth=1.6, color=colour, zorder=2)
    if len(row.accuracies) > 1:
        axes.plot([x, x], [low, high], color=colour, linewidth=2.2 * width, solid_capstyle="butt", zorder=3)
    axes.plot([x], [mean], zorder=4, **mark)


def _pad_log(panels: Sequence[Axes]) -> None:
    """Shows the same factor in all panels, 4 at least, so that nearly equal costs do not look different."""
    limits = [axes.get_xlim() for axes in panels]
    half = max([2.0, *(math.sqrt(high / low) * 1.12 for low, high in limits)])
    for axes, (low, high) in zip(panels, limits, strict=True):
        middle = math.sqrt(low * high)
        axes.set_xlim(middle / half, middle * half)


def learning_curves(study: Study) -> Figure:
    """Validation accuracy by step: every seed thin, their median thick."""
    if canvas.many(study):
        cells = {title: {study.model(row): row for row in rows} for title, rows in canvas.tasks(study)}
        figure = canvas.strips(study, cells, _curve_strip, "training step")
        figure.axes[0].set_xlim(left=0)  # all strips share it
        return figure
    figure, panels = canvas.panels(study)
    appearance = canvas.looks(study)
    drawn = []
    for axes, rows in panels:
        marks = []
        for row in rows:
            curves = _curves(row)
            if not curves:
                continue
            look = appearance[study.model(row)]
            for curve in curves:
                axes.plot(*zip(*curve, strict=True), color=look.colour, linewidth=0.9, alpha=0.4)
            steps, median = _median_curve(curves)
            axes.plot(steps, median, color=look.colour, linewidth=2.2)
            axes.plot(steps[-1:], median[-1:], zorder=4, **canvas.mark_style(study, look, 6))
            marks.append(Mark((steps[-1], median[-1]), study.model(row), look))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        canvas.accuracy_axis(axes, rows, "validation accuracy")
        drawn.append((axes, marks))
    labels.name_marks(figure, study, drawn, "training step")
    return figure


def _curve_strip(axes: Axes, row: Row, look: Look) -> None:
    canvas.score_strip(axes, row)
    curves = _curves(row)
    if not curves:
        return
    for curve in curves:
        axes.plot(*zip(*curve, strict=True), color=look.colour, linewidth=0.7, alpha=0.5)
    steps, median = _median_curve(curves)
    axes.fill_between(steps, median, color=look.colour, alpha=0.25, linewidth=0)
    axes.plot(steps, median, color=look.colour, linewidth=1.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _curves(row: Row) -> list[list[tuple[float, float]]]:
    """Returns (step, validation accuracy) of every run that has some."""
    return [[(m["step"], m["validation_accuracy"]) for m in lines] for lines in row.metrics if lines]


def _median_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Returns the median over runs at every step; a run that stopped early keeps its last value."""
    steps = sorted({step for curve in curves for step, _ in curve})
    table = [np.interp(steps, [step for step, _ in curve], [score for _, score in curve]) for curve in curves]
    return steps, np.median(table, axis=0).tolist()
