"""Accuracy by slices, by length and on shifted tasks: every number is drawn where it belongs, no text is covered."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.reporting.figures import curves
from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures import other_rows as beyond
from experiments.reporting.figures import registry as figures
from experiments.reporting.figures import slices as profile
from experiments.studies.grid import complete
from experiments.studies.results import read_study
from tests.experiments.fake_study import CATALOGUE, KINDS, beyond_training, write_run, write_study
from tests.experiments.reporting.figures.test_figures import box, shown

pytestmark = pytest.mark.slow  # to draw a picture takes a second, and there are many
TASKS = [f"mqar:length={length},num_pairs=8,vocab_size=512" for length in (64, 128, 256)]
STUDIES = {  # kinds, tasks, positions
    "two": (list(KINDS)[:2], TASKS[:1], ("none",)),
    "encodings": (list(KINDS)[:4], TASKS[:1], ("none", "rope", "alibi", "sinusoidal")),
    "eight": (CATALOGUE[:8], TASKS[:1], ("none",)),
    "lengths": (list(KINDS)[:4], TASKS, ("none",)),
    "eight of lengths": (list(KINDS)[:4], TASKS[:2], ("none", "rope")),
}
NAMES = ("accuracy_by_length", "accuracy_shifted", "accuracy_by_depth", "accuracy_by_string_length")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return {
        name: read_study(write_study(folder / name, kinds, 2, *more, beyond=True))
        for name, (kinds, *more) in STUDIES.items()
    }


@pytest.fixture(scope="module")
def drawn(studies):
    with canvas.style():
        return {(name, file): figures.of(study)[file].draw(study) for name, study in studies.items() for file in NAMES}


def points(axes):
    """Returns {(x, y)} of all lines in a panel."""
    return {(float(x), float(y)) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("file", NAMES)
def test_no_text_covers_another(drawn, name, file):
    figure = drawn[name, file]
    figure.draw_without_rendering()
    boxes = [(box(text), text.get_text()) for text in shown(figure)]
    covered = [(a, b) for (one, a), (two, b) in itertools.combinations(boxes, 2) if one.overlaps(two)]
    assert len(boxes) > 8 and covered == []


@pytest.mark.parametrize("name", STUDIES)
def test_every_score_by_length_is_a_point_in_one_panel(studies, drawn, name):
    study = studies[name]
    found = set().union(*(points(axes) for axes in drawn[name, "accuracy_by_length"].axes))
    for row in study.rows:
        trained = float(row.config["task"].partition("length=")[2].partition(",")[0])
        assert (trained, row.accuracy[0]) in found
        for length in row.results[0]["lengths"]:
            mean = float(np.mean([result["lengths"][length]["accuracy"] for result in row.results]))
            assert any(x == float(length) and y == pytest.approx(mean) for x, y in found), (row.attention, length)


@pytest.mark.parametrize("name", STUDIES)
def test_no_panel_has_more_lines_than_can_be_told_apart(studies, drawn, name):
    for file in set(NAMES) - {"accuracy_shifted"}:
        for axes in drawn[name, file].axes:
            colours = {to_hex(line.get_color()).upper() for line in axes.lines if len(line.get_xdata()) > 2}
            assert len(colours - {canvas.FAINT.upper()}) <= 6
    strips = len(studies[name].rows)
    panels = {"two": 1, "encodings": 4, "lengths": 3}.get(name, strips)
    assert len(drawn[name, "accuracy_by_length"].axes) == panels


@pytest.mark.parametrize("name", STUDIES)
def test_the_trained_length_has_a_line_and_the_floor_is_that_of_each_length(studies, drawn, name):
    for axes in drawn[name, "accuracy_by_length"].axes:
        (trained,) = [line.get_xdata()[0] for line in axes.lines if tuple(line.get_ydata()) == (0, 1)]
        assert trained in (64, 128, 256) and axes.get_xscale() == "log"
        floors = [0.125, 0.125, 0.0625, 0.125 / 3]
        expected = {(trained * 2**times, floor) for times, floor in enumerate(floors)}
        assert expected <= points(axes)


def test_small_multiples_keep_a_look_for_each_attention(drawn):
    figure = drawn["encodings", "accuracy_by_length"]
    titles = [axes.get_title("left").removeprefix("position=") for axes in figure.axes]
    assert titles == sorted(STUDIES["encodings"][2])
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 4 + 1 and not any("position" in text.get_text() for text in legend.get_texts())


@pytest.mark.parametrize("name", STUDIES)
def test_shifted_scores_stand_apart_in_a_column_each(studies, drawn, name):
    study, axes = studies[name], iter(drawn[name, "accuracy_shifted"].axes)
    for _, rows in canvas.tasks(study):
        grid = [[next(axes) for _ in range(3)] for _ in study.models]
        titles = [" ".join(panel.get_title("left").split()) for panel in grid[0]]
        assert titles[0].endswith("as trained") and titles[1:] == ["shifted: num_pairs=2", "shifted: num_pairs=16"]
        for row in rows:
            scores = [[result["test_accuracy"] for result in row.results]]
            scores += [[r["shifted"][spec]["accuracy"] for r in row.results] for spec in row.results[0]["shifted"]]
            shown_scores = [panel.texts[0].get_text() for panel in grid[study.models.index(study.model(row))]]
            assert shown_scores == [f"{np.mean(each):.2f}" for each in scores]


@pytest.mark.parametrize("name", STUDIES)
def test_slices_of_several_bins_have_a_figure_with_every_mean(studies, drawn, name):
    study = studies[name]
    assert profile.slice_names(study) == ["depth", "length"]  # num_pairs has one bin, distance its own figure
    found = set().union(*(points(axes) for axes in drawn[name, "accuracy_by_depth"].axes))
    for row in study.rows:
        means = np.mean([result["slices"]["depth"]["accuracy"] for result in row.results], axis=0)
        assert all((float(place), float(mean)) in found for place, mean in enumerate(means)), row.attention


def test_the_axis_of_powers_of_two_is_logarithmic_and_that_of_values_is_not(drawn):
    assert {axes.get_xscale() for axes in drawn["two", "accuracy_by_string_length"].axes} == {"log"}
    assert {axes.get_xscale() for axes in drawn["two", "accuracy_by_depth"].axes} == {"linear"}


def test_a_slice_means_what_its_tasks_say(tmp_path):
    for place, task in enumerate(("needle", "dyck")):
        config = complete({"model": {"attention": "conv+full"}, "task": task, "seed": place}, "test")
        write_run(tmp_path / "study", config, slices=beyond_training(config | {"task": TASKS[0]})["slices"])
    study = read_study(tmp_path / "study")
    assert profile.describe(study, "depth") == "depth" and profile.describe(study, "new_one") == "new one"


def test_ceilings_of_a_slice_are_those_of_the_pattern(tmp_path):
    attention = "conv+sliding_window:window_size=16"
    config = complete({"model": {"attention": attention}, "task": "needle:length=64"}, "test")
    write_run(tmp_path / "study", config)
    (row,) = read_study(tmp_path / "study").rows
    early, late = curves.ceilings(row, "depth", [(0, 1), (9, 10)])
    assert early < 0.1 and late == 1.0  # what is left is guessing; the newest needles stand in the window
    assert curves.ceilings(row, "unheard_of", [(0, 1)]) is None


def test_numbers_as_answers_are_right_within_a_tolerance(tmp_path):
    for task, lines_of_label in (("adding:length=32", 2), ("mqar", 1)):
        config = complete({"model": {"attention": "conv+full"}, "task": task}, "test")
        write_run(tmp_path / task[:4], config, lengths=beyond_training(config | {"task": TASKS[0]})["lengths"])
        study = read_study(tmp_path / task[:4])
        for draw in (beyond.accuracy_by_length, figures.FIGURES["learning_curves"].draw):
            assert len(draw(study).axes[0].get_ylabel().splitlines()) == lines_of_label


def test_without_further_tests_there_is_nothing_to_draw(tmp_path):
    study = read_study(write_study(tmp_path / "study", ["conv+full"], 1))
    assert beyond.accuracy_by_length(study) is None and beyond.accuracy_shifted(study) is None
    assert profile.slice_names(study) == []
