"""Accuracy against cost: every row is a point of its look in the panel of its task, and has a name."""

import pytest
from matplotlib.colors import to_hex

from experiments.reporting.figures import front, layout
from experiments.reporting.figures.style import INK
from tests.experiments.reporting.figures.gallery import CROWDED, SEVERAL, STUDIES, box, look_at, of_tasks

pytestmark = pytest.mark.slow
COSTS = {"accuracy_against_flops": "train_flops_executed", "accuracy_against_state": "cache_bytes"}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize(("file", "field"), COSTS.items())
def test_every_row_is_a_point_of_its_look_in_the_panel_of_its_task(gallery, name, file, field):
    study = gallery.study(name)
    panels = of_tasks(gallery.figure(name, file))
    assert len(panels) == len(study.by_task)
    for axes, rows in zip(panels, study.by_task.values(), strict=True):
        for row in rows:
            look = layout.looks(study)[study.model(row)]
            assert tuple(look) in look_at(axes, (row.mean(field), row.accuracy.mean)), row.attention


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([(3, 0.1), (1, 0.3), (2, 0.2)], [1, 2, 0]),  # (cost, rank); a smaller rank is better
        ([(1, 0.2), (2, 0.2), (3, 0.3), (4, 0.1)], [0, 3]),  # neither equal nor worse ones
        ([(1, 0.3), (1, 0.2)], [1]),
        ([(1, 0.2), (1, 0.2)], [0]),
        ([], []),
    ],
)
def test_no_cheaper_point_is_as_good_as_one_of_the_front(points, best):
    assert front.front(points) == best


@pytest.mark.parametrize("name", ["one task", "lengths", "catalogue"])
@pytest.mark.parametrize(("file", "field"), COSTS.items())
def test_the_front_is_a_line_through_points_with_a_dark_edge_whose_names_are_bold(gallery, name, file, field):
    study, figure = gallery.study(name), gallery.figure(name, file)
    numbers = {study.models[number - 1]: str(number) for number in range(1, len(study.models) + 1)}
    for axes, rows in zip(of_tasks(figure), study.by_task.values(), strict=True):
        points = {study.model(row): (row.mean(field), row.accuracy.mean) for row in rows}
        front = {
            model
            for model, (x, y) in points.items()
            if not any((u <= x and v > y) or (u < x and v >= y) for u, v in points.values())
        }
        dark = {
            (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
            for line in axes.lines
            if line.get_marker() not in ("None", "_") and to_hex(line.get_markeredgecolor()) == INK
        }
        assert dark == {points[model] for model in front}
        if len(front) > 1:
            (line,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
            assert set(zip(*line.get_data(), strict=True)) == dark
        bold = {text.get_text().replace("\n  ", "") for text in axes.texts if text.get_fontweight() == "bold"}
        if name != "lengths":  # where models have neither a name nor a number in a panel
            assert bold == {numbers[model] if name == "catalogue" else model for model in front}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("file", COSTS)
def test_one_legend_names_every_model_with_its_look(gallery, name, file):
    study, figure = gallery.study(name), gallery.figure(name, file)
    (legend,) = figure.legends
    entries = {
        "".join(text.get_text().split()): (to_hex(handle.get_color()).upper(), handle.get_marker())
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
    }
    for model, look in layout.looks(study).items():
        assert entries.pop("".join(layout.names(study)[model].split())) == tuple(look)
    assert list(entries) == ["ceilingofthemodelinitscolour", "front:nocheapermodelscoresaswell"]
    below = legend.get_window_extent()
    assert below.y0 >= 0 and not any(axes.get_tightbbox().overlaps(below) for axes in figure.axes)


@pytest.mark.parametrize("name", CROWDED)
@pytest.mark.parametrize(("file", "field"), COSTS.items())
def test_where_colours_repeat_every_point_has_its_number_next_to_it(gallery, name, file, field):
    study, figure = gallery.study(name), gallery.figure(name, file)
    numbers = {str(number): model for number, model in enumerate(study.models, 1)}
    for axes, rows in zip(of_tasks(figure), study.by_task.values(), strict=True):
        points = {study.model(row): (row.mean(field), row.accuracy.mean) for row in rows}
        written = [text for text in axes.texts if text.get_text() in numbers]
        assert sorted(text.get_text() for text in written) == sorted(numbers)
        for text in written:
            assert text.xy == pytest.approx(points[numbers[text.get_text()]])
            inside, outside = box(text), axes.get_window_extent()
            assert outside.x0 <= inside.x0 and inside.x1 <= outside.x1 and inside.y1 <= outside.y1


def test_few_models_have_no_numbers(gallery):
    panels = gallery.figure("lengths", "accuracy_against_flops").axes
    assert not any(text.get_text().isdecimal() for axes in panels for text in axes.texts)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("file", COSTS)
def test_the_axes_of_all_panels_span_one_factor(gallery, name, file):
    limits = [axes.get_xlim() for axes in of_tasks(gallery.figure(name, file))]
    factors = [high / low for low, high in limits]
    assert min(factors) >= 4 - 1e-6 and max(factors) == pytest.approx(min(factors))
