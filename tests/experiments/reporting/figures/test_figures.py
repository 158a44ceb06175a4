"""Every row is in every picture, looks the same in all panels, and no text covers another."""

import itertools

import matplotlib.text
import pytest
from matplotlib.colors import to_hex

from experiments.reporting.figures import curves, distance, labels, plots
from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures import tasks as across
from experiments.studies.grid import complete
from experiments.studies.results import read_study, task_differences
from tests.experiments.fake_study import CATALOGUE, KINDS, TASK, write_run, write_study

pytestmark = pytest.mark.slow  # to draw a picture takes a second, and there are many
LENGTHS = [f"mqar:length={length},num_pairs=8,vocab_size=512" for length in (512, 64, 256, 128)]
STUDIES = {
    "one task": (list(KINDS), (TASK,)),
    "lengths": (list(KINDS)[:3], LENGTHS),
    "five tasks": (CATALOGUE[-2:], [f"mqar:num_pairs={pairs}" for pairs in (1, 2, 4, 8, 16)]),
    "other tasks": (list(KINDS), (TASK, "induction", "selective_copying:length=128,num_tokens=8")),
    "catalogue": (CATALOGUE, (TASK, "selective_copying:length=128,num_tokens=8")),
    "catalogue of lengths": (CATALOGUE[:8], LENGTHS[1::2]),
}
COSTS = {plots.accuracy_against_flops: "train_flops_executed", plots.accuracy_against_state: "cache_bytes"}
DRAWINGS = (*COSTS, plots.learning_curves, across.accuracy_across_tasks, distance.accuracy_by_distance)
SEVERAL = [name for name in STUDIES if name != "one task"]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return {name: read_study(write_study(folder / name, kinds, 2, tasks)) for name, (kinds, tasks) in STUDIES.items()}


@pytest.fixture(scope="module")
def drawn(studies):
    """Returns (study, drawing) -> figure, each drawn once."""
    figures = {}
    with canvas.style():
        for (name, study), draw in itertools.product(studies.items(), DRAWINGS):
            figures[name, draw] = draw(study)
            if figures[name, draw] is not None:
                figures[name, draw].draw_without_rendering()
    return figures


def shown(figure):
    """Returns the texts that are seen, without the labels of ticks outside an axis."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            ticks = [tick for tick in axis.get_major_ticks() if not axes.axison or not low <= tick.get_loc() <= high]
            hidden |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    texts = figure.findobj(matplotlib.text.Text)
    return [text for text in texts if text.get_visible() and text.get_text().strip() and text not in hidden]


def box(text):
    """Returns where a text stands, without the line that may lead to it."""
    return matplotlib.text.Text.get_window_extent(text)


def look_at(axes, point):
    """Returns the (colour, marker) of what is drawn in `axes` with its last point there."""
    found = []
    for line in axes.lines:
        x, y = (list(values)[-1] for values in line.get_data())
        if line.get_marker() not in ("None", "", "_") and (x, y) == pytest.approx(point):
            found.append((to_hex(line.get_color()).upper(), line.get_marker()))
    return found


def of_task(figure):
    """Returns the panels of a figure, without those left empty."""
    return [axes for axes in figure.axes if axes.axison]


@pytest.mark.parametrize("name", STUDIES)
def test_no_text_covers_another(drawn, name):
    for draw in DRAWINGS:
        figure = drawn[name, draw]
        if figure is None:
            continue
        texts = shown(figure)
        boxes = [(box(text), text.get_text()) for text in texts]
        covered = [(a, b) for (one, a), (two, b) in itertools.combinations(boxes, 2) if one.overlaps(two)]
        assert len(texts) > 10 and covered == [], (draw, covered)


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_is_a_point_of_its_look_in_the_panel_of_its_task(studies, drawn, name):
    study = studies[name]
    appearance = canvas.looks(study)
    for draw, cost in COSTS.items():
        panels = of_task(drawn[name, draw])
        assert len(panels) == len(study.by_task)
        for axes, rows in zip(panels, study.by_task.values(), strict=True):
            for row in rows:
                look = appearance[study.model(row)]
                assert tuple(look) in look_at(axes, (row.mean(cost), row.accuracy[0])), row.attention


@pytest.mark.parametrize("name", SEVERAL)
def test_one_legend_names_every_model_with_its_look(studies, drawn, name):
    study = studies[name]
    for draw in COSTS:
        figure = drawn[name, draw]
        (legend,) = figure.legends
        entries = {
            "".join(text.get_text().split()): (to_hex(handle.get_color()).upper(), handle.get_marker())
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
        }
        for model, look in canvas.looks(study).items():
            assert entries.pop("".join(canvas.names(study)[model].split())) == tuple(look)
        assert list(entries) == ["ceilingofthemodelinitscolour"]
        below = legend.get_window_extent()
        assert below.y0 >= 0 and not any(axes.get_tightbbox().overlaps(below) for axes in figure.axes)


@pytest.mark.parametrize("name", STUDIES)
def test_colours_repeat_with_other_markers(studies, name):
    appearance = canvas.looks(studies[name])
    assert len(set(appearance.values())) == len(appearance) == len(STUDIES[name][0])


@pytest.mark.parametrize("name", ["catalogue", "catalogue of lengths"])
def test_where_colours_repeat_every_point_has_its_number_beside_it(studies, drawn, name):
    study = studies[name]
    numbers = {str(number): model for number, model in enumerate(study.models, 1)}
    for draw in COSTS:
        figure = drawn[name, draw]
        for axes, rows in zip(of_task(figure), study.by_task.values(), strict=True):
            points = {study.model(row): (row.mean(COSTS[draw]), row.accuracy[0]) for row in rows}
            written = [text for text in axes.texts if text.get_text() in numbers]
            assert sorted(text.get_text() for text in written) == sorted(numbers)
            for text in written:
                assert text.xy == pytest.approx(points[numbers[text.get_text()]])
                inside, outside = box(text), axes.get_window_extent()
                assert outside.x0 <= inside.x0 and inside.x1 <= outside.x1 and inside.y1 <= outside.y1
    assert not any(text.get_text() in numbers for axes in drawn["lengths", draw].axes for text in axes.texts)


@pytest.mark.parametrize("name", ["catalogue", "catalogue of lengths"])
@pytest.mark.parametrize("draw", [plots.learning_curves, distance.accuracy_by_distance])
def test_where_colours_repeat_every_row_has_a_strip(studies, drawn, name, draw):
    study = studies[name]
    figure, appearance = drawn[name, draw], canvas.looks(study)
    grid = [figure.axes[start :: len(study.by_task)] for start in range(len(study.by_task))]
    for column, rows in zip(grid, study.by_task.values(), strict=True):
        scores = {study.model(row): f"{row.accuracy[0]:.2f}" for row in rows}
        for axes, model in zip(column, study.models, strict=True):
            assert scores[model] in [text.get_text() for text in axes.texts]
            assert appearance[model].colour in [to_hex(line.get_color()).upper() for line in axes.lines]
    for axes, model in zip(grid[0], study.models, strict=True):
        assert "".join(canvas.names(study)[model].split()) == "".join(axes.texts[-1].get_text().split())


def test_panels_are_titled_by_what_differs_in_order_of_size(drawn):
    titles = [[axes.get_title("left") for axes in of_task(drawn[name, plots.learning_curves])] for name in SEVERAL[:2]]
    assert titles[0] == ["mqar length=64", "mqar length=128", "mqar length=256", "mqar length=512"]
    assert titles[1] == [f"mqar num_pairs={pairs}" for pairs in (1, 2, 4, 8, 16)]
    mixed = [axes.get_title("left") for axes in of_task(drawn["other tasks", plots.learning_curves])]
    assert [title.replace("\n  ", "") for title in mixed] == ["induction", TASK, STUDIES["other tasks"][1][2]]


def test_differences_of_tasks_count_defaults_and_need_one_name():
    assert task_differences(["mqar", "mqar:length=32"]) == [{"length": 64}, {"length": 32}]
    assert task_differences(["mqar:length=64", "mqar"]) == [{}, {}]
    assert task_differences(["mqar", "induction"]) is None and task_differences(["mqar", "from_the_future"]) is None


@pytest.mark.parametrize("name", STUDIES)
def test_costs_have_axes_that_span_one_factor(drawn, name):
    for draw in COSTS:
        limits = [axes.get_xlim() for axes in of_task(drawn[name, draw])]
        factors = [high / low for low, high in limits]
        assert min(factors) >= 4 - 1e-6 and max(factors) == pytest.approx(min(factors))


@pytest.mark.parametrize(
    ("tasks", "field"),
    [
        (["mqar", "mqar:length=32"], ("length", [64, 32])),
        (["mqar", "mqar:power=1"], ("power", [0.01, 1.0])),
        (["mqar", "mqar:length=128,vocab_size=128"], ("", [])),  # two fields
        (["mqar", "mqar:random_fillers=true"], ("", [])),  # no number
        (["mqar", "induction"], ("", [])),
        (["mqar"], ("", [])),
    ],
)
def test_the_field_in_which_tasks_differ_is_one_and_a_number(tasks, field):
    assert across.numeric_field(tasks) == field


def test_accuracy_across_tasks_comes_where_it_applies(drawn):
    found = {name for name in STUDIES if drawn[name, across.accuracy_across_tasks] is not None}
    assert found == set(SEVERAL)
    figure = drawn["other tasks", across.accuracy_across_tasks]
    assert len(figure.axes) == len(STUDIES["other tasks"][0]) * 3, "a strip for each model and task"


def test_a_profile_shows_each_score_its_ceiling_and_its_floor(studies, drawn):
    study, figure = studies["other tasks"], drawn["other tasks", across.accuracy_across_tasks]
    titles = [title for title, _ in canvas.tasks(study)]
    shown_titles = [axes.get_title(loc="left").replace("\n  ", "") for axes in figure.axes[:3]]
    assert shown_titles == titles
    strips = iter(figure.axes)
    for model in study.models:
        for _, rows in canvas.tasks(study):
            (row,), axes = [row for row in rows if study.model(row) == model], next(strips)
            drawn_at = {line.get_xdata()[0] for line in axes.lines}
            assert {row.accuracy[0], row.mean("floor")} <= drawn_at
            hidden, bar = axes.patches
            assert hidden.get_x() == row.mean("ceiling") and bar.get_width() == row.accuracy[0]


@pytest.mark.parametrize("name", ["lengths", "five tasks"])
def test_accuracy_across_tasks_has_a_line_and_a_ceiling_per_model(studies, drawn, name):
    study = studies[name]
    (axes,) = drawn[name, across.accuracy_across_tasks].axes
    values = sorted(next(iter(values.values())) for values in task_differences(list(study.by_task)))
    assert axes.get_xticks().tolist() == values
    rows = {model: [row for row in study.rows if study.model(row) == model] for model in study.models}
    lines = {tuple(zip(*line.get_data(), strict=True)) for line in axes.lines}
    for model, of_model in rows.items():
        assert tuple(zip(values, [row.accuracy[0] for row in of_model], strict=True)) in lines, model
        assert tuple(zip(values, [row.mean("ceiling") for row in of_model], strict=True)) in lines, model


def test_accuracy_across_tasks_goes_by_value_and_follows_the_floor(tmp_path):
    spelled = {64: "mqar", 32: "mqar:length=32"}  # the first leaves its length to the default
    for length, task in spelled.items():
        config = complete({"model": {"attention": "conv+full"}, "task": task}, "test")
        write_run(tmp_path / "study", config, floor=4 / length, ceiling=0.9, test_accuracy=0.5)
    (axes,) = across.accuracy_across_tasks(read_study(tmp_path / "study")).axes
    lines = {tuple(zip(*line.get_data(), strict=True)) for line in axes.lines if len(line.get_xdata()) == 2}
    assert {((32, 4 / 32), (64, 4 / 64)), ((32, 0.9), (64, 0.9)), ((32, 0.5), (64, 0.5))} <= lines


def test_lines_by_distance_keep_their_look_and_stand_below_a_dotted_ceiling(studies, drawn):
    study = studies["lengths"]
    for axes, rows in zip(drawn["lengths", distance.accuracy_by_distance].axes, study.by_task.values(), strict=True):
        for row in rows:
            colour, marker = canvas.looks(study)[study.model(row)]
            mine = [line for line in axes.lines if to_hex(line.get_color()).upper() == colour]
            assert marker in [line.get_marker() for line in mine]
            (dotted,) = [line for line in mine if line.get_drawstyle() == "steps-post"]
            curve = curves.read(row, "distance", log=True)
            assert list(dotted.get_xdata()) == curve.edges and list(dotted.get_ydata()) == curve.ceilings


def test_spread_keeps_order_room_and_bounds():
    places = labels.spread([0.9, 0.9, 0.91, 1.0], [0.1] * 4, 0.0, 1.06)
    assert all(b - a >= 0.1 - 1e-9 for a, b in zip(places, places[1:], strict=False))
    assert places[0] >= 0.05 and places[-1] <= 1.01 + 1e-9
    low = labels.spread([0.0, 0.0, 0.01], [0.1] * 3, 0.0, 1.06)
    assert low == pytest.approx([0.05, 0.15, 0.25])
    assert labels.spread([0.2, 0.8], [0.1, 0.1], 0.0, 1.0) == [0.2, 0.8]


def test_the_ceiling_of_a_window_falls_where_the_window_ends(studies):
    (row,) = [row for row in studies["one task"].rows if row.attention == "conv+sliding_window:window_size=16"]
    ceilings = curves.ceilings(row, "distance", [(2, 4), (8, 16), (32, 64)])
    assert ceilings[:2] == [1.0, 1.0] and ceilings[2] < 0.1  # what is left is guessing
