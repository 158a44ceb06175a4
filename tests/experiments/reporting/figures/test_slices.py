"""Accuracy by slices: every number is drawn where it belongs, under the name that the task gives the slice."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from experiments.reporting.figures import layout, series, slices
from experiments.reporting.figures.style import FAINT, HIDDEN
from experiments.studies.results import read_study
from tests.experiments.fake_study import config_of, write_run, write_study
from tests.experiments.reporting.figures.gallery import TESTED, colours, of_tasks, points

DEPTH = {"depth": {"values": [0, 1], "accuracy": [0.5, 0.6], "count": [1, 1]}}


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_slices_of_several_bins_have_a_figure_with_every_mean(gallery, name):
    study = gallery.study(name)
    assert slices.slice_names(study) == ["depth", "length"]  # num_pairs has one bin, distance its own figure
    found = set().union(*(points(axes) for axes in gallery.figure(name, "accuracy_by_depth").axes))
    for row in study.rows:
        means = np.mean([result["slices"]["depth"]["accuracy"] for result in row.results], axis=0)
        assert all((float(place), float(mean)) in found for place, mean in enumerate(means)), row.attention


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
@pytest.mark.parametrize("file", ["accuracy_by_depth", "accuracy_by_string_length"])
def test_no_panel_has_more_lines_than_there_are_colours(gallery, name, file):
    for axes in gallery.figure(name, file).axes:
        assert len(set(colours(axes, 2)) - {FAINT.upper()}) <= layout.MOST_LINES


@pytest.mark.slow
def test_the_axis_of_powers_of_two_is_logarithmic_and_that_of_values_is_not(gallery):
    assert {axes.get_xscale() for axes in gallery.figure("two", "accuracy_by_string_length").axes} == {"log"}
    assert {axes.get_xscale() for axes in gallery.figure("two", "accuracy_by_depth").axes} == {"linear"}


@pytest.mark.slow
def test_lines_by_distance_keep_their_look_and_have_a_dotted_ceiling(gallery):
    study, figure = gallery.study("lengths"), gallery.figure("lengths", "accuracy_by_distance")
    for axes, rows in zip(of_tasks(figure), study.by_task.values(), strict=True):
        for row in rows:
            colour, marker = layout.looks(study)[study.model(row)]
            mine = [line for line in axes.lines if to_hex(line.get_color()).upper() == colour]
            assert marker in [line.get_marker() for line in mine]
            (dotted,) = [line for line in mine if line.get_drawstyle() == "steps-post"]
            curve = series.read_curve(row, "distance", log=True)
            assert list(dotted.get_xdata()) == curve.edges and list(dotted.get_ydata()) == curve.ceilings


@pytest.mark.slow
def test_with_one_task_every_row_has_a_panel_that_is_grey_above_its_ceilings(gallery):
    study, figure = gallery.study("one task"), gallery.figure("one task", "accuracy_by_distance")
    titles = ["".join(axes.get_title("left").split()) for axes in of_tasks(figure)]
    assert titles == ["".join(study.label(row).split()) for row in study.rows]
    for axes in of_tasks(figure):
        (grey,) = [area for area in axes.collections if to_hex(area.get_facecolor()[0]) == HIDDEN]
        assert axes.get_xlabel() in ("", "tokens back to the answer") and grey.get_paths()


def test_without_stored_ceilings_none_are_drawn(tmp_path):
    for seed in range(2):
        write_run(tmp_path / "study", config_of("conv+full", seed), slices=DEPTH)
    (axes,) = slices.accuracy_by(read_study(tmp_path / "study"), "depth").axes
    assert axes.get_title("left") == "" and not any(line.get_drawstyle() == "steps-post" for line in axes.lines)


def test_a_slice_is_called_what_its_tasks_call_it(tmp_path):
    for task in ("needle", "dyck"):
        for folder in (task, "both"):
            write_run(tmp_path / folder, config_of("conv+full", task=task), slices=DEPTH)
    described = {name: slices.describe(read_study(tmp_path / name), "depth") for name in ("needle", "dyck", "both")}
    assert described == {
        "needle": "depth of the needle, in tenths of the context",
        "dyck": "nesting depth",
        "both": "depth",
    }
    assert slices.describe(read_study(tmp_path / "both"), "new_one") == "new one"


def test_one_distance_is_no_picture(tmp_path):
    same = {"distance": {"values": [1], "accuracy": [0.5], "count": [9]}}
    write_run(tmp_path / "study", config_of("conv+full"), slices=same)
    study = read_study(tmp_path / "study")
    assert slices.accuracy_by_distance(study) is None and slices.accuracy_by(study, "distance") is None
    assert slices.slice_names(read_study(write_study(tmp_path / "toy", ["conv+full"], 1))) == []
