"""Accuracy across the tasks of a study: over the one number in which they differ, or side by side."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.reporting.figures import labels, layout, series
from experiments.reporting.figures.style import CEILING_TITLE, FAINT
from experiments.studies.results import Study
from experiments.studies.rows import TaskFacts, TestScore, task_differences

_ABREAST = 3  # tasks side by side


def accuracy_across_tasks(study: Study) -> Figure | None:
    """Test accuracy against the one numeric field in which the tasks differ, or else task by task; None of one task."""
    field, values = numeric_field([rows[0].task for rows in study.by_task.values()])
    if field:
        return _over_field(study, field, values)
    return _side_by_side(study) if len(study.by_task) > 1 else None


def numeric_field(tasks: Sequence[TaskFacts]) -> tuple[str, list[float]]:
    """Returns the one field in which `tasks` differ and its values; "" where there is no such number."""
    differences = task_differences(tasks) if len(tasks) > 1 else None
    if differences is None or len(differences[0]) != 1:
        return "", []
    (field,) = differences[0]
    values = [values[field] for values in differences]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return (field, values) if numeric else ("", [])


def _side_by_side(study: Study) -> Figure:
    """Draws a bar for each model and task, a few tasks abreast."""
    columns = [
        (title, {model: row.tests[0] for model, row in rows.items()})
        for title, rows in layout.by_model(study, layout.tasks(study))
    ]
    blocks = [columns[first : first + _ABREAST] for first in range(0, len(columns), _ABREAST)]
    label = layout.accuracy_label(study.rows, layout.with_spread("test accuracy", study.rows)).replace("\n", " ")
    return layout.strips(study, blocks, series.draw_bar, label)


def _over_field(study: Study, field: str, values: Sequence[float]) -> Figure:
    groups = sorted(zip(values, study.by_task.values(), strict=True), key=lambda group: group[0])
    lines: dict[str, list[tuple[float, TestScore]]] = {model: [] for model in study.models}
    for x, row in ((x, row) for x, rows in groups for row in rows):
        lines[study.model(row)].append((x, row.tests[0]))
    label = f"{field} of the task"
    if layout.crowded(study):
        figure = layout.strips(
            study,
            [[(layout.with_spread("test accuracy", study.rows).replace("\n", " "), lines)]],
            series.draw_line_alone,
            label,
        )
        series.number_axis(figure.axes[0], values)  # all strips share it
        return figure
    figure, axes = layout.labelled_axes(len(lines))
    series.number_axis(axes, values)
    across = layout.accuracy_label(study.rows, layout.with_spread("test accuracy", study.rows))
    marks = series.draw_lines(axes, lines, layout.looks(study), across)
    axes.set_title(CEILING_TITLE, color=FAINT)
    axes.set_xlabel(label)
    labels.margin_labels(axes, marks)
    return figure
