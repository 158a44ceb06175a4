"""The pictures of a report, with the heading and the caption of each. A new picture is one more entry here."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.reporting.figures import choices, cost, effects, frontier, layout, other_rows, scaling, sizes, slices
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
        "steps taken; a run stops when it has solved the task. The line is the front by means: no cheaper model scores "
        "as well as the models on it, whose marks have a dark edge. Intervals may overlap.",
    ),
    "accuracy_against_state": Picture(
        cost.accuracy_against_state,
        "Accuracy against decoding state",
        "The state is what must stay in memory to continue one sequence of the task's length, summed over layers. The "
        "line is the front, as in the picture above.",
    ),
    "accuracy_against_costs": Picture(
        frontier.accuracy_against_costs,
        "Accuracy against every cost",
        "Mean test accuracy of models at several sizes, with its 95 % interval or the range of fewer than 5 seeds. A "
        "thin line joins the sizes of one attention, the larger mark is the larger model, and the thick line is the "
        "front. FLOPs are of the steps taken; times compare as far as runs shared a machine.",
    ),
    "accuracy_across_tasks": Picture(
        scaling.accuracy_across_tasks,
        "Accuracy across tasks",
        "Mean test accuracy with its 95 % interval, or the range of fewer than 5 seeds, against the one field in which "
        "the tasks differ, or task by task. "
        "The ceiling is the dotted line of the same colour, or the edge of the grey area; the floor is the dashed "
        "line.",
    ),
    "paired_differences": Picture(
        effects.paired_differences,
        "Paired differences",
        "Mean test accuracy minus that of the reference, full attention or else the best model, on the same task "
        "and over the seeds that both have, with intervals that hold for all rows of a task at once (Bonferroni), or "
        "the range of fewer than 5 seeds. A filled mark is told from 0 (t test, p at most 0.05 by Holm's correction).",
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
    """Returns the pictures of a study by file name.

    They are `FIGURES`, and one for each size that it varies, field that it chooses and further slice of its results.
    """
    found = FIGURES | _over_sizes(study) | _by_choices(study) | _by_slices(study)
    shown = layout.shown(study)
    if shown is study:
        return found
    note = f" Shown are the {len(shown.models)} best of {len(study.models)} models."
    return {
        name: Picture(functools.partial(_draw_shown, picture.draw), picture.heading, picture.caption + note)
        for name, picture in found.items()
    }


def _over_sizes(study: Study) -> dict[str, Picture]:
    return {
        f"accuracy_over_{size.name}": Picture(
            functools.partial(scaling.score_over, size=size),
            f"Accuracy over {size.name.replace('_', ' ')}",
            "Mean test accuracy with its 95 % interval, or the range of fewer than 5 seeds, of the models that the "
            "study has at several such sizes. The ceiling is the dotted line of the same colour, or the edge of the "
            "grey area; the floor is the dashed line.",
        )
        for size in sizes.varied(study)
    }


def _by_choices(study: Study) -> dict[str, Picture]:
    return {
        f"validation_by_{key.split('.')[-1]}": Picture(
            functools.partial(choices.validation_by, key=key),
            f"Validation accuracy by {key.split('.')[-1].replace('_', ' ')}",
            "Mean validation accuracy over seeds of every value that was tried. The large mark is the one that was "
            "chosen; an arrow says that it is the smallest or the largest tried, so that a better one may lie beyond. "
            "From the dotted line on a run counts as solved.",
        )
        for key in choices.chosen_keys(study)
    }


def _by_slices(study: Study) -> dict[str, Picture]:
    return {
        _SLICE_FILES.get(name, f"accuracy_by_{name}"): Picture(
            functools.partial(slices.accuracy_by, name=name),
            f"Accuracy by {slices.describe(study, name)}",
            "Test accuracy of the targets grouped by this property. The grey area, or what is above a dotted line, is "
            "out of reach for the model. Thin lines are seeds, the dashed line is the floor of all targets together.",
        )
        for name in slices.slice_names(study)
    }


def _draw_shown(draw: Callable[[Study], Figure | None], study: Study) -> Figure | None:
    return draw(layout.shown(study))
