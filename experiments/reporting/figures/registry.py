"""The pictures of a report, with what stands above and below them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.reporting.figures import distance, plots
from experiments.reporting.figures import other_rows as beyond
from experiments.reporting.figures import slices as profile
from experiments.reporting.figures import tasks as across
from experiments.studies.results import Study


class Picture(NamedTuple):
    """One picture; it is left out where there is nothing to draw."""

    draw: Callable[[Study], Figure | None]
    heading: str
    caption: str


FIGURES = {  # by file name
    "accuracy_against_flops": Picture(
        plots.accuracy_against_flops,
        "Accuracy against training compute",
        "Mean test accuracy with its 95 % interval. The horizontal tick above a point is the ceiling: what that "
        "attention pattern can reach at all. FLOPs are those of the steps taken; a run that solves the task stops.",
    ),
    "accuracy_against_state": Picture(
        plots.accuracy_against_state,
        "Accuracy against decoding state",
        "What has to be kept in memory to continue one sequence of the task's length, summed over layers.",
    ),
    "accuracy_across_tasks": Picture(
        across.accuracy_across_tasks,
        "Accuracy across tasks",
        "Mean test accuracy with its 95 % interval, over the one field in which the tasks differ, or task by task. The "
        "dotted line of the same colour, or the edge of the grey area, is the ceiling, the dashed line the floor.",
    ),
    "accuracy_by_length": Picture(
        beyond.accuracy_by_length,
        "Accuracy at other lengths",
        "The trained model on rows of other lengths, apart from the test accuracy, which is that at the vertical line. "
        "Means with their 95 % intervals; the dotted line of the same colour, or the grey area, is the ceiling at that "
        "length, the dashed line the floor.",
    ),
    "accuracy_shifted": Picture(
        beyond.accuracy_shifted,
        "Accuracy on shifted tasks",
        "The trained model on rows of its task and, apart from these, on tasks that differ from it as the headings "
        "say. Means with their 95 % intervals; the grey area is above the ceiling, the dashed line is the floor.",
    ),
    "learning_curves": Picture(
        plots.learning_curves,
        "Learning curves",
        "Validation accuracy: every seed thin, their median thick; there a run that stopped keeps its last value.",
    ),
    "accuracy_by_distance": Picture(
        distance.accuracy_by_distance,
        "Accuracy by distance",
        "How far back the answer stands. The grey area, or what lies above a dotted line, is out of reach of the "
        "attention pattern: there, only guessing is left. Thin lines are seeds, the dashed line is the floor.",
    ),
}
_FILES = {"length": "accuracy_by_string_length"}  # of slices whose own file name is taken


def of(study: Study) -> dict[str, Picture]:
    """Returns the pictures of a study by file name: `FIGURES`, and one for every other slice of its results."""
    return FIGURES | {
        _FILES.get(name, f"accuracy_by_{name}"): Picture(
            functools.partial(profile.accuracy_by, name=name),
            f"Accuracy by {profile.describe(study, name)}",
            "Targets of the test apart by that property. Grey, or above a dotted line: out of reach of the attention "
            "pattern. Thin lines are seeds, the dashed line is the floor of all targets together.",
        )
        for name in profile.slice_names(study)
    }
