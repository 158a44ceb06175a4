"""Accuracy across the tasks of a study: over the one number in which they differ, or side by side."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.reporting.figures import labels, lines
from experiments.reporting.figures import layout as canvas
from experiments.studies.results import Study, task_differences

_ABREAST = 3  # tasks side by side


def accuracy_across_tasks(study: Study) -> Figure | None:
    """Test accuracy against the one numeric field in which the tasks differ, or else a profile; None of one task."""
    field, values = numeric_field(list(study.by_task))
    if field:
        return _over_field(study, field, values)
    return _profile(study) if len(study.by_task) > 1 else None


def _profile(study: Study) -> Figure:
    """Returns a bar for each model and task, a few tasks abreast."""
    columns = [(title, {study.model(row): row for row in rows}) for title, rows in canvas.tasks(study)]
    blocks = [dict(columns[first : first + _ABREAST]) for first in range(0, len(columns), _ABREAST)]
    label = canvas.accuracy_label(study.rows, "test accuracy").replace("\n", " ")
    return canvas.stacked_strips(study, blocks, lines.bar, label)


def _over_field(study: Study, field: str, values: Sequence[float]) -> Figure:
    groups = sorted(zip(values, study.by_task.values(), strict=True), key=lambda group: group[0])
    points = {
        model: [(x, row) for x, rows in groups for row in rows if study.model(row) == model] for model in study.models
    }
    label = f"{field} of the task"
    if canvas.many(study):
        figure = canvas.strips(study, {"test accuracy": points}, lines.strip, label)
        lines.value_axis(figure.axes[0], values)  # all strips share it
        return figure
    figure, axes = canvas.labelled_axes(len(points))
    lines.value_axis(axes, values)
    marks = lines.panel(axes, points, canvas.looks(study))
    axes.set_title("dotted: ceilings", color=canvas.FAINT)
    axes.set_xlabel(label)
    labels.margin_labels(axes, marks)
    return figure


def numeric_field(tasks: Sequence[str]) -> tuple[str, list[float]]:
    """Returns the one field in which `tasks` differ and its values; "" where there is no such number."""
    differences = task_differences(tasks) if len(tasks) > 1 else None
    if differences is None or len(differences[0]) != 1:
        return "", []
    (field,) = differences[0]
    values = [values[field] for values in differences]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return (field, values) if numeric else ("", [])
