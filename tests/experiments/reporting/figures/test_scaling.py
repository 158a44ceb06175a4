"""Scores across tasks, over the number in which they differ or side by side, and over the sizes that a study varies."""

import pytest

from experiments.reporting.figures import layout, registry, scaling, sizes
from experiments.studies.results import read_study
from experiments.studies.rows import TaskFacts
from tests.experiments.fake_study import CATALOGUE, KINDS, config_of, task_facts, write_run, write_study
from tests.experiments.reporting.figures.gallery import SEVERAL, paths

FILE = "accuracy_across_tasks"
WINDOWS = [f"conv+sliding_window:window_size={size}" for size in (4, 8, 64)]
BIGBIRDS = [f"conv+bigbird:window_size={w},num_global={g}+linear" for w, g in ((8, 1), (8, 2), (16, 1))]
GRID = [f"mqar:length={length},num_pairs={pairs}" for length in (64, 128) for pairs in (2, 4, 8)]


def found(study):
    """Returns {size: {panel: {line: values}}}."""
    return {
        size.name: {
            panel: {line: list(points) for line, points in group.items()}
            for panel, group in sizes.lines(study, size).items()
        }
        for size in sizes.varied(study)
    }


@pytest.fixture(scope="module")
def widths(tmp_path_factory):
    """A study of widths whose state grows with them, of full attention only."""
    folder = tmp_path_factory.mktemp("results") / "widths"
    for width in (32, 64, 256):
        for attention, state in (("conv+full", 8 * width), ("conv+linear", 1024)):
            config = config_of(attention)
            config["model"]["model_dim"] = width
            write_run(folder, config, test_accuracy=width / 512, compute={"cache_bytes": state})
    return read_study(folder)


def test_a_number_of_the_config_and_the_state_are_sizes(widths):
    task = widths.rows[0].config["task"]
    assert found(widths) == {
        "model_dim": {task: {"conv+full": [32, 64, 256], "conv+linear": [32, 64, 256]}},
        "state_bytes": {task: {"conv+full": [256, 512, 2048]}},
    }


def test_a_number_in_the_spec_of_attention_is_a_size_and_other_fields_name_the_line(tmp_path):
    study = read_study(write_study(tmp_path / "study", ["conv+full", *WINDOWS, *BIGBIRDS], 1, ["mqar"]))
    windows = found(study)["window_size"]["mqar"]
    assert windows == {"conv+sliding_window": [4, 8, 64], "conv+bigbird:num_global=1+linear": [8, 16]}
    assert found(study)["num_global"] == {"mqar": {"conv+bigbird:window_size=8+linear": [1, 2]}}
    assert set(found(study)["state_bytes"]["mqar"]) <= {"conv+sliding_window", "conv+bigbird+linear"}


def test_of_tasks_that_differ_in_two_numbers_each_is_a_size_and_the_other_names_the_panel(tmp_path):
    study = read_study(write_study(tmp_path / "study", ["conv+full"], 1, GRID))
    assert found(study) == {
        "length": {f"mqar num_pairs={pairs}": {"conv+full": [64, 128]} for pairs in (2, 4, 8)},
        "num_pairs": {f"mqar length={length}": {"conv+full": [2, 4, 8]} for length in (64, 128)},
    }
    one = read_study(write_study(tmp_path / "one", ["conv+full"], 1, GRID[:3]))
    assert found(one) == {}, "one field of tasks is drawn by `accuracy_across_tasks`"


def test_where_no_size_varies_there_is_no_picture(tmp_path):
    study = read_study(write_study(tmp_path / "study", list(KINDS), 1, ["mqar", "induction"]))
    assert found(study) == {}
    assert not any(name.startswith("accuracy_over") for name in registry.pictures(study))


def test_each_line_has_its_scores_at_its_sizes(widths):
    (size, _) = sizes.varied(widths)
    (axes,) = scaling.score_over(widths, size).axes
    assert axes.get_xscale() == "log" and axes.get_xticks().tolist() == [32, 64, 256]
    assert ((32, 0.0625), (64, 0.125), (256, 0.5)) in paths(axes)
    assert axes.get_ylabel() == "test accuracy" and axes.get_xlabel() == "model_dim"


def test_the_score_that_is_drawn_is_that_of_the_metric(widths):
    study = widths.by_metric(widths.metrics["loss"])
    (size, _) = sizes.varied(study)
    (axes,) = scaling.score_over(study, size).axes
    full = [row for row in study.rows if row.attention == "conv+full"]
    losses = sorted((row.varied["model.model_dim"], row.score.accuracy.mean) for row in full)
    assert tuple(losses) in paths(axes) and axes.get_ylabel() == "test loss" and axes.get_ylim()[1] != 1.04


@pytest.mark.slow
def test_many_lines_are_strips_and_one_model_keeps_its_look(tmp_path):
    study = read_study(write_study(tmp_path / "study", CATALOGUE[:8], 1, GRID))
    size = next(size for size in sizes.varied(study) if size.name == "num_pairs")
    figure = scaling.score_over(study, size)
    assert len(figure.axes) == 8 * 2
    assert [axes.get_title() for axes in figure.axes[:2]] == ["mqar length=64", "mqar length=128"]


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
    (axes,) = scaling.accuracy_across_tasks(read_study(tmp_path / "study")).axes
    assert {((32, 4 / 32), (64, 4 / 64)), ((32, 0.9), (64, 0.9)), ((32, 0.5), (64, 0.5))} <= paths(axes)
