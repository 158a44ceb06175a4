"""Pictures of a study as matplotlib figures: accuracy against cost, learning curves; distance.py has one more.

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
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from experiments import canvas, labels
from experiments.canvas import Look
from experiments.labels import Mark
from experiments.summary import Row, Study, task_differences
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


def accuracy_across_tasks(study: Study) -> Figure | None:
    """Test accuracy against the one numeric field in which the tasks differ; None where they differ otherwise."""
    field, values = _numeric_field(list(study.by_task))
    if not field:
        return None
    groups = sorted(zip(values, study.by_task.values(), strict=True), key=lambda group: group[0])
    points = {
        model: [(x, row) for x, rows in groups for row in rows if study.model(row) == model] for model in study.models
    }
    label = f"{field} of the task"
    if canvas.many(study):
        figure = canvas.strips(study, {"test accuracy": points}, _line_strip, label)
        for axes in figure.axes:
            _value_axis(axes, values)
        return figure
    figure, axes = canvas.labelled_axes(len(points))
    _value_axis(axes, values)
    canvas.accuracy_axis(axes, [], "test accuracy")
    _floors(axes, [(x, rows[0].mean("floor")) for x, rows in groups])
    appearance, marks = canvas.looks(study), []
    for index, (model, line) in enumerate(points.items()):
        _line(axes, line, appearance[model], shift=3.5 * (index - (len(points) - 1) / 2))
        marks += [Mark((x, row.accuracy[0]), model, appearance[model]) for x, row in line[-1:] if row.accuracy]
    axes.set_title("dotted: ceilings", color=canvas.FAINT)
    axes.set_xlabel(label)
    labels.margin_labels(axes, marks)
    return figure


def _floors(axes: Axes, floors: Sequence[tuple[float, float | None]]) -> None:
    """Draws the floor of every task, dashed like that of a single one."""
    known = [(x, floor) for x, floor in floors if floor]
    if known:
        axes.plot(*zip(*known, strict=True), color=canvas.FAINT, linewidth=1, linestyle=canvas.DASHES, zorder=1)
        x, floor = known[0]
        axes.annotate(
            "floor", (x, floor), (0, 4), textcoords="offset points", ha="center", color=canvas.FAINT, fontsize=8
        )


def _value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Shows exactly `values`, on a logarithmic axis where they grow by factors."""
    low, high = min(values), max(values)
    if 0 < low <= high / 4:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.15, high * 1.15)
    else:
        axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _line(axes: Axes, line: Sequence[tuple[float, Row]], look: Look, shift: float) -> None:
    """Draws means, their intervals and, dotted, the ceilings, `shift` points aside so that intervals stand apart."""
    inch = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    style: dict[str, Any] = {"color": look.colour, "transform": axes.transData + ScaledTranslation(shift / 72, 0, inch)}
    ceilings = [(x, ceiling) for x, row in line if (ceiling := row.mean("ceiling")) is not None]
    if ceilings:
        axes.plot(*zip(*ceilings, strict=True), linewidth=1.4, linestyle=(shift, (1, 3)), zorder=2, **style)
    scores = [(x, row.accuracy, len(row.accuracies)) for x, row in line if row.accuracy]
    for x, (_, low, high), seeds in scores:
        if seeds > 1:
            axes.plot([x, x], [low, high], linewidth=2.2, solid_capstyle="butt", alpha=0.55, zorder=3, **style)
    means = [accuracy[0] for _, accuracy, _ in scores]
    axes.plot(
        [x for x, _, _ in scores], means, marker=look.marker, markersize=7, linewidth=1.6, markeredgecolor="white",
        zorder=4, **style,
    )  # fmt: skip


def _line_strip(axes: Axes, line: Sequence[tuple[float, Row]], look: Look) -> None:
    values, colour = [x for x, _ in line], look.colour
    ceilings = [1.0 if (ceiling := row.mean("ceiling")) is None else ceiling for _, row in line]
    axes.fill_between(values, ceilings, 1.0, color=canvas.HIDDEN, linewidth=0, zorder=1)
    for x, row in line:
        if row.accuracy and len(row.accuracies) > 1:
            axes.plot([x, x], row.accuracy[1:], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=3)
    means = [row.accuracy[0] if row.accuracy else math.nan for _, row in line]
    axes.fill_between(values, means, color=colour, alpha=0.25, linewidth=0)
    axes.plot(values, means, color=colour, marker=look.marker, markersize=4.5, linewidth=1.2, markeredgecolor="white")


def _numeric_field(tasks: Sequence[str]) -> tuple[str, list[float]]:
    """Returns the one field in which `tasks` differ and its values; "" where there is no such number."""
    differences = task_differences(tasks) if len(tasks) > 1 else None
    if differences is None or len(differences[0]) != 1:
        return "", []
    (field,) = differences[0]
    values = [values[field] for values in differences]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return (field, values) if numeric else ("", [])
