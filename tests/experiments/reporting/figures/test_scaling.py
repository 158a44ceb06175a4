"""Scores over the sizes that a study varies: which sizes there are, which rows form a line, and what is drawn."""

import pytest

from experiments.reporting.figures import registry, scaling, sizes
from experiments.studies.results import read_study
from tests.experiments.fake_study import CATALOGUE, KINDS, config_of, write_run, write_study
from tests.experiments.reporting.figures.gallery import paths

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
