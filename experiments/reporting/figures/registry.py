"""The pictures of a report, with the heading and the caption of each. A new picture is one more entry here."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.reporting.figures import cost, layout, other_rows, slices, tasks
from experiments.reporting.figures.learning_curves import learning_curves
from experiments.studies.results import Study


class Picture(NamedTuple):
    """One picture; `draw` returns None where there is nothing to draw, and the report leaves it out."""

    draw: Callable[[Study], Figure | None]
    heading: str
    caption: str


FIGURES = {  # by file name
    "accuracy_against_flops": Picture(
        cost.accuracy_against_flops,
        "Accuracy against training compute",
        "Mean test accuracy with its 95 % interval, or the range of fewer than 5 seeds. The horizontal tick above a "
        "point is the ceiling: the most that the model can reach with its attention pattern. FLOPs are those of the "
        "steps taken; a run stops when it has solved the task.",
    ),
    "accuracy_against_state": Picture(
        cost.accuracy_against_state,
        "Accuracy against decoding state",
        "The state is what must stay in memory to continue one sequence of the task's length, summed over layers.",
    ),
    "accuracy_across_tasks": Picture(
        tasks.accuracy_across_tasks,
        "Accuracy across tasks",
        "Mean test accuracy with its 95 % interval, or the range of fewer than 5 seeds, against the one field in which "
        "the tasks differ, or task by task. "
        "The ceiling is the dotted line of the same colour, or the edge of the grey area; the floor is the dashed "
        "line.",
    ),
    "accuracy_by_length": Picture(
        other_rows.accuracy_by_length,
        "Accuracy at other lengths",
        "The trained models on rows of other lengths. The test accuracy is the score at the vertical line alone. Means "
        "with their 95 % intervals, or the ranges of fewer than 5 seeds. "
        "The ceiling at each length is the dotted line of the same colour, or the edge of "
        "the grey area; the floor is the dashed line.",
    ),
    "accuracy_shifted": Picture(
        other_rows.accuracy_shifted,
        "Accuracy on shifted tasks",
        "The trained models on rows of their own task and, in the other columns, on rows of tasks that differ from it "
        "as the headings say, which do not count in the test accuracy. Means with their 95 % intervals, or "
        "the ranges of fewer than 5 seeds. The grey area "
        "is above the ceiling; the dashed line is the floor.",
    ),
    "learning_curves": Picture(
        learning_curves,
        "Learning curves",
        "Validation accuracy: every seed is a thin line, their median the thick one, in which a run that has stopped "
        "keeps its last value.",
    ),
    "accuracy_by_distance": Picture(
        slices.accuracy_by_distance,
        "Accuracy by distance",
        "Test accuracy by how far back the answer stands. A model cannot see answers in the grey area, or above the "
        "dotted line of its colour: there it can only guess. Thin lines are seeds, the dashed line is the floor.",
    ),
}
_SLICE_FILES = {"length": "accuracy_by_string_length"}  # of slices whose usual file name is taken


def pictures(study: Study) -> dict[str, Picture]:
    """Returns the pictures of a study by file name: `FIGURES`, and one for every other slice of its results."""
    found = FIGURES | {
        _SLICE_FILES.get(name, f"accuracy_by_{name}"): Picture(
            functools.partial(slices.accuracy_by, name=name),
            f"Accuracy by {slices.describe(study, name)}",
            "Test accuracy of the targets grouped by this property. The grey area, or what is above a dotted line, is "
            "out of reach for the model. Thin lines are seeds, the dashed line is the floor of all targets together.",
        )
        for name in slices.slice_names(study)
    }
    shown = layout.shown(study)
    if shown is study:
        return found
    note = f" Shown are the {len(shown.models)} best of {len(study.models)} models."
    return {
        name: Picture(functools.partial(_draw_shown, picture.draw), picture.heading, picture.caption + note)
        for name, picture in found.items()
    }


def _draw_shown(draw: Callable[[Study], Figure | None], study: Study) -> Figure | None:
    return draw(layout.shown(study))
