"""Pictures of a study as matplotlib figures: accuracy against cost, and learning curves; distance.py has one more."""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.summary import Row, Study
from experiments.table import human, wrap_spec

# Okabe and Ito's palette without yellow, told apart by people of every colour vision; then markers tell on.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT = "#22272e", "#8a929c"
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


def looks(study: Study) -> list[tuple[str, str]]:
    """Returns (colour, marker) of every row; they stay when the order of the rows changes. 49 differ."""
    names = sorted({study.label(row) for row in study.rows})
    places = [names.index(study.label(row)) for row in study.rows]
    return [(COLOURS[place % 7], MARKERS[(place + place // 7) % 7]) for place in places]


def accuracy_against_flops(study: Study) -> Figure:
    """Test accuracy against executed training FLOPs."""
    return _against(study, lambda row: row.mean("train_flops_executed"), "training FLOPs, executed (mean over seeds)")


def accuracy_against_state(study: Study) -> Figure:
    """Test accuracy against the bytes that decoding one sequence carries."""
    return _against(study, lambda row: row.mean("cache_bytes"), "decoding state per sequence, bytes", "B")


def _against(study: Study, cost: Callable[[Row], float | None], label: str, unit: str = "") -> Figure:
    """Accuracy with interval against `cost` on a logarithmic axis; a grey tick is the ceiling; labels in the margin."""
    figure, axes = _labelled_axes(len(study.rows))
    labels = []
    for row, (colour, marker) in zip(study.rows, looks(study), strict=True):
        x = cost(row)
        if row.accuracy is None or not x:
            continue
        mean, low, high = row.accuracy
        ceiling = row.mean("ceiling")
        if ceiling is not None:
            axes.plot([x, x], [mean, ceiling], color=colour, linewidth=1, linestyle=(0, (1, 2)), zorder=2)
            axes.plot([x], [ceiling], marker="_", markersize=14, markeredgewidth=1.6, color=colour, zorder=2)
        if len(row.accuracies) > 1:
            axes.plot([x, x], [low, high], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=3)
        axes.plot([x], [mean], marker=marker, markersize=8, color=colour, markeredgecolor="white", zorder=4)
        labels.append((mean, (x, mean), study.label(row), colour, marker))
    axes.set_xscale("log")
    _pad_log(axes)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(value, unit)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)
    _accuracy_axis(axes, study, "test accuracy")
    _margin_labels(axes, labels)
    return figure


def learning_curves(study: Study) -> Figure:
    """Validation accuracy by step: every seed thin, their median thick."""
    figure, axes = _labelled_axes(len(study.rows))
    labels = []
    for row, (colour, marker) in zip(study.rows, looks(study), strict=True):
        curves = [[(m["step"], m["validation_accuracy"]) for m in lines] for lines in row.metrics if lines]
        if not curves:
            continue
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), color=colour, linewidth=0.9, alpha=0.4)
        steps, median = _median_curve(curves)
        axes.plot(steps, median, color=colour, linewidth=2.2)
        axes.plot(steps[-1:], median[-1:], marker=marker, markersize=6, color=colour, markeredgecolor="white", zorder=4)
        labels.append((median[-1], (steps[-1], median[-1]), study.label(row), colour, marker))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("training step")
    _accuracy_axis(axes, study, "validation accuracy")
    _margin_labels(axes, labels)
    return figure


def _labelled_axes(rows: int) -> tuple[Figure, Axes]:
    """Returns axes with room for labels in the right margin."""
    figure = Figure(figsize=(8.2, max(4.1, 0.42 * rows + 1.2)))
    return figure, figure.add_axes((0.08, 0.13, 0.58, 0.82))


def _accuracy_axis(axes: Axes, study: Study, label: str) -> None:
    floors = [row.mean("floor") for row in study.rows]
    if None not in floors and len(set(floors)) == 1 and floors[0]:
        axes.axhline(floors[0], color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.text(0.01, floors[0] + 0.012, "floor", color=FAINT, fontsize=8, transform=axes.get_yaxis_transform())
    axes.set_ylim(0, 1.04)
    axes.set_ylabel(label)


def _pad_log(axes: Axes) -> None:
    """Shows a factor of 4 at least, so that nearly equal costs do not look different."""
    low, high = axes.get_xlim()
    middle, half = math.sqrt(low * high), max(math.sqrt(high / low) * 1.12, 2.0)
    axes.set_xlim(middle / half, middle * half)


def _margin_labels(axes: Axes, labels: list[tuple[float, tuple[float, float], str, str, str]]) -> None:
    """Writes every label beside its point, pushed apart where they would overlap, with a line to the point."""
    inches = axes.bbox.height / axes.get_figure(root=True).dpi  # type: ignore[union-attr]
    lines = [wrap_spec(text, 34) for _, _, text, _, _ in labels]
    order = sorted(range(len(labels)), key=lambda i: labels[i][0])
    unit = 0.155 / inches * 1.04  # one line of text, in accuracy
    heights = _spread([labels[i][0] for i in order], [unit * (len(lines[i]) + 0.7) for i in order], 0.0, 1.06)
    for place, i in zip(heights, order, strict=True):
        _, point, _, colour, marker = labels[i]
        right = axes.get_yaxis_transform()
        axes.annotate(
            "", xy=point, xytext=(1.035, place), textcoords=right, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "alpha": 0.55, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
        axes.plot([1.05], [place], marker=marker, markersize=6, color=colour, transform=right, clip_on=False)
        axes.text(
            1.075, place, "\n".join(lines[i]), color=INK, fontsize=9, va="center", linespacing=1.15, transform=right
        )


def _spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
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


def _median_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Returns the median over runs at every step; a run that stopped early keeps its last value."""
    steps = sorted({step for curve in curves for step, _ in curve})
    table = [np.interp(steps, [step for step, _ in curve], [score for _, score in curve]) for curve in curves]
    return steps, np.median(table, axis=0).tolist()
