"""What is lost and what is saved: accuracy against every cost, a column for each task and a row for each cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.reporting.figures import front, labels, layout, sizes
from experiments.reporting.figures.style import INK, looks_of
from experiments.reporting.text import human, wrap_spec
from experiments.studies.intervals import Estimate
from experiments.studies.results import Study
from experiments.studies.rows import Row

_SIZES = ("num_layers", "model_dim", "mlp_dim")  # of the config, in which models of one attention may differ
_MOST_TICKS = 4
_MOST_TASKS = 5  # that are readable side by side
_PANEL, _MARKS = 2.45, (4.5, 8.0)  # inches; points, marks of the smallest and the largest model


class _Cost(NamedTuple):
    """A cost of a row: the field of its runs, what an axis calls it, and its unit."""

    field: str
    label: str
    unit: str


class _Point(NamedTuple):
    """A row at one of its costs."""

    x: float
    score: Estimate
    row: Row


COSTS = (
    _Cost("train_flops_executed", "training FLOPs, executed", ""),
    _Cost("step_ms", "time of a training step", "ms"),
    _Cost("cache_bytes", "decoding state per sequence", "B"),
)


def accuracy_against_costs(study: Study) -> Figure | None:
    """Accuracy against training FLOPs, time per step and decoding state; None unless models have several sizes.

    Models of one attention share a look and a thin line, and the larger one has the larger mark. The thick line is the
    front over all sizes, whose marks have a dark edge. A task is left out while one of its models has no reported
    run, unless this holds of every task.
    """
    lines = _lines(study)
    waiting = {row.config["task"] for row in study.rows if row.provisional}
    tasks = layout.tasks(study, lambda row: row.config["task"] not in waiting) or layout.tasks(study)
    if not lines or not 1 < len(tasks) <= _MOST_TASKS:
        return None
    looks = styles(lines)
    figure = Figure(figsize=(_PANEL * len(tasks) + 0.8, 2.3 * len(COSTS) + 0.5), layout="constrained")
    grid = figure.subplots(len(COSTS), len(tasks), sharex="row", sharey=True, squeeze=False)
    for panels, each in zip(grid, COSTS, strict=True):
        for axes, (_, rows) in zip(panels, tasks, strict=True):
            _draw(axes, rows, looks, each)
            layout.score_axis(study, axes, rows)
        _number(panels[0], each)
        panels[len(panels) // 2].set_xlabel(each.label, x=0.5 if len(panels) % 2 else 0.0)
    for axes, (title, _) in zip(grid[0], tasks, strict=True):
        axes.set_title("\n".join(wrap_spec(title, 26)), color=INK)
    for axes in grid.ravel():
        axes.set_ylabel("")
    figure.supylabel(layout.score_label(study), fontsize=10, color=INK)
    shown = {line: style | {"markersize": 7.5} for line, style in looks.items()}
    labels.legend_below(figure, shown, front.handle(), small=True)
    return figure


def _lines(study: Study) -> list[str]:
    """Returns the attentions of a study of several sizes, the best first; none for a study of one size."""
    if not any(size.name in _SIZES for size in sizes.of_config(study)):
        return []
    places = {model: place for place, model in enumerate(study.models)}
    return list(dict.fromkeys(row.attention for row in sorted(study.rows, key=lambda row: places[study.model(row)])))


def styles(lines: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns how the marks of attentions look: a reused shape is pale, so that they differ in grey, too."""
    found: dict[str, dict[str, Any]] = {}
    for line, look in looks_of(lines).items():
        style: dict[str, Any] = {"marker": look.marker, "color": look.colour, "markeredgecolor": "white"}
        if any(other["marker"] == look.marker for other in found.values()):
            style |= {"markerfacecolor": _pale(look.colour), "markeredgecolor": look.colour, "markeredgewidth": 1.2}
        found[line] = style
    return found


def _pale(colour: str) -> tuple[float, ...]:
    """Returns a colour mixed with three times as much white; marks below do not show through."""
    return tuple(1 - (1 - part) / 4 for part in to_rgb(colour))


def _draw(axes: Axes, rows: Sequence[Row], looks: Mapping[str, dict[str, Any]], each: _Cost) -> None:
    """Draws the models of one task, those of one attention from the smallest to the largest."""
    points = [_Point(x, row.score.accuracy, row) for row in rows if (x := row.mean(each.field)) and row.score.accuracy]
    places = front.front([(point.x, point.row.metric.rank(point.score)) for point in points])
    best = {id(points[place]) for place in places}
    for attention, look in looks.items():
        colour = look["color"]
        line = sorted((point for point in points if point.row.attention == attention), key=_size)
        axes.plot([p.x for p in line], [p.score.mean for p in line], color=colour, linewidth=0.8, alpha=0.6)
        for place, point in enumerate(line):
            size = _MARKS[0] + (_MARKS[1] - _MARKS[0]) * (place / max(len(line) - 1, 1))
            style = look | (front.EDGE if id(point) in best else {})
            if point.score.kind:
                axes.plot([point.x, point.x], point.score.seen, color=colour, linewidth=size / 4, alpha=0.7)
            axes.plot([point.x], [point.score.mean], markersize=size, zorder=4, gid=layout.anchor(point.row), **style)
    front.draw(axes, [(points[place].x, points[place].score.mean) for place in places])
    axes.set_xscale("log")


def _number(axes: Axes, each: _Cost) -> None:
    """Writes two to four round costs below the panels that share the axis of `axes`."""
    low, high = axes.get_xlim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 8)):
        ticks = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(ticks) > 1:
            break
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: math.ceil(len(ticks) / _MOST_TICKS)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, each.unit)))
    axes.xaxis.set_minor_locator(NullLocator())


def _size(point: _Point) -> tuple[int, ...]:
    return tuple(point.row.config[f"model.{name}"] for name in _SIZES)
