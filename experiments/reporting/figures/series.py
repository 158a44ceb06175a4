"""Scores along a number: lines of tests with their intervals, curves over the bins of a slice, and single bars."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from experiments.reporting.figures import layout
from experiments.reporting.figures.style import DASHES, FAINT, HIDDEN, Look, Mark
from experiments.studies.rows import Row, TestScore

Line = Sequence[tuple[float, TestScore]]  # the scores of one model at ascending numbers
_CHARACTER = 0.095  # inches, of the label of a tick
_TICK = 0.4  # inches that the label of a tick takes
_LEAST = 0.7  # stands for 0 on a logarithmic axis


def draw_lines(
    axes: Axes, lines: Mapping[str, Line], looks: Mapping[str, Look], label: str, *, unit: bool = True
) -> list[Mark]:
    """Draws the line of each name, intervals side by side, and the floors; returns the marks at their right ends.

    Args:
      axes: already in place.
      lines: by name.
      looks: of the names.
      label: of the scores.
      unit: whether scores are from 0 to 1.
    """
    layout.value_axis(axes, label, unit=unit)
    floors: dict[float, float] = {}
    for x, score in (point for line in lines.values() for point in line):
        floors |= {x: max(score.floor, floors.get(x, 0.0))} if score.floor else {}
    _draw_floors(axes, floors)
    marks = []
    for index, (name, line) in enumerate(lines.items()):
        _draw_line(axes, line, looks[name], shift=3.5 * (index - (len(lines) - 1) / 2))
        marks += [Mark((x, score.accuracy.mean), name, looks[name]) for x, score in line[-1:] if score.accuracy]
    return marks


def draw_line_alone(axes: Axes, line: Line, look: Look) -> None:
    """Draws one line in axes of its own, with the floor, and grey above the ceiling."""
    values, colour = [x for x, _ in line], look.colour
    ceilings = [1.0 if score.ceiling is None else score.ceiling for _, score in line]
    axes.fill_between(values, ceilings, 1.0, color=HIDDEN, linewidth=0, zorder=1)
    for x, score in line:
        if score.accuracy and score.accuracy.kind:
            axes.plot(
                [x, x],
                [score.accuracy.low, score.accuracy.high],
                color=colour,
                linewidth=1.8,
                solid_capstyle="butt",
                zorder=3,
            )
    means = [score.accuracy.mean if score.accuracy else math.nan for _, score in line]
    axes.fill_between(values, means, color=colour, alpha=0.25, linewidth=0)
    axes.plot(values, means, color=colour, marker=look.marker, markersize=4.5, linewidth=1.2, markeredgecolor="white")
    floors = [score.floor or 0.0 for _, score in line]
    axes.plot(values, floors, color=FAINT, linewidth=0.7, linestyle=DASHES, zorder=1)


def draw_bar(axes: Axes, score: TestScore, look: Look) -> None:
    """Draws a score as a bar in axes of its own, with its interval, the floor, and grey above the ceiling."""
    layout.strip_limits(axes, 0.0, 1.04)
    if score.ceiling is not None:
        axes.axvspan(score.ceiling, 1.0, color=HIDDEN, linewidth=0, zorder=1)
    if score.floor:
        axes.axvline(score.floor, color=FAINT, linewidth=1, linestyle=DASHES, zorder=1)
    if score.accuracy:
        (mean, low, high, _), colour = score.accuracy, look.colour
        axes.barh(0.52, mean, height=0.56, color=colour, alpha=0.35, linewidth=0, zorder=2)
        if score.accuracy.kind:
            axes.plot([low, high], [0.52, 0.52], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=3)
        axes.plot([mean], [0.52], marker=look.marker, markersize=6, color=colour, markeredgecolor="white", zorder=4)
    layout.beside_strip(axes, score, floor=False)


def number_axis(
    axes: Axes,
    values: Sequence[float],
    *,
    log: bool = False,
    names: Mapping[float, str] | None = None,
    room: float | None = None,
) -> None:
    """Shows exactly `values`, or those of them that there is room for.

    Args:
      axes: already in place.
      values: ascending.
      log: whether the axis is logarithmic in any case, not only if the values grow by a factor of 4 or more.
      names: of values that stand for something else, such as the middle of a range.
      room: on either side, as a share of the range from the lowest to the highest; little by default.
    """
    low, high = min(values), max(values)
    if (log and 0 < low < high) or 0 < low <= high / 4:
        axes.set_xscale("log")
        factor = 1.15 if room is None else (high / low) ** room
        axes.set_xlim(low / factor, high * factor)
    else:
        margin = (room or 0.06) * (high - low) or 1.0
        axes.set_xlim(low - margin, high + margin)
    shown = {value: (names or {}).get(value, f"{value:g}") for value in sorted(values)}
    axes.xaxis.set_major_locator(FixedLocator(_with_room(axes, shown)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown.get(value, "")))


def ceiling_handle() -> Line2D:
    """Returns the legend entry for ceilings."""
    return Line2D([], [], color=FAINT, linewidth=1.4, linestyle=(0, (1, 3)), label="ceiling, in that colour")


class Curve(NamedTuple):
    """Accuracy of a row over the bins of a slice."""

    middles: list[float]  # of the bins
    seeds: list[list[float]]
    means: list[float]
    edges: list[float]  # one more than bins
    ceilings: list[float]  # from edge to edge, the last one twice; empty where unknown


class _Bin(NamedTuple):
    """One bin of a slice in one run."""

    end: int
    accuracy: float
    ceiling: float  # NaN where unknown


def filled_bins(item: Mapping[str, Any]) -> dict[int, _Bin]:
    """Returns the bins of one slice that hold targets, by their first value."""
    if "edges" in item:
        bounds = list(zip(item["edges"][:-1], item["edges"][1:], strict=True))
    else:
        bounds = [(value, value + 1) for value in item["values"]]
    ceilings = item.get("ceiling", [None] * len(bounds))
    bins = zip(bounds, item["accuracy"], ceilings, item["count"], strict=True)
    return {
        start: _Bin(end, accuracy, math.nan if ceiling is None else ceiling)
        for (start, end), accuracy, ceiling, count in bins
        if count
    }


def read_curve(row: Row, name: str, *, log: bool) -> Curve:
    """Returns the curve of `row` over the slice `name`, for an axis that is logarithmic or not."""
    runs = [filled_bins(item) for item in row.slices(name)]
    starts = sorted({start for bins in runs for start in bins})
    found = {start: [bins[start] for bins in runs if start in bins] for start in starts}
    ends = {start: bins[0].end for start, bins in found.items()}
    if log:
        middles = [math.sqrt(max(start, _LEAST) * max(ends[start] - 1, start, _LEAST)) for start in starts]
        edges = [*(max(start, _LEAST) for start in starts), max(ends[starts[-1]], 1)]
    else:
        middles = [(start + ends[start] - 1) / 2 for start in starts]
        edges = [*(start - 0.5 for start in starts), ends[starts[-1]] - 0.5]
    ceilings = [float(np.mean([each.ceiling for each in bins])) for bins in found.values()]
    return Curve(
        middles=middles,
        seeds=[[bins[start].accuracy if start in bins else math.nan for start in starts] for bins in runs],
        means=[float(np.mean([each.accuracy for each in bins])) for bins in found.values()],
        edges=edges,
        ceilings=[] if all(map(math.isnan, ceilings)) else [*ceilings, ceilings[-1]],
    )


def draw_curve(axes: Axes, curve: Curve, mark: Mapping[str, Any], width: float = 1.8) -> None:
    """Draws every seed thin, their mean thick."""
    for seed in curve.seeds:
        axes.plot(curve.middles, seed, color=mark["color"], linewidth=0.8, alpha=0.35)
    axes.plot(curve.middles, curve.means, linewidth=width, **mark)


def draw_ceilings(axes: Axes, curve: Curve, colour: str, place: int) -> None:
    """Draws the ceilings dotted, shifted by `place`, so that several at one height can all be seen."""
    if curve.ceilings:
        dots = (place * 1.4, (1, 3))
        axes.step(curve.edges, curve.ceilings, where="post", color=colour, linewidth=1.4, linestyle=dots)


def shade(axes: Axes, curve: Curve) -> None:
    """Shades in grey what the model cannot reach."""
    if curve.ceilings:
        axes.fill_between(curve.edges, curve.ceilings, 1.0, step="post", color=HIDDEN, linewidth=0, zorder=1)


def bin_axis(axes: Axes, *, log: bool) -> None:
    """Shows whole numbers, or powers of two."""
    if log:
        axes.set_xscale("log", base=2)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def _with_room(axes: Axes, labels: Mapping[float, str]) -> list[float]:
    """Returns those of the ascending values whose labels are not too close to each other; the last one stays."""
    dpi = axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    place = {value: float(axes.transData.transform((value, 0.0))[0]) / dpi for value in labels}
    room = max(_TICK, _CHARACTER * max(len(line) for label in labels.values() for line in label.split("\n")))
    kept: list[float] = []
    for value in sorted(labels, reverse=True):
        if not kept or place[kept[-1]] - place[value] >= room:
            kept.append(value)
    return kept[::-1]


def _draw_floors(axes: Axes, floors: Mapping[float, float]) -> None:
    """Draws the floor at every number, dashed like that of a single task."""
    known = sorted(floors.items())
    if not known:
        return
    axes.plot(*zip(*known, strict=True), color=FAINT, linewidth=1, linestyle=DASHES, zorder=1)
    (left, one), (right, two) = known[0], known[min(1, len(known) - 1)]  # between two numbers there is no interval
    middle = math.sqrt(left * right) if axes.get_xscale() == "log" else (left + right) / 2
    place: dict[str, Any] = {"textcoords": "offset points", "ha": "center"}
    axes.annotate("floor", (middle, (one + two) / 2), (0, 4), color=FAINT, fontsize=8, **place)


def _draw_line(axes: Axes, line: Line, look: Look, shift: float) -> None:
    """Draws means, their intervals and, dotted, the ceilings, moved by `shift` points to separate intervals."""
    inch = axes.get_figure(root=True).dpi_scale_trans  # type: ignore[union-attr]
    style: dict[str, Any] = {"color": look.colour, "transform": axes.transData + ScaledTranslation(shift / 72, 0, inch)}
    ceilings = [(x, score.ceiling) for x, score in line if score.ceiling is not None]
    if ceilings:
        axes.plot(*zip(*ceilings, strict=True), linewidth=1.4, linestyle=(shift, (1, 3)), zorder=2, **style)
    scored = [(x, score.accuracy) for x, score in line if score.accuracy]
    for x, accuracy in scored:
        if accuracy.kind:
            axes.plot(
                [x, x],
                accuracy.seen,
                linewidth=2.2,
                solid_capstyle="butt",
                alpha=0.55,
                zorder=3,
                **style,
            )
    means = [accuracy.mean for _, accuracy in scored]
    mark: dict[str, Any] = {"marker": look.marker, "markersize": 7, "markeredgecolor": "white"}
    axes.plot([x for x, _ in scored], means, linewidth=1.6, zorder=4, **mark, **style)
