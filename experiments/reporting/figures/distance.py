"""The picture that tells "can't see" from "didn't learn": accuracy by how far back the answer stands."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.reporting.figures import curves
from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures import slices as profile
from experiments.studies.results import Row, Study
from experiments.table import wrap_spec

_LABEL = "tokens back to the answer"
_SLICE = "distance"


def accuracy_by_distance(study: Study) -> Figure | None:
    """Accuracy by how far back the answer stands, and what the attention pattern cannot reach; None without distances.

    One small panel per row; of several tasks a panel per task with a line per model, or strips where those are many.
    """
    tasks = [(title, [row for row in rows if curves.slices(row, _SLICE)]) for title, rows in canvas.tasks(study)]
    tasks = [(title, rows) for title, rows in tasks if rows]
    if not tasks:
        return None
    if len(study.by_task) == 1:
        return _panel_per_row(study, tasks[0][1])
    draw = profile.strips if canvas.many(study) else profile.panels
    return draw(study, tasks, _SLICE, _LABEL, log=True)


def _panel_per_row(study: Study, rows: Sequence[Row]) -> Figure:
    columns = min(3, len(rows))
    height = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(2.75 * columns, 2.35 * height + 0.3), layout="constrained")
    panels = np.atleast_1d(figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False)).ravel()
    appearance = canvas.looks(study)
    for index, (axes, row) in enumerate(zip(panels, rows, strict=False)):
        curve = curves.read(row, _SLICE, log=True)
        curves.shade(axes, curve)
        curves.draw(axes, curve, canvas.mark_style(study, appearance[study.model(row)], 5))
        curves.value_axis(axes, log=True)
        floor = row.mean("floor")
        if floor is not None:
            axes.axhline(floor, color=canvas.FAINT, linewidth=1, linestyle=canvas.DASHES, zorder=1)
        axes.set_title("\n".join(wrap_spec(study.label(row), 30)), color=canvas.INK)
        axes.set_ylim(0, 1.04)
        if index % columns == 0:
            axes.set_ylabel(canvas.accuracy_label([row], "test accuracy"))
        if index + columns >= len(rows):
            axes.set_xlabel(_LABEL)
            axes.tick_params(labelbottom=True)
    for axes in panels[len(rows) :]:
        axes.set_axis_off()
    return figure
