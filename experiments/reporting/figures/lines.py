"""Lines of scores over a number, and bars of single ones, each with its interval and its ceiling."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures.labels import Mark
from experiments.reporting.figures.layout import Look
from experiments.studies.results import Row

MOST = 6  # in one panel
Line = Sequence[tuple[float, Row]]  # the scores of one model
_TICK = 0.4  # inches that the label of a tick takes


def panel(axes: Axes, lines: Mapping[str, Line], looks: Mapping[str, Look]) -> list[Mark]:
    """Draws the line of each name, intervals side by side, and the floors; returns the marks at their right ends."""
    rows = [row for line in lines.values() for _, row in line]
    canvas.accuracy_axis(axes, [], canvas.accuracy_label(rows, "test accuracy"))
    floors: dict[float, float] = {}
    for x, row in (point for line in lines.values() for point in line):
        floor = row.mean("floor")
        floors |= {x: max(floor, floors.get(x, 0.0))} if floor else {}
    _floors(axes, floors)
    marks = []
    for index, (name, line) in enumerate(lines.items()):
        _line(axes, line, looks[name], shift=3.5 * (index - (len(lines) - 1) / 2))
        marks += [Mark((x, row.accuracy[0]), name, looks[name]) for x, row in line[-1:] if row.accuracy]
    return marks


def value_axis(axes: Axes, values: Sequence[float], *, log: bool = False) -> None:
    """Shows exactly `values`, or what of them there is room for, on a logarithmic axis also where they grow by factors.

    Args:
      axes: in their place.
      values: ascending.
      log: whether the axis is logarithmic in any case.
    """
    low, high = min(values), max(values)
    if (log and 0 < low < high) or 0 < low <= high / 4:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.15, high * 1.15)
    else:
        margin = 0.06 * (high - low) or 1.0
        axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(FixedLocator(_with_room(axes, sorted(values))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _with_room(axes: Axes, values: Sequence[float]) -> list[float]:
    """Returns those of `values` whose labels do not come too near; the last one stays."""
    dpi = axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    place = {value: float(axes.transData.transform((value, 0.0))[0]) / dpi for value in values}
    kept = [values[-1]]
    for value in reversed(values[:-1]):
        if place[kept[-1]] - place[value] >= _TICK:
            kept.append(value)
    return kept[::-1]


def strip(axes: Axes, line: Line, look: Look) -> None:
    """Draws one line in a strip of its own."""
    values, colour = [x for x, _ in line], look.colour
    ceilings = [1.0 if (ceiling := row.mean("ceiling")) is None else ceiling for _, row in line]
    axes.fill_between(values, ceilings, 1.0, color=canvas.HIDDEN, linewidth=0, zorder=1)
    for x, row in line:
        if row.accuracy and len(row.accuracies) > 1:
            axes.plot([x, x], row.accuracy[1:], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=3)
    means = [row.accuracy[0] if row.accuracy else math.nan for _, row in line]
    axes.fill_between(values, means, color=colour, alpha=0.25, linewidth=0)
    axes.plot(values, means, color=colour, marker=look.marker, markersize=4.5, linewidth=1.2, markeredgecolor="white")


def bar(axes: Axes, row: Row, look: Look) -> None:
    """Draws a score as a bar in a strip, with its interval, the ceiling as the end of the white, and the floor."""
    ceiling, floor = row.mean("ceiling"), row.mean("floor")
    if ceiling is not None:
        axes.axvspan(ceiling, 1.0, color=canvas.HIDDEN, linewidth=0, zorder=1)
    if floor:
        axes.axvline(floor, color=canvas.FAINT, linewidth=1, linestyle=canvas.DASHES, zorder=1)
    if row.accuracy:
        mean, low, high = row.accuracy
        axes.barh(0.52, mean, height=0.56, color=look.colour, alpha=0.35, linewidth=0, zorder=2)
        if len(row.accuracies) > 1:
            axes.plot([low, high], [0.52, 0.52], color=look.colour, linewidth=2.2, solid_capstyle="butt", zorder=3)
        axes.plot(
            [mean], [0.52], marker=look.marker, markersize=6, color=look.colour, markeredgecolor="white", zorder=4
        )
    axes.set_xlim(0, 1.04)
    canvas.write_score(axes, row)


def dotted_ceiling() -> Line2D:
    """Returns how a legend shows ceilings."""
    return Line2D([], [], color=canvas.FAINT, linewidth=1.4, linestyle=(0, (1, 3)), label="ceiling, in that colour")


def _floors(axes: Axes, floors: Mapping[float, float]) -> None:
    """Draws the floor at every number, dashed like that of a single task."""
    known = sorted(floors.items())
    if known:
        axes.plot(*zip(*known, strict=True), color=canvas.FAINT, linewidth=1, linestyle=canvas.DASHES, zorder=1)
        (left, one), (right, two) = known[0], known[min(1, len(known) - 1)]  # between two, where no interval stands
        middle = math.sqrt(left * right) if axes.get_xscale() == "log" else (left + right) / 2
        axes.annotate(
            "floor", (middle, (one + two) / 2), (0, 4), textcoords="offset points", ha="center", color=canvas.FAINT,
            fontsize=8,
        )  # fmt: skip


def _line(axes: Axes, line: Line, look: Look, shift: float) -> None:
    """Draws means, their intervals and, dotted, the ceilings, `shift` points aside so that intervals stand apart."""
    inch = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    style: dict[str, Any] = {"color": look.colour, "transform": axes.transData + ScaledTranslation(shift / 72, 0, inch)}
    ceilings = [(x, ceiling) for x, row in line if (ceiling := row.mean("ceiling")) is not None]
    if ceilings:
        axes.plot(*zip(*ceilings, strict=True), linewidth=1.4, linestyle=(shift, (1, 3)), zorder=2, **style)
    scores = [(x, row.accuracy, len(row.accuracies)) for x, row in line if row.accuracy]
    for x, (_, low, high), seeds in scores:
        if seeds > 1:
            axes.plot([x, x], [low, high], linewidth=2.2, solid_capstyle="butt", alpha=0.55, zorder=3, **style)
    means = [accuracy[0] for _, accuracy, _ in scores]
    axes.plot(
        [x for x, _, _ in scores], means, marker=look.marker, markersize=7, linewidth=1.6, markeredgecolor="white",
        zorder=4, **style,
    )  # fmt: skip
