"""Accuracy against what it costs: training compute and decoding state."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.reporting.figures import labels, layout
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
    """Draws accuracies with intervals against `cost` on a logarithmic axis; a horizontal tick is the ceiling."""
    figure, panels = layout.panels(study, layout.tasks(study))
    appearance, size = layout.looks(study), 5.5 if layout.numbered(study) else 8.0
    parts = (1.0, 2.0, 5.0) if len(panels) == 1 else (1.0, 2.0, 3.0, 5.0)  # two or more in a factor of 4
    drawn = []
    for axes, rows in panels:
        marks = []
        for row in rows:
            x = cost(row)
            if row.accuracy is None or not x:
                continue
            look = appearance[study.model(row)]
            mark = layout.mark_style(study, look, size) | {"gid": layout.anchor(row)}
            _draw_point(axes, row.tests[0], x, mark)
            marks.append(Mark((x, row.accuracy.mean), study.model(row), look))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=parts, numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, unit)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        layout.accuracy_axis(axes, rows, layout.with_spread("test accuracy", rows))
        drawn.append((axes, marks))
    _pad_log([axes for axes, marks in drawn if marks])
    tick = Line2D([], [], color=FAINT, marker="_", markersize=12, markeredgewidth=1.6, linestyle="none")
    tick.set_label("ceiling of the model in its colour")
    labels.name_marks(figure, study, drawn, label, tick)
    return figure


def _draw_point(axes: Axes, score: TestScore, x: float, mark: Mapping[str, Any]) -> None:
    """Draws mean, interval and ceiling of a score at `x`."""
    if score.accuracy is None:
        return
    (mean, low, high, _), width, colour = score.accuracy, mark["markersize"] / 8, mark["color"]
    if score.ceiling is not None:
        axes.plot([x, x], [mean, score.ceiling], color=colour, linewidth=width, linestyle=(0, (1, 2)), zorder=2)
        tick = {"marker": "_", "markersize": 14 * width, "markeredgewidth": 1.6}
        axes.plot([x], [score.ceiling], color=colour, zorder=2, **tick)
    if score.accuracy.kind:
        axes.plot([x, x], [low, high], color=colour, linewidth=2.2 * width, solid_capstyle="butt", zorder=3)
    axes.plot([x], [mean], zorder=4, **mark)


def _pad_log(panels: Sequence[Axes]) -> None:
    """Shows the same factor in all panels, at least 4, so that nearly equal costs do not look different."""
    limits = [axes.get_xlim() for axes in panels]
    half = max([2.0, *(math.sqrt(high / low) * 1.12 for low, high in limits)])
    for axes, (low, high) in zip(panels, limits, strict=True):
        middle = math.sqrt(low * high)
        axes.set_xlim(middle / half, middle * half)
