"""Panels or strips: one threshold; and the titles of tasks."""

import dataclasses

import pytest

from experiments.reporting.figures import layout, registry
from experiments.reporting.html import page
from experiments.studies.results import read_study
from tests.experiments.fake_study import CATALOGUE, TASK, write_study
from tests.experiments.reporting.figures.gallery import CROWDED, MIXED, PAIRS, of_tasks

STRIPPED = ["learning_curves", "accuracy_by_distance", "accuracy_across_tasks"]


@pytest.mark.parametrize("name", ["one task", "lengths", "mixed"])
def test_up_to_as_many_models_as_colours_share_a_panel(gallery, name):
    study = gallery.study(name)
    assert not layout.crowded(study) and not layout.numbered(study)
    assert layout.names(study) == {model: model for model in study.models}
    assert len(of_tasks(gallery.figure(name, "learning_curves"))) == len(study.by_task)


@pytest.mark.slow
@pytest.mark.parametrize("name", CROWDED)
@pytest.mark.parametrize("file", STRIPPED[:2])
def test_of_more_models_every_row_has_a_strip_with_name_and_score(gallery, name, file):
    study, figure = gallery.study(name), gallery.figure(name, file)
    assert layout.crowded(study) and layout.numbered(study)
    grid = [figure.axes[start :: len(study.by_task)] for start in range(len(study.by_task))]
    for column, rows in zip(grid, study.by_task.values(), strict=True):
        scores = {study.model(row): f"{row.accuracy.mean:.2f}" for row in rows}
        for axes, model in zip(column, study.models, strict=True):
            assert scores[model] in [text.get_text() for text in axes.texts]
    for axes, model in zip(grid[0], study.models, strict=True):
        assert "".join(layout.names(study)[model].split()) == "".join(axes.texts[-1].get_text().split())


@pytest.mark.slow
def test_one_task_is_crowded_by_as_many_models_as_several_are(gallery):
    study = gallery.study("eight")
    assert len(study.models) == len(CATALOGUE[:8]) == layout.MOST_LINES + 1
    assert layout.crowded(study) and not layout.numbered(study)
    for file in ("learning_curves", "accuracy_by_length", "accuracy_by_depth"):
        assert len(gallery.figure("eight", file).axes) == 8, file


def test_panels_are_titled_by_what_differs_in_order_of_size(gallery):
    def titles(name):
        return [title for title, _ in layout.tasks(gallery.study(name))]

    assert titles("lengths") == ["mqar length=64", "mqar length=128", "mqar length=256", "mqar length=512"]
    assert titles("five tasks") == [f"mqar num_pairs={pairs}" for pairs in (1, 2, 4, 8, 16)]
    assert titles("mixed") == ["induction", TASK, MIXED[2]]
    assert len(titles("five tasks")) == len(PAIRS)


def test_rows_that_are_not_kept_leave_no_task_behind(gallery):
    kept = layout.tasks(gallery.study("mixed"), lambda row: row.task.name == "induction")
    assert [title for title, _ in kept] == ["induction"] and len(kept[0][1]) == 6


def test_of_more_models_than_looks_pictures_show_the_best(tmp_path):
    study = read_study(write_study(tmp_path / "study", [f"conv+linear:chunk_size={n}" for n in range(1, 61)], seeds=1))
    shown = layout.shown(study)
    assert shown.models == study.models[: layout.MOST_LOOKS] and len(layout.looks(shown)) == 49
    picture = registry.pictures(study)["learning_curves"]
    assert picture.caption.endswith(" Shown are the 49 best of 60 models.")
    assert page(study, {}).count('<tr class="cx"') == 11  # no picture shows their colour
    few = dataclasses.replace(study, rows=study.rows[:49])
    assert layout.shown(few) is few and registry.pictures(few)["learning_curves"] == registry.FIGURES["learning_curves"]


@pytest.mark.parametrize(
    ("seeds", "label"),
    [
        ((1, 1), "accuracy"),
        ((1, 2), "accuracy\nwith range of seeds"),
        ((5, 5), "accuracy\nwith 95 % interval"),
        ((3, 7), "accuracy\nwith 95 % interval or range of seeds"),
    ],
)
def test_what_is_drawn_around_a_mean_is_named_at_the_axis(tmp_path, seeds, label):
    for attention, count in zip(("conv+full", "conv+linear"), seeds, strict=True):
        write_study(tmp_path / "study", [attention], count)
    assert layout.with_spread("accuracy", read_study(tmp_path / "study").rows) == label
