"""Accuracy against what it costs: training compute and decoding state."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.reporting.figures import front, labels, layout
from experiments.reporting.figures.style import FAINT, Mark
from experiments.reporting.text import human
from experiments.studies.results import Study
from experiments.studies.rows import Row, TestScore


def accuracy_against_flops(study: Study) -> Figure:
    """Test accuracy against executed training FLOPs."""
    return accuracy_against(
        study, lambda row: row.mean("train_flops_executed"), "training FLOPs, executed (mean over seeds)"
    )


def accuracy_against_state(study: Study) -> Figure:
    """Test accuracy against the bytes that decoding one sequence carries."""
    return accuracy_against(study, lambda row: row.mean("cache_bytes"), "decoding state per sequence, bytes", "B")


def accuracy_against(study: Study, cost: Callable[[Row], float | None], label: str, unit: str = "") -> Figure:
    """Draws scores with intervals against `cost` on a logarithmic axis; a horizontal tick is the ceiling.

    A line follows the front: the models that no cheaper one equals or beats; their marks have a dark edge.
    """
    figure, panels = layout.panels(study, layout.tasks(study))
    appearance, size = layout.looks(study), 5.5 if layout.numbered(study) else 8.0
    drawn = []
    for axes, rows in panels:
        points = [(x, row) for row in rows if (x := cost(row)) and row.score.accuracy]
        best = front.front([(x, row.metric.rank(row.score.accuracy)) for x, row in points])
        marks = []
        for place, (x, row) in enumerate(points):
            look, edge = appearance[study.model(row)], front.EDGE if place in best else {}
            _draw_point(axes, row.score, x, layout.mark_style(study, look, size) | edge | {"gid": layout.anchor(row)})
            mean = row.score.accuracy.mean if row.score.accuracy else math.nan
            marks.append(Mark((x, mean), study.model(row), look, strong=place in best))
        front.draw(axes, [marks[place].point for place in best])
        if len(study.by_task) == 1 and len(best) > 1:  # else the title is a task's name, and the legend says it
            axes.set_title(f"line: {front.MEANING}", color=FAINT)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, unit)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        layout.score_axis(study, axes, rows)
        drawn.append((axes, marks))
    _pad_log([axes for axes, marks in drawn if marks])
    for axes, _ in panels:
        axes.xaxis.set_major_locator(LogLocator(subs=_tick_parts(axes, len(panels)), numticks=12))
    labels.name_marks(figure, study, drawn, label, *_handles(study))
    return figure


def _handles(study: Study) -> list[Line2D]:
    """Returns the legend entries for ceilings, if there are any, and for the front."""
    tick = Line2D([], [], color=FAINT, marker="_", markersize=12, markeredgewidth=1.6, linestyle="none")
    tick.set_label("ceiling of the model in its colour")
    return [*([tick] if any(row.score.ceiling is not None for row in study.rows) else []), front.handle()]


def _draw_point(axes: Axes, score: TestScore, x: float, mark: Mapping[str, Any]) -> None:
    """Draws mean, interval and ceiling of a score at `x`."""
    if score.accuracy is None:
        return
    mean, width, colour = score.accuracy.mean, mark["markersize"] / 8, mark["color"]
    if score.ceiling is not None:
        axes.plot([x, x], [mean, score.ceiling], color=colour, linewidth=width, linestyle=(0, (1, 2)), zorder=2)
        tick = {"marker": "_", "markersize": 14 * width, "markeredgewidth": 1.6}
        axes.plot([x], [score.ceiling], color=colour, zorder=2, **tick)
    if score.accuracy.kind:
        axes.plot([x, x], score.accuracy.seen, color=colour, linewidth=2.2 * width, solid_capstyle="butt", zorder=3)
    axes.plot([x], [mean], zorder=4, **mark)


def _tick_parts(axes: Axes, panels: int) -> tuple[float, ...]:
    """Returns which multiples of powers of ten have labels: two or more in a factor of 4, and few on a long axis."""
    low, high = axes.get_xlim()
    return (1.0, 2.0, 5.0) if panels == 1 or high > 30 * low else (1.0, 2.0, 3.0, 5.0)


def _pad_log(panels: Sequence[Axes]) -> None:
    """Shows the same factor in all panels, at least 4, so that nearly equal costs do not look different."""
    limits = [axes.get_xlim() for axes in panels]
    half = max([2.0, *(math.sqrt(high / low) * 1.12 for low, high in limits)])
    for axes, (low, high) in zip(panels, limits, strict=True):
        middle = math.sqrt(low * high)
        axes.set_xlim(middle / half, middle * half)
