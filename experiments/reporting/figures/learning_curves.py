"""Validation accuracy during training."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.reporting.figures import labels, layout
from experiments.reporting.figures.style import Look, Mark
from experiments.studies.results import Study
from experiments.studies.rows import Row

_LABEL = "training step"
_MOST_POINTS = 2000  # of a curve, about the pixels of its panel
_Curve = Sequence[tuple[float, float]]  # (step, accuracy)


def learning_curves(study: Study) -> Figure:
    """Validation accuracy by step: every seed thin, their median thick."""
    return _alone(study) if layout.crowded(study) else _together(study)


def _together(study: Study) -> Figure:
    figure, panels = layout.panels(study, layout.tasks(study))
    appearance, drawn = layout.looks(study), []
    for axes, rows in panels:
        marks = []
        for row in rows:
            look, curves = appearance[study.model(row)], _curves(row)
            if not curves:
                continue
            for curve in curves:
                axes.plot(*zip(*thinned(curve), strict=True), color=look.colour, linewidth=0.9, alpha=0.4)
            steps, median = zip(*thinned(_median(curves)), strict=True)
            axes.plot(steps, median, color=look.colour, linewidth=2.2)
            axes.plot(steps[-1:], median[-1:], zorder=4, **layout.mark_style(study, look, 6))
            marks.append(Mark((steps[-1], median[-1]), study.model(row), look))
        _step_axis(axes)
        layout.accuracy_axis(axes, rows, "validation accuracy")
        drawn.append((axes, marks))
    labels.name_marks(figure, study, drawn, _LABEL)
    return figure


def _alone(study: Study) -> Figure:
    figure = layout.strips(study, [layout.by_model(study, layout.tasks(study))], _draw_alone, _LABEL)
    _step_axis(figure.axes[0])  # all strips share it
    return figure


def _draw_alone(axes: Axes, row: Row, look: Look) -> None:
    layout.beside_strip(axes, row.tests[0])
    curves = _curves(row)
    if not curves:
        return
    for curve in curves:
        axes.plot(*zip(*thinned(curve), strict=True), color=look.colour, linewidth=0.7, alpha=0.5)
    steps, median = zip(*thinned(_median(curves)), strict=True)
    axes.fill_between(steps, median, color=look.colour, alpha=0.25, linewidth=0)
    axes.plot(steps, median, color=look.colour, linewidth=1.5)
    axes.plot(steps[-1:], median[-1:], color=look.colour, marker=look.marker, markersize=4, markeredgecolor="white")


def _step_axis(axes: Axes) -> None:
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _curves(row: Row) -> list[_Curve]:
    """Returns the validation accuracy of every run that has some."""
    return [[(m["step"], m["validation_accuracy"]) for m in lines] for lines in row.metrics if lines]


def _median(curves: Sequence[_Curve]) -> _Curve:
    """Returns the median over runs at every step; a run that stopped early keeps its last value."""
    steps = sorted({step for curve in curves for step, _ in curve})
    table = [np.interp(steps, [step for step, _ in curve], [score for _, score in curve]) for curve in curves]
    return list(zip(steps, np.median(table, axis=0).tolist(), strict=True))


def thinned(curve: _Curve, most: int = _MOST_POINTS) -> _Curve:
    """Returns a curve with no more points than can be seen: the lowest and the highest of each short stretch."""
    stretch = -(-2 * len(curve) // most)
    if len(curve) <= most:
        return curve
    kept = {0, len(curve) - 1}
    for start in range(0, len(curve), stretch):
        places = range(start, min(start + stretch, len(curve)))
        kept |= {min(places, key=lambda place: curve[place][1]), max(places, key=lambda place: curve[place][1])}
    return [curve[place] for place in sorted(kept)]
