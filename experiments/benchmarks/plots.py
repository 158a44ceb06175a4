"""Pictures of cost against length, on logarithmic axes, beside linear and quadratic guides.

On such axes a power of the length is a straight line. The guides show at a glance what doubling the context does.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.benchmarks import attention, decoding
from experiments.reporting.figures import labels, layout, series
from experiments.reporting.figures.style import FAINT, INK, Mark, looks_of, save, style
from experiments.reporting.text import human
from experiments.studies.whole_files import write_file

Lines = Mapping[str, Sequence[tuple[int, float]]]  # (length, cost) of every contender, lengths ascending
_GUIDES = {1: "linear: twice the length, twice the cost", 2: "quadratic: twice the length, four times the cost"}
_ROOM = 1.5  # factor between guides and what is drawn
_KINDS = "png", "svg"


def of_attention(timings: Sequence[attention.Timing]) -> dict[str, Figure]:
    """Returns the pictures of the benchmark of attention by file name; none for fewer than two lengths."""
    time = _lines([(each.variant, each.length, each.gradient_ms / 1e3) for each in timings])
    memory = _lines([(each.variant, each.length, each.peak_bytes) for each in timings])
    return _drawn(
        {
            "attention_time": (time, "forward and gradient, seconds", "s"),
            "attention_memory": (memory, "temporaries of forward and gradient, bytes", "B"),
        },
        "length, tokens",
    )


def of_decoding(timings: Sequence[decoding.Timing]) -> dict[str, Figure]:
    """Returns the pictures of decoding by file name: of what grows with the context, and of what does not."""
    found = {}
    bounded = {each.mixer: each.bounded for each in timings}  # at the longest, where the state is as large as it gets
    for name, kept in (("growing", False), ("bounded", True)):
        chosen = [each for each in timings if bounded[each.mixer] == kept]
        time = _lines([(each.mixer, each.length, each.step_us / 1e6) for each in chosen])
        state = _lines([(each.mixer, each.length, each.state_bytes) for each in chosen])
        found[f"decoding_time_{name}"] = (time, f"one token, seconds; state {name}", "s")
        found[f"decoding_state_{name}"] = (state, f"cache of a sequence, bytes; state {name}", "B")
    return _drawn(found, "context, tokens")


def write(figures: Mapping[str, Figure], folder: str | Path) -> list[str]:
    """Writes figures to a folder, as PNG and SVG; returns the names of the files.

    Raises:
      StorageError: the files cannot be written.
    """
    names = []
    with style():
        for name, figure in figures.items():
            for kind in _KINDS:
                write_file(Path(folder) / f"{name}.{kind}", save(figure, kind))
                names.append(f"{name}.{kind}")
    return names


def _lines(points: Sequence[tuple[str, int, float | None]]) -> Lines:
    """Returns the points above 0 of each contender; a contender with a single known length is only a point."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name, length, cost in sorted(points, key=lambda point: point[1]):
        if cost:
            found.setdefault(name, []).append((length, cost))
    return found


def _drawn(pictures: Mapping[str, tuple[Lines, str, str]], x_label: str) -> dict[str, Figure]:
    with style():
        return {
            name: draw(lines, x_label, label, unit)
            for name, (lines, label, unit) in pictures.items()
            if len({length for line in lines.values() for length, _ in line}) > 1
        }


def draw(lines: Lines, x_label: str, label: str, unit: str) -> Figure:
    """Returns a picture of cost against length, every line named at its right end.

    Args:
      lines: of at least two lengths in all.
      x_label: of the lengths.
      label: of the costs.
      unit: of the costs, which ticks show with a prefix.
    """
    figure, axes = layout.labelled_axes(len(lines))
    looks, marks = looks_of(lines), []
    axes.set_yscale("log")
    lengths = sorted({length for line in lines.values() for length, _ in line})
    series.number_axis(axes, lengths, log=True, names={length: f"{length:,}" for length in lengths})
    for name, line in lines.items():
        look = looks[name]
        mark: dict[str, Any] = {"marker": look.marker, "markersize": 6, "markeredgecolor": "white"}
        axes.plot(*zip(*line, strict=True), color=look.colour, linewidth=1.6, zorder=3, **mark)
        marks.append(Mark(line[-1], name, look))
    _limit(axes, lines)
    _draw_guides(axes, lines)
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_label)
    axes.set_title(label, color=INK)
    labels.margin_labels(axes, marks, dotted=[mark.model for mark in marks if mark.point[0] < lengths[-1]])
    return figure


def _limit(axes: Axes, lines: Lines) -> None:
    """Shows all lines and room for guides; a factor of 8 at least, so that noise does not look like growth."""
    costs = [cost for line in lines.values() for _, cost in line]
    low, high = min(costs) / _ROOM**2, max(costs) * _ROOM**2
    room = max(1.0, math.sqrt(8 * low / high))
    axes.set_ylim(low / room, high * room)


def _draw_guides(axes: Axes, lines: Lines) -> None:
    """Draws the linear guide from below the lines and the quadratic one from above them, each named along its line."""
    lengths = sorted({length for line in lines.values() for length, _ in line})
    first = [line[0][1] for line in lines.values() if line[0][0] == lengths[0]]
    (left, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    for power, start in ((1, min(first) / _ROOM), (2, max(first) * _ROOM)):
        ends = [start * (x / lengths[0]) ** power for x in (left, right)]
        axes.plot(
            (left, right), ends, color=FAINT, linewidth=1.1, linestyle=(0, (6, 3) if power == 1 else (1, 2)), zorder=1
        )
        end = min(right, lengths[0] * (top / start) ** (1 / power))  # where the guide leaves the axes
        middle = math.sqrt(left * end)
        _name_along(axes, (middle, start * (middle / lengths[0]) ** power), power)


def _name_along(axes: Axes, point: tuple[float, float], power: int) -> None:
    here, there = axes.transData.transform([point, (2 * point[0], 2**power * point[1])])
    angle = math.degrees(math.atan2(there[1] - here[1], there[0] - here[0]))
    place: dict[str, Any] = {"ha": "center", "va": "center", "rotation": angle, "rotation_mode": "anchor"}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    text = axes.text(*point, _GUIDES[power], color=FAINT, fontsize=8, zorder=2, bbox=box, **place)
    shown, room = text.get_window_extent(), axes.get_window_extent()
    if not (room.x0 < shown.x0 and shown.x1 < room.x1 and room.y0 < shown.y0 and shown.y1 < room.y1):
        text.set_text(_GUIDES[power].partition(":")[0])  # a steep guide is short


def _tick(value: float, unit: str) -> str:
    """Returns a value with a prefix; those below 1, which seconds alone have, as ms and us."""
    for factor, prefix in ((1.0, ""), (1e-3, "m"), (1e-6, "u")):
        if unit == "s" and value >= factor * 0.9995:
            return f"{value / factor:g} {prefix}s"
    return human(value, unit)
