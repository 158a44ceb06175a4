"""Validation accuracy by what was tried: every value, the chosen one marked, and the edge."""

import pytest
from matplotlib.text import Annotation

from experiments.reporting.figures import choices, layout, registry
from experiments.studies.results import read_study
from tests.experiments.fake_study import CATALOGUE, config_of, write_run, write_study
from tests.experiments.reporting.figures.gallery import look_at, paths

RATES = {  # {rate: validation accuracy}, of which the largest is at an edge of two
    "conv+full": {0.001: 0.25, 0.003: 0.75, 0.01: 0.5},
    "conv+linear": {0.001: 0.25, 0.003: 0.375, 0.01: 0.625},
    "conv+strided_sparse:stride=8": {0.001: 0.9, 0.003: 0.5},
}
KEY = "train.learning_rate"


def write_rates(folder, rates, task="mqar"):
    for attention, curve in rates.items():
        for rate, score in curve.items():
            config = config_of(attention, task=task, learning_rate=rate)
            config["study"]["select"] = (KEY,)
            write_run(folder, config, validation_accuracy=score)
    return read_study(folder)


def arrows(axes):
    """Returns {point: direction} of the arrows from chosen values."""
    notes = [text for text in axes.texts if isinstance(text, Annotation) and text.anncoords == "offset points"]
    return {note.xy: 1 if note.xyann[0] > 0 else -1 for note in notes if note.arrow_patch and not note.get_text()}


def test_every_value_is_a_point_the_chosen_one_is_marked_and_an_arrow_leads_from_the_edge(tmp_path):
    study = write_rates(tmp_path / "study", RATES)
    (axes,) = choices.validation_by(study, KEY).axes
    assert axes.get_xscale() == "log" and axes.get_xticks().tolist() == [0.001, 0.003, 0.01]
    for attention, curve in RATES.items():
        assert tuple(curve.items()) in paths(axes)
        best = max(curve, key=curve.get)
        assert tuple(layout.looks(study)[attention]) in look_at(axes, (best, curve[best]))
    assert arrows(axes) == {(0.01, 0.625): 1, (0.001, 0.9): -1}
    low, high = axes.get_xlim()
    assert low < 0.0008 and high > 0.012, "there is room for arrows"


def test_what_is_no_number_stands_in_order_under_its_name(tmp_path):
    for name, score in (("constant", 0.5), ("cosine", 0.75)):
        config = config_of("conv+full", schedule=name)
        config["study"]["select"] = ("train.schedule",)
        write_run(tmp_path / "study", config, validation_accuracy=score)
    study = read_study(tmp_path / "study")
    assert choices.chosen_keys(study) == ["train.schedule"]
    figure = choices.validation_by(study, "train.schedule")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert ((0.0, 0.5), (1.0, 0.75)) in paths(axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["constant", "cosine"]


def test_without_a_choice_among_several_there_is_no_picture(tmp_path):
    for name, study in {
        "none": read_study(write_study(tmp_path / "none", ["conv+full"], 1)),
        "one": write_rates(tmp_path / "one", {"conv+full": {0.001: 0.5}}),
    }.items():
        assert choices.chosen_keys(study) == [] and choices.validation_by(study, KEY) is None, name
        assert not any(file.startswith("validation_by") for file in registry.pictures(study))


@pytest.mark.slow
def test_of_many_models_each_has_a_strip_with_the_same(tmp_path):
    rates = {attention: RATES["conv+linear"] for attention in CATALOGUE[:8]}
    study = write_rates(tmp_path / "study", rates)
    figure = choices.validation_by(study, KEY)
    assert len(figure.axes) == 8
    for axes in figure.axes:
        assert tuple(RATES["conv+linear"].items()) in paths(axes) and arrows(axes) == {(0.01, 0.625): 1}
