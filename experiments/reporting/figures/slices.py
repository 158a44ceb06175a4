"""Accuracy by a property of the targets, such as their distance from the evidence, their depth, or the hops to them."""

import functools
import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.figures import labels, layout, series
from experiments.reporting.figures.layout import Tasks
from experiments.reporting.figures.style import CEILING_TITLE, DASHES, FAINT, INK, Look, Mark
from experiments.reporting.text import wrap_spec
from experiments.studies.results import Study
from experiments.studies.rows import Row

DISTANCE = "distance"


def slice_names(study: Study) -> list[str]:
    """Returns the slices of the study's results, except the distance, that have several bins."""
    names = {name for row in study.rows for result in row.results for name in result["slices"] if name != DISTANCE}
    return sorted(name for name in names if any(_several_bins(row, name) for row in study.rows))


def describe(study: Study, name: str) -> str:
    """Returns what a slice means in the tasks of a study: their word for it, or its name where they do not agree."""
    plain = name.replace("_", " ")
    meanings = {row.task.slice_labels.get(name, plain) for row in study.rows if row.slices(name)}
    return meanings.pop() if len(meanings) == 1 else plain


def accuracy_by_distance(study: Study) -> Figure | None:
    """Accuracy by how far back the answer is, and what models cannot reach; None if all distances are alike.

    It separates models that cannot see the answer from models that did not learn to find it. With one task there is a
    panel for each row, where what is out of reach is grey.
    """
    tasks = _with_several_bins(study, DISTANCE)
    if not tasks:
        return None
    if len(study.by_task) == 1:
        return _panel_per_row(study, tasks[0][1])
    return _draw(study, tasks, DISTANCE, log=True)


def accuracy_by(study: Study, name: str) -> Figure | None:
    """Accuracy by the slice `name`; None where no row has several bins."""
    tasks = _with_several_bins(study, name)
    log = any("edges" in item for _, rows in tasks for row in rows for item in row.slices(name))
    return _draw(study, tasks, name, log=log) if tasks else None


def _with_several_bins(study: Study, name: str) -> Tasks:
    return layout.tasks(study, lambda row: _several_bins(row, name))


def _several_bins(row: Row, name: str) -> bool:
    return any(len(series.filled_bins(item)) > 1 for item in row.slices(name))


def _draw(study: Study, tasks: Tasks, name: str, *, log: bool) -> Figure:
    """Draws a panel for each task with a line for each model, or strips where models are many."""
    if not layout.crowded(study):
        return _together(study, tasks, name, log=log)
    draw = functools.partial(_draw_alone, name=name, log=log)
    return layout.strips(study, [layout.by_model(study, tasks)], draw, describe(study, name))


def _together(study: Study, tasks: Tasks, name: str, *, log: bool) -> Figure:
    figure, panels = layout.panels(study, tasks)
    appearance, drawn, dotted = layout.looks(study), [], False
    for axes, rows in panels:
        marks = []
        for index, row in enumerate(rows):
            look, curve = appearance[study.model(row)], series.read_curve(row, name, log=log)
            series.draw_curve(axes, curve, layout.mark_style(study, look, 5))
            series.draw_ceilings(axes, curve, look.colour, index)
            marks.append(Mark((curve.middles[-1], curve.means[-1]), study.model(row), look))
            dotted |= bool(curve.ceilings)
        series.bin_axis(axes, log=log)
        layout.accuracy_axis(axes, rows, "test accuracy")
        drawn.append((axes, marks))
    if dotted and len(study.by_task) == 1:
        panels[0][0].set_title(CEILING_TITLE, color=FAINT)
    labels.name_marks(figure, study, drawn, describe(study, name), *([series.ceiling_handle()] if dotted else []))
    return figure


def _draw_alone(axes: Axes, row: Row, look: Look, *, name: str, log: bool) -> None:
    curve = series.read_curve(row, name, log=log)
    series.shade(axes, curve)
    axes.fill_between(curve.middles, curve.means, color=look.colour, alpha=0.25, linewidth=0)
    series.draw_curve(axes, curve, {"color": look.colour}, 1.3)
    series.bin_axis(axes, log=log)
    layout.beside_strip(axes, row.tests[0])


def _panel_per_row(study: Study, rows: list[Row]) -> Figure:
    columns = min(3, len(rows))
    height = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(2.75 * columns, 2.35 * height + 0.3), layout="constrained")
    panels = figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False).ravel()
    appearance = layout.looks(study)
    for index, (axes, row) in enumerate(zip(panels, rows, strict=False)):
        curve, floor = series.read_curve(row, DISTANCE, log=True), row.mean("floor")
        series.shade(axes, curve)
        series.draw_curve(axes, curve, layout.mark_style(study, appearance[study.model(row)], 5))
        series.bin_axis(axes, log=True)
        if floor is not None:
            axes.axhline(floor, color=FAINT, linewidth=1, linestyle=DASHES, zorder=1)
        axes.set_title("\n".join(wrap_spec(study.label(row), 30)), color=INK)
        axes.set_ylim(0, 1.04)
        if index % columns == 0:
            axes.set_ylabel(layout.accuracy_label([row], "test accuracy"))
        if index + columns >= len(rows):
            axes.set_xlabel(describe(study, DISTANCE))
            axes.tick_params(labelbottom=True)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    return figure
