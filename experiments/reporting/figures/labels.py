"""The names of what is drawn: in the margin of a single panel, or once below all panels."""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from experiments.reporting.figures.layout import looks, mark_style, names, numbered
from experiments.reporting.figures.style import INK, Mark
from experiments.reporting.text import wrap_spec
from experiments.studies.results import Study

# Where the number of a point may be, in points from it: near places before far ones, and to the right first.
_PLACES = [
    (radius * math.cos(angle), radius * math.sin(angle))
    for radius in (9, 13, 18, 24, 31, 39, 48, 58, 70, 84, 100)
    for angle in (step * math.pi / 8 for step in (0, 2, -2, 1, -1, 4, -4, 3, -3, 6, -6, 5, -5, 7, -7, 8))
]
_LINE = 0.155 * 1.04  # inches, height of one line of a label
_TALLEST = 30.0  # inches, more than any legend takes
_DIGIT, _LETTER_HEIGHT = 2.6, 4.0  # points, half the size of a digit next to a point


def name_marks(
    figure: Figure,
    study: Study,
    drawn: Sequence[tuple[Axes, Sequence[Mark]]],
    label: str,
    *further: Line2D,
) -> None:
    """Names the x axis and the models: in the margin of a single panel, else in one legend below all panels.

    Args:
      figure: of the panels.
      study: whose models are named.
      drawn: panels and their marks; if models are numbered, every mark gets its number.
      label: of the x axis.
      *further: what else the legend shows, such as ceilings.
    """
    name_axis([axes for axes, _ in drawn], label)
    if len(study.by_task) == 1:
        margin_labels(*drawn[0])
        return
    appearance = looks(study)
    styles = {text: mark_style(study, appearance[model], 7.5) for model, text in names(study).items()}
    legend_below(figure, styles, *further, small=numbered(study))
    if numbered(study):
        _number(figure, drawn, {model: str(number) for number, model in enumerate(study.models, 1)})


def name_axis(panels: Sequence[Axes], label: str) -> None:
    """Writes the label of the x axis below the lowest panel of every column."""
    grid = panels[0].get_subplotspec()
    columns = grid.get_gridspec().ncols if grid else 1
    for axes in panels[-columns:]:
        axes.set_xlabel(textwrap.fill(label, 88 // columns))


def margin_labels(axes: Axes, marks: Sequence[Mark], *, dotted: Collection[str] = ()) -> None:
    """Writes every label to the right of its point, moved where labels would overlap, with a line to the point.

    Args:
      axes: of the marks.
      marks: what is named.
      dotted: models whose line could be mistaken for a part of what is drawn.
    """
    inches = axes.bbox.height / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    lines = [wrap_spec(mark.model, 34) for mark in marks]
    levels = [_level(axes, mark.point[1]) for mark in marks]
    order = sorted(range(len(marks)), key=levels.__getitem__)
    sizes = [_LINE / inches * (len(lines[i]) + 0.7) for i in order]
    heights = spread([levels[i] for i in order], sizes, 0.0, 1.02)
    inside = axes.transAxes
    text: dict[str, Any] = {"color": INK, "fontsize": 9, "va": "center", "linespacing": 1.15, "transform": inside}
    for place, i in zip(heights, order, strict=True):
        point, model, (colour, marker), strong = marks[i]
        arrow: dict[str, Any] = {
            "arrowstyle": "-",
            "color": colour,
            "lw": 0.7,
            "alpha": 0.55,
            "shrinkA": 0,
            "shrinkB": 4,
        }
        if model in dotted:
            arrow |= {"linestyle": (0, (1, 4)), "lw": 1.0}
        axes.annotate("", point, (1.035, place), textcoords=inside, annotation_clip=False, arrowprops=arrow)
        axes.plot([1.05], [place], marker=marker, markersize=6, color=colour, transform=inside, clip_on=False)
        axes.text(1.075, place, "\n".join(lines[i]), fontweight="bold" if strong else "normal", **text)


def _level(axes: Axes, y: float) -> float:
    """Returns the height of a value within the axes, from 0 to 1."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        low, high, y = math.log(low), math.log(high), math.log(y)
    return (y - low) / (high - low)


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Returns centres near the ascending `wanted`, so that intervals of `sizes` do not overlap."""
    places: list[float] = []
    for want, size in zip(wanted, sizes, strict=True):
        floor = places[-1] + (sizes[len(places) - 1] + size) / 2 if places else low + size / 2
        places.append(max(want, floor))
    ceiling = high
    for index in reversed(range(len(places))):
        places[index] = min(places[index], ceiling - sizes[index] / 2)
        ceiling = places[index] - sizes[index] / 2
    return places


def legend_below(
    figure: Figure, styles: Mapping[str, Mapping[str, Any]], *further: Line2D, small: bool = False
) -> None:
    """Names marks of these styles, and what else there is, below all panels."""
    columns, size, width = (3, 8.0, 38) if small else (2, 9.0, 52)
    handles = [
        Line2D([], [], linestyle="none", label="\n".join(wrap_spec(text, width)), **mark)
        for text, mark in styles.items()
    ]
    spacing = {"handlelength": 1.8, "labelspacing": 0.45, "columnspacing": 1.6}
    legend = figure.legend(
        handles=[*handles, *further],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=size,
        labelcolor=INK,
        **spacing,
    )
    height = figure.get_figheight()
    figure.set_figheight(height + _TALLEST)  # or panels would have no room beside a long legend
    figure.draw_without_rendering()  # now the legend knows its height
    figure.set_figheight(height + legend.get_window_extent().height / figure.dpi)


def _number(figure: Figure, drawn: Sequence[tuple[Axes, Sequence[Mark]]], numbers: Mapping[str, str]) -> None:
    """Writes each point's number next to it, where it covers no point or other number; a line leads to far ones."""
    figure.draw_without_rendering()  # now the panels are where they will be drawn
    pixel = figure.dpi / 72
    for axes, marks in drawn:
        inside = axes.get_window_extent()
        points = {mark.model: axes.transData.transform(mark.point) for mark in marks}
        taken = [_box(x, y, _LETTER_HEIGHT * pixel, _LETTER_HEIGHT * pixel) for x, y in points.values()]
        for mark in sorted(marks, key=lambda mark: mark.point[::-1], reverse=True):
            x, y = points[mark.model]
            half = (_DIGIT * len(numbers[mark.model]) + 0.8) * pixel, _LETTER_HEIGHT * pixel
            boxes = [(place, _box(x + place[0] * pixel, y + place[1] * pixel, *half)) for place in _PLACES]
            free = [(place, box) for place, box in boxes if _within(box, inside) and not box.count_overlaps(taken)]
            place, box = (free or boxes)[0]
            taken.append(box)
            _write_number(axes, mark, numbers[mark.model], place)


def _write_number(axes: Axes, mark: Mark, number: str, place: tuple[float, float]) -> None:
    line = {"arrowstyle": "-", "color": mark.look.colour, "lw": 0.6, "alpha": 0.7, "shrinkA": 3, "shrinkB": 3}
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "color": INK, "zorder": 6}
    text = axes.annotate(
        number,
        mark.point,
        place,
        textcoords="offset points",
        arrowprops=line if math.hypot(*place) > 10 else None,
        fontweight="bold" if mark.strong else "normal",
        path_effects=[withStroke(linewidth=1.8, foreground="white")],
        **style,
    )
    text.set_in_layout(False)


def _box(x: float, y: float, half_width: float, half_height: float) -> Bbox:
    return Bbox.from_extents(x - half_width, y - half_height, x + half_width, y + half_height)


def _within(box: Bbox, outer: Bbox) -> bool:
    return bool(outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1)
