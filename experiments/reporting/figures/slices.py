"""Accuracy by what makes a target hard beside its distance: depth, number of pairs or distractors, hops, length ..."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.figures import curves, labels, lines
from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures.labels import Mark
from experiments.reporting.figures.layout import Look
from experiments.studies.results import Row, Study

Tasks = Sequence[tuple[str, list[Row]]]
_LABELS = {
    "num_pairs": "key-value pairs in the row",
    "distractors": "distractors in the row",
    "hops": "hops to the answer",
    "order": "place among the answers",
    "repeats": "number of times that the key stood before",
    "length": "length of the string",
    "updated": "whether the value was replaced (1) or not (0)",
    "first_distance": "tokens back to the first number",
    "place": "place in the answer",
    "word": "word: the colour (0) or the shape (1)",
    "shapes": "shapes in the image",
    "steps": "steps along the curves of both dots",
}
_LABELS_OF_TASKS = {  # where a slice means another thing than elsewhere
    ("needle", "depth"): "depth of the needle, in tenths of the context",
    ("induction", "depth"): "place of the answer in the row",
    ("dyck", "depth"): "nesting depth",
    ("listops", "depth"): "nesting depth",
    ("listops", "length"): "length of the expression",
    ("fuzzy_recall", "token"): "token of the value",
}


def slice_names(study: Study) -> list[str]:
    """Returns the slices, "distance" apart, that tell targets of one row of the study from others of it."""
    named = {
        name: max(len(curves.bins(item)) for row in study.rows for item in curves.slices(row, name))
        for name in dict.fromkeys(name for row in study.rows for result in row.results for name in result["slices"])
    }
    return sorted(name for name, bins in named.items() if bins > 1 and name != "distance" and name.isidentifier())


def describe(study: Study, name: str) -> str:
    """Returns what a slice means in the tasks of a study."""
    specs = [task for task, rows in study.by_task.items() if any(curves.slices(row, name) for row in rows)]
    general = _LABELS.get(name, name.replace("_", " "))
    meanings = {_LABELS_OF_TASKS.get((spec.partition(":")[0].strip(), name), general) for spec in specs}
    return meanings.pop() if len(meanings) == 1 else general


def accuracy_by(study: Study, name: str) -> Figure | None:
    """Accuracy by the slice `name`: a panel per task with a line per model, or strips; None where all bins are one."""
    tasks = [
        (title, [row for row in rows if any(len(curves.bins(item)) > 1 for item in curves.slices(row, name))])
        for title, rows in canvas.tasks(study)
    ]
    tasks = [(title, rows) for title, rows in tasks if rows]
    if not tasks:
        return None
    log = any("edges" in item for _, rows in tasks for row in rows for item in curves.slices(row, name))
    draw = strips if len(study.models) > lines.MOST else panels
    return draw(study, tasks, name, describe(study, name), log=log)


def panels(study: Study, tasks: Tasks, name: str, label: str, *, log: bool) -> Figure:
    """Draws a panel per task with a line per model, and its ceilings dotted."""
    figure, places = canvas.panels(study, tasks)
    appearance, drawn = canvas.looks(study), []
    read = {id(row): curves.read(row, name, log=log) for _, rows in places for row in rows}
    for axes, rows in places:
        marks = []
        for index, row in enumerate(rows):
            look, curve = appearance[study.model(row)], read[id(row)]
            curves.draw(axes, curve, canvas.mark_style(study, look, 5))
            curves.draw_ceilings(axes, curve, look.colour, index)
            marks.append(Mark((curve.middles[-1], curve.means[-1]), study.model(row), look))
        curves.value_axis(axes, log=log)
        canvas.accuracy_axis(axes, rows, "test accuracy")
        drawn.append((axes, marks))
    dotted = any(curve.ceilings for curve in read.values())
    if dotted and len(study.by_task) == 1:
        places[0][0].set_title("dotted: ceilings", color=canvas.FAINT)
    labels.name_marks(figure, study, drawn, label, lines.dotted_ceiling() if dotted else None)
    return figure


def strips(study: Study, tasks: Tasks, name: str, label: str, *, log: bool) -> Figure:
    """Draws a strip per model and task."""

    def strip(axes: Axes, row: Row, look: Look) -> None:
        curves.draw_strip(axes, row, curves.read(row, name, log=log), look.colour)
        curves.value_axis(axes, log=log)

    cells = {title: {study.model(row): row for row in rows} for title, rows in tasks}
    return canvas.strips(study, cells, strip, label)
