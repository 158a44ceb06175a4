"""Accuracy across tasks: over the one number in which they differ, or bars side by side."""

import pytest

from experiments.reporting.figures import layout, sizes, tasks
from experiments.studies.results import read_study
from experiments.studies.rows import TaskFacts
from tests.experiments.fake_study import config_of, task_facts, write_run
from tests.experiments.reporting.figures.gallery import SEVERAL, paths

FILE = "accuracy_across_tasks"


def facts(spec):
    return TaskFacts(**task_facts(spec))


@pytest.mark.parametrize(
    ("specs", "field"),
    [
        (["mqar", "mqar:length=32"], ("length", [64, 32])),
        (["mqar", "mqar:power=1.0"], ("power", [0.01, 1.0])),
        (["mqar", "mqar:length=128,vocab_size=64"], ("", [])),  # two fields
        (["mqar", "mqar:random_fillers=true"], ("", [])),  # no number
        (["mqar", "induction"], ("", [])),
        (["mqar"], ("", [])),
    ],
)
def test_the_field_in_which_tasks_differ_is_one_and_a_number(specs, field):
    assert sizes.numeric_field([facts(spec) for spec in specs]) == field


@pytest.mark.slow
def test_it_comes_where_there_are_several_tasks(gallery):
    assert gallery.figure("one task", FILE) is None and all(gallery.figure(name, FILE) for name in SEVERAL)


@pytest.mark.slow
def test_side_by_side_each_score_has_its_ceiling_and_its_floor(gallery):
    study, figure = gallery.study("mixed"), gallery.figure("mixed", FILE)
    titles = [title for title, _ in layout.tasks(study)]
    assert [axes.get_title(loc="left").replace("\n  ", "") for axes in figure.axes[:3]] == titles
    assert len(figure.axes) == len(study.models) * 3, "a strip for each model and task"
    strips = iter(figure.axes)
    for model in study.models:
        for _, rows in layout.tasks(study):
            (row,), axes = [row for row in rows if study.model(row) == model], next(strips)
            assert {row.accuracy.mean, row.mean("floor")} <= {line.get_xdata()[0] for line in axes.lines}
            hidden, bar = axes.patches
            assert hidden.get_x() == row.mean("ceiling") and bar.get_width() == row.accuracy.mean


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lengths", "five tasks"])
def test_over_a_field_there_is_a_line_and_a_ceiling_for_each_model(gallery, name):
    study = gallery.study(name)
    (axes,) = gallery.figure(name, FILE).axes
    _, values = sizes.numeric_field([rows[0].task for rows in study.by_task.values()])
    assert axes.get_xticks().tolist() == values == sorted(values)
    for model in study.models:
        rows = [row for row in study.rows if study.model(row) == model]
        assert tuple(zip(values, [row.accuracy.mean for row in rows], strict=True)) in paths(axes), model
        assert tuple(zip(values, [row.mean("ceiling") for row in rows], strict=True)) in paths(axes), model


def test_over_a_field_tasks_stand_in_order_of_its_value_and_the_floor_follows(tmp_path):
    spelled = {64: "mqar", 32: "mqar:length=32"}  # the first leaves its length to the default
    for length, task in spelled.items():
        scores = {"floor": 4 / length, "ceiling": 0.9, "test_accuracy": 0.5}
        write_run(tmp_path / "study", config_of("conv+full", task=task), **scores)
    (axes,) = tasks.accuracy_across_tasks(read_study(tmp_path / "study")).axes
    assert {((32, 4 / 32), (64, 4 / 64)), ((32, 0.9), (64, 0.9)), ((32, 0.5), (64, 0.5))} <= paths(axes)
