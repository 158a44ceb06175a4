"""The score across the tasks of a study: over the one number in which they differ, or side by side."""

from matplotlib.figure import Figure

from experiments.reporting.figures import layout, scaling, series, sizes
from experiments.studies.results import Study


def accuracy_across_tasks(study: Study) -> Figure | None:
    """The score against the one numeric field in which the tasks differ, or else task by task; None of one task."""
    field, _ = sizes.numeric_field([rows[0].task for rows in study.by_task.values()])
    if field:
        return scaling.score_over(study, sizes.of_task(study, field))
    return _side_by_side(study) if len(study.by_task) > 1 and study.metric.kind.unit else None


def _side_by_side(study: Study) -> Figure:
    """Draws a bar for each model and task, a few tasks abreast."""
    columns = [
        (title, {model: row.score for model, row in rows.items()})
        for title, rows in layout.by_model(study, layout.tasks(study))
    ]
    return layout.strips(study, layout.abreast(columns), series.draw_bar, layout.score_label(study).replace("\n", " "))
