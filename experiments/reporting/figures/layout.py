"""What the pictures of a study share: style and looks, a panel for each task or a strip for each model."""

import contextlib
import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase

from experiments.studies.results import Row, Study, task_differences
from experiments.table import wrap_spec
from experiments.tasks.registry import make_task

# Okabe and Ito's palette without yellow, told apart by people of every colour vision; then markers tell on.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT = "#22272e", "#8a929c"
HIDDEN = "#dfe3e8"  # what an attention pattern cannot reach
DASHES = (0, (4, 3))  # of floors
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": "#b8bec6",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.grid": True,
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "svg.hashsalt": "attention-variants",  # the same file for the same numbers
}
T = TypeVar("T")
_WIDTH = 9.2  # inches, of figures with several panels
_STRIP, _NAMES, _SCORES = 0.27, 3.3, 0.5  # inches: height of a strip, widths of names and scores beside it
_LEAST_STRIP, _BELOW = 1.1, 0.55  # inches: of width, and below the lowest strip, for the axis


class Look(NamedTuple):
    """What tells a model from the others."""

    colour: str
    marker: str


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within it, figures are drawn in the style of the reports."""
    with matplotlib.rc_context(_STYLE):
        yield


def save(figure: Figure, kind: str) -> bytes:
    """Returns the figure as the bytes of an "svg" or "png" file, without a date in it."""
    out = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(out, format=kind, dpi=160, facecolor="white", bbox_inches="tight", metadata=metadata)
    return out.getvalue()


def looks(study: Study) -> dict[str, Look]:
    """Returns the look of each model, the same in all tasks; it stays when the order changes."""
    return looks_of(study.models)


def looks_of(models: Iterable[str]) -> dict[str, Look]:
    """Returns a look for each name; 49 differ."""
    places = {model: place for place, model in enumerate(sorted(models))}
    return {model: Look(COLOURS[n % 7], MARKERS[(n + n // 7) % 7]) for model, n in places.items()}


def mark_style(study: Study, look: Look, size: float) -> dict[str, Any]:
    """Returns how a mark of a model is drawn; of several tasks hollow, so that equal scores do not hide each other."""
    style = {"marker": look.marker, "markersize": size, "color": look.colour, "markeredgecolor": "white"}
    if len(study.by_task) == 1 or many(study):
        return style
    hollow = {"markeredgecolor": look.colour, "markeredgewidth": 1.5, "markerfacecolor": f"{look.colour}30"}
    return style | hollow | {"clip_on": False}


def many(study: Study) -> bool:
    """Returns whether colours repeat, so that lines in one panel could not be told apart; points carry numbers then."""
    return len(study.by_task) > 1 and len(study.models) > len(COLOURS)


def names(study: Study) -> dict[str, str]:
    """Returns what legends call each model, best first; with a number where `many`."""
    if not many(study):
        return {model: model for model in study.models}
    return {model: f"{number}  {model}" for number, model in enumerate(study.models, 1)}


def tasks(study: Study) -> list[tuple[str, list[Row]]]:
    """Returns (title, rows) of every task: its name and the fields in which tasks differ; or else the whole spec."""
    specs, differences = list(study.by_task), task_differences(list(study.by_task))
    titles = specs
    if differences and differences[0]:
        fields = [",".join(f"{name}={value}" for name, value in values.items()) for values in differences]
        titles = [f"{spec.partition(':')[0].strip()} {text}" for spec, text in zip(specs, fields, strict=True)]
    rank = study.models.index
    ordered = [sorted(rows, key=lambda row: rank(study.model(row))) for rows in study.by_task.values()]
    return list(zip(titles, ordered, strict=True))


def panels(
    study: Study, chosen: Sequence[tuple[str, list[Row]]] | None = None
) -> tuple[Figure, list[tuple[Axes, list[Row]]]]:
    """Returns a figure and a panel per task with its rows; the panel of a single task has a wide right margin.

    Args:
      study: of one task or several.
      chosen: those of `tasks(study)` to draw; all where not given.
    """
    if len(study.by_task) == 1:
        figure, axes = labelled_axes(len(study.rows))
        return figure, [(axes, list(study.rows))]
    chosen = chosen or tasks(study)
    figure, grid = panel_grid([title for title, _ in chosen], tall=many(study))
    return figure, [(axes, rows) for axes, (_, rows) in zip(grid, chosen, strict=True)]


def panel_grid(titles: Sequence[str], *, tall: bool = False) -> tuple[Figure, list[Axes]]:
    """Returns a figure and a panel under each title."""
    columns = min(len(titles), 2 if len(titles) in (2, 4) else 3)
    height = math.ceil(len(titles) / columns)
    panel = 4.6 if tall else 2.8 if columns < 3 else 2.5
    figure = Figure(figsize=(_WIDTH, panel * height + 0.5), layout="constrained")
    grid = list(figure.subplots(height, columns, sharey=True, squeeze=False).ravel())
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title("\n".join(wrap_spec(title, 96 // columns)), color=INK)
    for axes in grid[len(titles) :]:
        axes.set_axis_off()
    return figure, grid[: len(titles)]


def labelled_axes(rows: int) -> tuple[Figure, Axes]:
    """Returns axes with room for labels in the right margin."""
    figure = Figure(figsize=(8.2, max(4.1, 0.42 * rows + 1.2)))
    return figure, figure.add_axes((0.08, 0.13, 0.58, 0.82))


def accuracy_axis(axes: Axes, rows: Sequence[Row], label: str) -> None:
    """Shows accuracy from 0 to 1, and the floor where `rows` share one; only panels at the left edge carry `label`."""
    floors = [row.mean("floor") for row in rows]
    if None not in floors and len(set(floors)) == 1 and floors[0]:
        axes.axhline(floors[0], color=FAINT, linewidth=1, linestyle=DASHES, zorder=1)
        axes.text(0.01, floors[0] + 0.012, "floor", color=FAINT, fontsize=8, transform=axes.get_yaxis_transform())
    axes.set_ylim(0, 1.04)
    place = axes.get_subplotspec()
    if place is None or place.is_first_col():
        axes.set_ylabel(accuracy_label(rows, label))


def accuracy_label(rows: Iterable[Row], label: str) -> str:
    """Returns `label`, and what counts as right where the answers of `rows` are numbers."""
    return f"{label}\n(within tolerance)" if any(_has_tolerance(row.config["task"]) for row in rows) else label


@functools.lru_cache(maxsize=64)
def _has_tolerance(spec: str) -> bool:
    try:
        return make_task(spec).tolerance is not None
    except ValueError:  # the results of a version that had what this one has not
        return False


def strips(
    study: Study, columns: Mapping[str, Mapping[str, T]], draw: Callable[[Axes, T, Look], None], label: str
) -> Figure:
    """Returns a figure with a low strip for each model in each of `columns`, for lines too many to share a panel.

    Args:
      study: whose models are named at the left, best first.
      columns: heading -> model -> what `draw` is given beside axes and look.
      draw: draws one strip.
      label: of the common x axis.
    """
    return stacked_strips(study, [columns], draw, label)


def stacked_strips(
    study: Study, blocks: Sequence[Mapping[str, Mapping[str, T]]], draw: Callable[[Axes, T, Look], None], label: str
) -> Figure:
    """Returns a figure with the strips of each of `blocks` below those of the one before; see `strips`."""
    width = max(_WIDTH, _NAMES + max(map(len, blocks)) * (_LEAST_STRIP + _SCORES))
    lines = {model: wrap_spec(text, 46) for model, text in names(study).items()}
    heights = [max(_STRIP, 0.13 * len(text) + 0.04) for text in lines.values()]
    titles = [_strip_titles(width, columns) for columns in blocks]
    above = max(0.4, 0.1 + 0.17 * max(title.count("\n") + 1 for block in titles for title in block))
    height = above + sum(heights) + _BELOW
    figure = Figure(figsize=(width, height * len(blocks)))
    parts = [figure] if len(blocks) == 1 else figure.subfigures(len(blocks), 1, squeeze=False).ravel()
    for part, columns, headings in zip(parts, blocks, titles, strict=True):
        grid = _strip_grid(part, width, heights, above, headings)
        _fill_strips(grid, columns, draw, looks(study), lines)
        part.supxlabel(
            label, fontsize=10, color=INK, y=0.08 / height, va="bottom", x=0.5 + 0.5 * (_NAMES - _SCORES) / width
        )
    return figure


def _strip_titles(width: float, columns: Mapping[str, Any]) -> list[str]:
    """Returns the headings of `columns` in lines that fit above their strips."""
    return ["\n".join(wrap_spec(title, int(12 * _strip_width(width, len(columns))))) for title in columns]


def _strip_width(width: float, columns: int) -> float:
    return (width - _NAMES) / columns - _SCORES


def _strip_grid(figure: FigureBase, width: float, heights: Sequence[float], above: float, titles: Sequence[str]) -> Any:
    """Returns axes [strip, column] under `titles`, for which `above` inches are kept, all with the same axis."""
    strip, height = _strip_width(width, len(titles)), above + sum(heights) + _BELOW
    grid = figure.subplots(
        len(heights), len(titles), sharex=True, sharey=True, squeeze=False,
        gridspec_kw={
            "left": _NAMES / width, "right": 1 - _SCORES / width, "top": 1 - above / height, "bottom": _BELOW / height,
            "hspace": 0.12, "wspace": _SCORES / strip, "height_ratios": heights,
        },
    )  # fmt: skip
    for title, axes in zip(titles, grid[0], strict=True):
        axes.set_title(title, color=INK)
    return grid


def _fill_strips(
    grid: Any,
    columns: Mapping[str, Mapping[str, T]],
    draw: Callable[[Axes, T, Look], None],
    appearance: Mapping[str, Look],
    lines: Mapping[str, list[str]],
) -> None:
    """Draws a strip for each model and column, and names the models."""
    for cells, column in zip(columns.values(), grid.T, strict=True):
        for model, axes in zip(lines, column, strict=True):
            axes.set_ylim(0, 1.04)
            axes.tick_params(left=False, labelleft=False, bottom=axes is column[-1], labelbottom=axes is column[-1])
            axes.grid(axis="y", visible=False)
            if model in cells:
                draw(axes, cells[model], appearance[model])
    for text, axes in zip(lines.values(), grid[:, 0], strict=True):
        axes.text(
            -0.02, 0.45, "\n".join(text), color=INK, fontsize=8, ha="right", va="center", multialignment="left",
            linespacing=1.05, transform=axes.transAxes,
        )  # fmt: skip


def score_strip(axes: Axes, row: Row) -> None:
    """Writes the test accuracy of `row` to the right of its strip, and marks its floor."""
    floor = row.mean("floor")
    if floor:
        axes.axhline(floor, color=FAINT, linewidth=0.7, linestyle=DASHES, zorder=1)
    write_score(axes, row)


def write_score(axes: Axes, row: Row) -> None:
    """Writes the test accuracy of `row` to the right of its strip."""
    if row.accuracy:
        axes.text(1.015, 0.45, f"{row.accuracy[0]:.2f}", color=INK, fontsize=8, va="center", transform=axes.transAxes)
