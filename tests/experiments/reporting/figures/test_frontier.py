"""Accuracy against every cost: each row of a study of several sizes is a point in the panel of its task and cost."""

import dataclasses
import itertools

import pytest
from matplotlib.colors import to_rgb

from experiments.reporting.figures import front, frontier, registry
from experiments.reporting.figures.frontier import COSTS
from experiments.reporting.figures.style import looks_of, style
from experiments.studies.results import read_study
from tests.experiments.fake_study import CATALOGUE, config_of, kind, write_run, write_study
from tests.experiments.reporting.figures.gallery import look_at, of_tasks

pytestmark = pytest.mark.slow
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, as a printer mixes grey
TASKS = ["mqar:num_pairs=16", "selective_copying", "needle:length=128", "induction"]
KINDS = CATALOGUE[::3]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sizes")
    for task, attention, size, seed in itertools.product(TASKS, KINDS, (32, 64), range(2)):
        config = config_of(attention, seed, task)
        config["model"] |= {"model_dim": size, "mlp_dim": 2 * size}
        accuracy, _, flops, cache, *_ = kind(attention, task)
        costs = {"train_flops_executed": flops * size**2, "step_ms": flops * size / 1e5, "cache_bytes": cache * size}
        found = write_run(
            folder, config, test_accuracy=accuracy * (0.8 + size / 320), compute={"params": size**2, **costs}
        )
        assert found.exists()
    return read_study(folder)


@pytest.fixture(scope="module")
def figure(study):
    with style():
        figure = registry.pictures(study)["accuracy_against_costs"].draw(study)
    figure.draw_without_rendering()
    return figure


def test_every_row_is_a_point_in_the_panel_of_its_task_for_each_cost(study, figure):
    looks = looks_of(KINDS)
    panels = of_tasks(figure)
    assert len(panels) == len(COSTS) * len(TASKS)
    for (each, rows), axes in zip(itertools.product(COSTS, study.by_task.values()), panels, strict=True):
        for row in rows:
            assert tuple(looks[row.attention]) in look_at(axes, (row.mean(each.field), row.accuracy.mean))


def test_the_line_is_the_front_over_all_sizes(study, figure):
    for (each, rows), axes in zip(itertools.product(COSTS, study.by_task.values()), of_tasks(figure), strict=True):
        points = [(row.mean(each.field), row.accuracy.mean) for row in rows]
        best = [points[place] for place in front.front([(x, -y) for x, y in points])]
        lines = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
        assert [list(zip(*line.get_data(), strict=True)) for line in lines] == ([best] if len(best) > 1 else [])


def test_of_two_sizes_the_larger_has_the_larger_mark(study, figure):
    (axes, *_), (rows, *_) = of_tasks(figure), study.by_task.values()
    marks = {line.get_data()[0][0]: line.get_markersize() for line in axes.lines if len(line.get_xdata()) == 1}
    for attention in KINDS:
        small, large = sorted((row for row in rows if row.attention == attention), key=lambda row: row.mean("params"))
        assert marks[small.mean("train_flops_executed")] < marks[large.mean("train_flops_executed")]


def test_no_two_attentions_look_alike_in_grey():
    """Twelve share seven shapes: one of each shape is filled with its colour, the other is pale."""
    twelve = frontier.styles([f"attention{n}" for n in range(12)]).values()
    faces = [(style["marker"], style.get("markerfacecolor", style["color"])) for style in twelve]
    greys = [
        (shape, sum(weight * part for weight, part in zip(LUMA, to_rgb(face), strict=True))) for shape, face in faces
    ]
    for (shape, grey), (other_shape, other) in itertools.combinations(greys, 2):
        assert shape != other_shape or abs(grey - other) > 0.2


def test_the_score_is_named_once_and_beside_the_panels(figure):
    (label,) = figure.texts
    beside = label.get_window_extent()
    assert label.get_text().startswith("test accuracy\nwith") and not any(axes.get_ylabel() for axes in figure.axes)
    assert beside.x0 >= 0 and not any(axes.get_tightbbox().overlaps(beside) for axes in figure.axes)
    assert 0 <= beside.y0 < beside.y1 <= figure.bbox.height


def test_the_legend_names_every_attention_and_hides_no_panel(study, figure):
    (legend,) = figure.legends
    named = {"".join(text.get_text().split()) for text in legend.get_texts()}
    assert named == {*map("".join, map(str.split, KINDS)), "front:nocheapermodelscoresaswell"}
    below = legend.get_window_extent()
    assert below.y0 >= 0 and not any(axes.get_tightbbox().overlaps(below) for axes in figure.axes)


@pytest.mark.parametrize("waiting, drawn", [(TASKS[:1], TASKS[1:]), (TASKS, TASKS)])
def test_a_task_without_reported_runs_of_a_model_waits(study, waiting, drawn):
    """One model is enough; where all tasks wait, the search is shown."""
    rows = [
        dataclasses.replace(row, provisional=row.config["task"] in waiting and row.attention == KINDS[0])
        for row in study.rows
    ]
    figure = registry.pictures(study)["accuracy_against_costs"].draw(dataclasses.replace(study, rows=tuple(rows)))
    titles = [title for axes in figure.axes if (title := axes.get_title())]
    assert sorted(title.split(":")[0].split()[0] for title in titles) == sorted(task.split(":")[0] for task in drawn)


def test_a_study_of_one_size_has_no_such_picture(tmp_path):
    study = read_study(write_study(tmp_path, KINDS[:2], 2, TASKS[:2]))
    assert registry.pictures(study)["accuracy_against_costs"].draw(study) is None
