"""How a picture of a study is laid out: a panel for each task or, for many models, a strip for each model.

One threshold decides for all pictures: `MOST_LINES` models in a panel, as many as there are colours.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from experiments.reporting.figures.style import COLOURS, DASHES, FAINT, INK, MOST_LOOKS, Look, looks_of
from experiments.reporting.text import wrap_spec
from experiments.studies.intervals import Estimate
from experiments.studies.results import Study
from experiments.studies.rows import Row, TestScore, task_differences
from experiments.studies.scores import SHARE

MOST_LINES = len(COLOURS)  # of models in one panel; more are drawn in strips
Tasks = Sequence[tuple[str, list[Row]]]  # (title, rows) of each task
T = TypeVar("T")
Columns = Sequence[tuple[str, Mapping[str, T]]]  # (heading, {model: what is drawn in its strip})
_WIDTH = 9.2  # inches, of figures with several panels
_STRIP, _NAMES, _SCORES = 0.27, 3.3, 0.5  # inches: height of a strip, widths of the names and scores at its sides
_SPREADS = {"interval": "95 % interval", "range": "range of seeds"}
_LEAST_STRIP, _BELOW = 1.1, 0.55  # inches: of width, and below the lowest strip, for the axis


def shown(study: Study) -> Study:
    """Returns the study with only the best models if there are more than a picture can distinguish."""
    if len(study.models) <= MOST_LOOKS:
        return study
    best = set(study.models[:MOST_LOOKS])
    return dataclasses.replace(study, rows=tuple(row for row in study.rows if study.model(row) in best))


def crowded(study: Study) -> bool:
    """Returns whether there are more models than lines that one panel can show."""
    return len(study.models) > MOST_LINES


def numbered(study: Study) -> bool:
    """Returns whether models have numbers: they do if a legend for several panels would have to repeat colours."""
    return crowded(study) and len(study.by_task) > 1


def looks(study: Study) -> dict[str, Look]:
    """Returns the look of each model, which is the same in all tasks."""
    return looks_of(study.models)


def anchor(row: Row) -> str:
    """Returns the name of a row in SVG files, the `gid` of its mark, and in the page, whose links lead there."""
    written = json.dumps(row.config, sort_keys=True, default=str)
    return f"row-{hashlib.sha256(written.encode()).hexdigest()[:10]}"


def mark_style(study: Study, look: Look, size: float) -> dict[str, Any]:
    """Returns how a mark is drawn; with several tasks it is hollow, so that equal scores do not hide each other."""
    style = {"marker": look.marker, "markersize": size, "color": look.colour, "markeredgecolor": "white"}
    if len(study.by_task) == 1 or numbered(study):
        return style
    hollow = {"markeredgecolor": look.colour, "markeredgewidth": 1.5, "markerfacecolor": f"{look.colour}30"}
    return style | hollow | {"clip_on": False}


def names(study: Study) -> dict[str, str]:
    """Returns what a picture calls each model, the best first, with a number where models have one."""
    if not numbered(study):
        return {model: model for model in study.models}
    return {model: f"{number}  {model}" for number, model in enumerate(study.models, 1)}


def tasks(study: Study, keep: Callable[[Row], bool] = lambda row: True) -> Tasks:
    """Returns (title, rows) of every task that has rows to keep, best model first.

    A title is the name of the task and the fields in which tasks differ, or else the whole spec.
    """
    specs = list(study.by_task)
    facts = [rows[0].task for rows in study.by_task.values()]
    differences = task_differences(facts)
    titles = specs
    if differences and differences[0]:
        fields = [",".join(f"{name}={value}" for name, value in values.items()) for values in differences]
        titles = [f"{task.name} {text}" for task, text in zip(facts, fields, strict=True)]
    rank = {model: place for place, model in enumerate(study.models)}
    kept = [sorted(filter(keep, rows), key=lambda row: rank[study.model(row)]) for rows in study.by_task.values()]
    return [(title, rows) for title, rows in zip(titles, kept, strict=True) if rows]


def by_model(study: Study, chosen: Tasks) -> list[tuple[str, dict[str, Row]]]:
    """Returns (title, {model: row}) of every task: columns for `strips`."""
    return [(title, {study.model(row): row for row in rows}) for title, rows in chosen]


def panels(study: Study, chosen: Tasks) -> tuple[Figure, list[tuple[Axes, list[Row]]]]:
    """Returns a figure and a panel for each task of `chosen`; that of a single task has a wide right margin."""
    if len(study.by_task) == 1:
        ((_, rows),) = chosen
        figure, axes = labelled_axes(len(rows))
        return figure, [(axes, rows)]
    figure, grid = panel_grid([title for title, _ in chosen], tall=numbered(study))
    return figure, [(axes, rows) for axes, (_, rows) in zip(grid, chosen, strict=True)]


def panel_grid(titles: Sequence[str], *, tall: bool = False) -> tuple[Figure, list[Axes]]:
    """Returns a figure and a panel under each title."""
    columns = min(len(titles), _abreast(len(titles)))
    height = math.ceil(len(titles) / columns)
    panel = 4.6 if tall else 2.8 if columns < 3 else 2.5
    figure = Figure(figsize=(_WIDTH, panel * height + 0.5), layout="constrained")
    grid = list(figure.subplots(height, columns, sharey=True, squeeze=False).ravel())
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title("\n".join(wrap_spec(title, 96 // columns)), color=INK)
    for axes in grid[len(titles) :]:
        axes.set_axis_off()
    return figure, grid[: len(titles)]


def abreast(columns: Columns[T]) -> list[Columns[T]]:
    """Returns columns in blocks of a few side by side."""
    size = _abreast(len(columns))
    return [columns[first : first + size] for first in range(0, len(columns), size)]


def _abreast(number: int) -> int:
    """Returns how many of `number` panels go side by side."""
    return 2 if number in (2, 4) else 3


def labelled_axes(models: int) -> tuple[Figure, Axes]:
    """Returns axes with room for the labels of this many models in the right margin."""
    figure = Figure(figsize=(8.2, max(4.1, 0.42 * models + 1.2)))
    return figure, figure.add_axes((0.08, 0.13, 0.58, 0.82))


def accuracy_axis(axes: Axes, rows: Sequence[Row], label: str) -> None:
    """Shows accuracy from 0 to 1, and the floor where `rows` share one; only panels at the left edge carry `label`."""
    _draw_floor(axes, [row.mean("floor") for row in rows])
    value_axis(axes, accuracy_label(rows, label))


def score_axis(study: Study, axes: Axes, rows: Sequence[Row]) -> None:
    """Shows the score of a study as `accuracy_axis` shows accuracies; from 0 to 1 only if all scores are there."""
    _draw_floor(axes, [row.score.floor for row in rows])
    value_axis(axes, score_label(study), unit=study.metric.kind.unit)


def value_axis(axes: Axes, label: str, *, unit: bool = True) -> None:
    """Shows values from 0 to 1, or as they are without a `unit`; only panels at the left edge carry `label`."""
    if unit:
        axes.set_ylim(0, 1.04)
    place = axes.get_subplotspec()
    if place is None or place.is_first_col():
        axes.set_ylabel(label)


def _draw_floor(axes: Axes, floors: Sequence[float | None]) -> None:
    if None not in floors and len(set(floors)) == 1 and (floor := floors[0]):
        axes.axhline(floor, color=FAINT, linewidth=1, linestyle=DASHES, zorder=1)
        axes.text(0.01, floor + 0.012, "floor", color=FAINT, fontsize=8, transform=axes.get_yaxis_transform())


def accuracy_label(rows: Iterable[Row], label: str) -> str:
    """Returns `label`, and what counts as right where the answers of `rows` are numbers."""
    return f"{label}\n(within tolerance)" if any(row.task.tolerance is not None for row in rows) else label


def with_spread(label: str, rows: Iterable[Row]) -> str:
    """Returns `label`, and on a second line what is drawn around the means of `rows`: intervals, ranges or both."""
    return _with_spread(label, [row.accuracy for row in rows])


def score_label(study: Study) -> str:
    """Returns the name of a study's score, what is drawn around its means, and what counts as right, a line each."""
    label = _with_spread(study.metric.label, [row.score.accuracy for row in study.rows])
    return accuracy_label(study.rows, label) if study.metric.kind is SHARE else label


def _with_spread(label: str, estimates: Iterable[Estimate | None]) -> str:
    kinds = {estimate.kind for estimate in estimates if estimate}
    words = [_SPREADS[kind] for kind in _SPREADS if kind in kinds]
    return f"{label}\nwith {' or '.join(words)}" if words else label


def strips(
    study: Study,
    blocks: Sequence[Columns[T]],
    draw: Callable[[Axes, T, Look], None],
    label: str,
    shown: Mapping[str, str] | None = None,
) -> Figure:
    """Returns a figure with a low strip for each model in each column, for lines too many to share a panel.

    Args:
      study: whose models are named at the left, the best first.
      blocks: columns side by side, and more of them below.
      draw: draws one strip, given its axes, what to draw, and the look of the model.
      label: of the common x axis.
      shown: the name of every strip by its key in the columns, where strips are not the models of the study.
    """
    shown = names(study) if shown is None else shown
    width = max(_WIDTH, _NAMES + max(map(len, blocks)) * (_LEAST_STRIP + _SCORES))
    lines = {model: wrap_spec(text, 46) for model, text in shown.items()}
    heights = [max(_STRIP, 0.13 * len(text) + 0.04) for text in lines.values()]
    titles = [_wrapped([heading for heading, _ in columns], width) for columns in blocks]
    above = max(0.4, 0.1 + 0.17 * max(title.count("\n") + 1 for block in titles for title in block))
    height = above + sum(heights) + _BELOW
    figure = Figure(figsize=(width, height * len(blocks)))
    parts = [figure] if len(blocks) == 1 else figure.subfigures(len(blocks), 1, squeeze=False).ravel()
    for part, columns, headings in zip(parts, blocks, titles, strict=True):
        grid = _strip_grid(part, width, heights, above, headings)
        _fill(grid, columns, draw, looks(study) if set(shown) <= set(study.models) else looks_of(shown), lines)
        middle = 0.5 + 0.5 * (_NAMES - _SCORES) / width
        part.supxlabel(label, fontsize=10, color=INK, x=middle, y=0.08 / height, va="bottom")
    return figure


def strip_limits(axes: Axes, low: float, high: float) -> None:
    """Shows this range in the strips that share an axis with `axes`, which would be slow if done for each."""
    if axes.get_xlim() != (low, high):
        axes.set_xlim(low, high)


def beside_strip(axes: Axes, score: TestScore, *, floor: bool = True) -> None:
    """Writes an accuracy to the right of its strip, and marks its floor in it."""
    if floor and score.floor:
        axes.axhline(score.floor, color=FAINT, linewidth=0.7, linestyle=DASHES, zorder=1)
    if score.accuracy:
        text = f"{score.accuracy.mean:.2f}"
        axes.text(1.015, 0.45, text, color=INK, fontsize=8, va="center", transform=axes.transAxes)


def _wrapped(headings: Sequence[str], width: float) -> list[str]:
    """Returns the headings of columns in lines that fit above their strips, in a figure of this width in inches."""
    return ["\n".join(wrap_spec(heading, int(12 * _strip_width(width, len(headings))))) for heading in headings]


def _strip_width(width: float, columns: int) -> float:
    return (width - _NAMES) / columns - _SCORES


def _strip_grid(figure: FigureBase, width: float, heights: Sequence[float], above: float, titles: Sequence[str]) -> Any:
    """Returns axes [strip, column] under `titles`, for which `above` inches are reserved, all with the same axis."""
    height = above + sum(heights) + _BELOW
    sizes = {
        "left": _NAMES / width,
        "right": 1 - _SCORES / width,
        "top": 1 - above / height,
        "bottom": _BELOW / height,
        "hspace": 0.12,
        "wspace": _SCORES / _strip_width(width, len(titles)),
        "height_ratios": heights,
    }
    grid = figure.subplots(len(heights), len(titles), sharex=True, sharey=True, squeeze=False, gridspec_kw=sizes)
    for title, axes in zip(titles, grid[0], strict=True):
        axes.set_title(title, color=INK)
    return grid


def _fill(
    grid: Any,
    columns: Columns[T],
    draw: Callable[[Axes, T, Look], None],
    appearance: Mapping[str, Look],
    lines: Mapping[str, list[str]],
) -> None:
    """Draws a strip for each model and column, and names the models."""
    grid[0, 0].set_ylim(0, 1.04)  # all strips share it, and setting it again would visit all of them
    for (_, cells), column in zip(columns, grid.T, strict=True):
        for model, axes in zip(lines, column, strict=True):
            axes.tick_params(left=False, labelleft=False, bottom=axes is column[-1], labelbottom=axes is column[-1])
            axes.grid(axis="y", visible=False)
            if model in cells:
                draw(axes, cells[model], appearance[model])
    style: dict[str, Any] = {"color": INK, "fontsize": 8, "ha": "right", "va": "center", "multialignment": "left"}
    for text, axes in zip(lines.values(), grid[:, 0], strict=True):
        axes.text(-0.02, 0.45, "\n".join(text), linespacing=1.05, transform=axes.transAxes, **style)
