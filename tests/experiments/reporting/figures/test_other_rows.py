"""Accuracy on other rows: every score is drawn where it belongs."""

import numpy as np
import pytest

from experiments.reporting.figures import layout, other_rows
from experiments.reporting.figures.style import FAINT
from experiments.studies.results import read_study
from tests.experiments.fake_study import config_of, score, write_run, write_study
from tests.experiments.reporting.figures.gallery import TESTED, colours, one_line, points


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_every_score_by_length_is_a_point_in_one_panel(gallery, name):
    study, figure = gallery.study(name), gallery.figure(name, "accuracy_by_length")
    found = set().union(*(points(axes) for axes in figure.axes))
    for row in study.rows:
        lengths = [test for test in row.tests if test.key.kind != "shifted"]
        assert len(lengths) == 4 and lengths[0].length == row.task.train_length
        assert {(test.length, test.accuracy.mean) for test in lengths} <= found, row.attention


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_no_panel_has_more_lines_than_there_are_colours(gallery, name):
    panels = {"two": 1, "encodings": 4, "three lengths": 3}.get(name, len(gallery.study(name).rows))
    figure = gallery.figure(name, "accuracy_by_length")
    assert len(figure.axes) == panels
    for axes in figure.axes:
        assert len(set(colours(axes, 2)) - {FAINT.upper()}) <= layout.MOST_LINES


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_the_trained_length_has_a_line_and_the_floor_is_that_of_each_length(gallery, name):
    for axes in gallery.figure(name, "accuracy_by_length").axes:
        (trained,) = [line.get_xdata()[0] for line in axes.lines if tuple(line.get_ydata()) == (0, 1)]
        assert trained in (64, 128, 256) and axes.get_xscale() == "log"
        floors = [0.125, 0.125, 0.0625, 0.125 / 3]
        assert {(trained * 2**times, floor) for times, floor in enumerate(floors)} <= points(axes)


@pytest.mark.slow
def test_panels_of_what_varies_keep_a_look_for_each_attention(gallery):
    figure = gallery.figure("encodings", "accuracy_by_length")
    titles = [axes.get_title("left").removeprefix("position=") for axes in figure.axes]
    assert titles == sorted(TESTED["encodings"][2])
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 4 + 1 and not any("position" in text.get_text() for text in legend.get_texts())


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_shifted_scores_stand_apart_in_a_column_each(gallery, name):
    study, axes = gallery.study(name), iter(gallery.figure(name, "accuracy_shifted").axes)
    for _, rows in layout.tasks(study):
        grid = [[next(axes) for _ in range(3)] for _ in study.models]
        titles = [one_line(panel.get_title("left")) for panel in grid[0]]
        assert titles[0].endswith("as trained") and titles[1:] == ["shifted: num_pairs=2", "shifted: num_pairs=16"]
        for row in rows:
            expected = [test.accuracy.mean for test in row.tests if test.key.kind != "length"]
            shown = [panel.texts[0].get_text() for panel in grid[study.models.index(study.model(row))]]
            assert shown == [f"{each:.2f}" for each in expected] and len(set(np.round(expected, 6))) == 3


def test_two_shifted_tasks_of_one_label_have_a_column_each(tmp_path):
    tests = [score("shifted", f"mqar:num_pairs={pairs}", 0.1 * pairs, label="harder") for pairs in (2, 4)]
    write_run(tmp_path / "study", config_of("conv+full"), tests=tests)
    assert len(other_rows.accuracy_shifted(read_study(tmp_path / "study")).axes) == 3


def test_a_range_of_lengths_stands_at_its_middle_and_an_unknown_trained_length_nowhere(tmp_path):
    tests = [score("length", "41-80", 0.5), score("length", "100", 0.4)]
    write_run(tmp_path / "study", config_of("conv+full"), tests=tests, task=None)
    (axes,) = other_rows.accuracy_by_length(read_study(tmp_path / "study")).axes
    assert {(60.5, 0.5), (100.0, 0.4)} <= points(axes)
    assert axes.get_xticks().tolist() == [60.5, 100.0]
    axes.figure.draw_without_rendering()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["41-80", "100"]


def test_numbers_as_answers_are_right_within_a_tolerance(tmp_path):
    for task, lines_of_label in (("adding", 2), ("mqar", 1)):
        write_run(tmp_path / task, config_of("conv+full", task=task), tests=[score("length", "128", 0.5)])
        figure = other_rows.accuracy_by_length(read_study(tmp_path / task))
        assert len(figure.axes[0].get_ylabel().splitlines()) == lines_of_label


def test_without_other_rows_there_is_nothing_to_draw(tmp_path):
    study = read_study(write_study(tmp_path / "study", ["conv+full"], 1))
    assert other_rows.accuracy_by_length(study) is None and other_rows.accuracy_shifted(study) is None
