"""Attention maps as pictures: a panel per head, what the pattern hides in grey, evidence framed."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from experiments.inspection.maps import Map, evidence_keys
from experiments.reporting.figures.style import COLOURS, HIDDEN, blank
from experiments.tasks.base import Batch, Task

MOST_CELLS = 256  # of a side; longer rows are drawn in bins
_LABELLED = 40  # tokens, at most
_PANEL = 3.2  # inches
_PER_LINE = 4
_POSITIVE = LinearSegmentedColormap.from_list("share", ["#ffffff", COLOURS[0]])
_SIGNED = LinearSegmentedColormap.from_list("weight", [COLOURS[1], "#ffffff", COLOURS[0]])


def draw_maps(maps: Sequence[Map], rows: Batch, row: int, task: Task) -> Figure:
    """Returns a picture of every head on one row.

    Weights are drawn as they are, from white at 0 to blue at the largest of the head, negative ones orange. Rows longer
    than `MOST_CELLS` are binned: a cell is the sum over its keys, averaged over its queries, as if a bin were a token.
    """
    panels = [(each, head) for each in maps for head in range(each.weights.shape[1])]
    columns = min(len(panels), _PER_LINE)
    lines = math.ceil(len(panels) / columns)
    figure = blank(_PANEL * columns, (_PANEL + 0.3) * lines)
    axes = figure.subplots(lines, columns, squeeze=False)
    for ax, (found, head) in zip(axes.flat, panels, strict=False):
        _draw(ax, found, head, rows, row, task)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    return figure


def binned(
    weights: Float[np.ndarray, "query_length key_length"], most: int
) -> Float[np.ndarray, "query_bins key_bins"]:
    """Returns at most `most` rows and columns: sums over the keys of a bin, means over its queries."""
    queries, keys = (np.arange(size) * min(most, size) // size for size in weights.shape)
    summed = np.zeros((len(weights), keys.max() + 1))
    np.add.at(summed.T, keys, weights.T)
    out = np.zeros((queries.max() + 1, summed.shape[1]))
    np.add.at(out, queries, summed)
    return out / np.bincount(queries)[:, None]


def hidden_cells(found: Map) -> Bool[np.ndarray, "query_bins key_bins"]:
    """Returns the cells of a map, binned as its weights are, in which the pattern hides every key from every query."""
    seen = binned(found.pattern.astype(float), MOST_CELLS)
    return seen == 0


def _draw(ax: Axes, found: Map, head: int, rows: Batch, row: int, task: Task) -> None:
    weights = binned(found.by_token[row, head], MOST_CELLS)
    largest = float(np.abs(weights).max()) or 1.0
    signed = bool((weights < -1e-6 * largest).any())
    shown = np.ma.masked_array(weights, hidden_cells(found))
    colours = (_SIGNED if signed else _POSITIVE).with_extremes(bad=HIDDEN)
    ax.imshow(shown, cmap=colours, vmin=-largest if signed else 0, vmax=largest, interpolation="nearest")
    ax.grid(False)
    ax.set_xlabel("key")
    ax.set_ylabel("query")
    ax.set_title(f"{found.site}, head {head + 1}, up to {largest:.2g}")
    if found.site.part != "encoder":
        _frame_evidence(ax, found, rows, row)
    if found.site.part == "mixer":
        _label(ax, rows, row, task)


def _frame_evidence(ax: Axes, found: Map, rows: Batch, row: int) -> None:
    queries, keys = found.pattern.shape
    if max(queries, keys) > MOST_CELLS:
        return
    first = np.asarray(rows.inputs).shape[1] if found.site.part == "cross" else 0
    marked: Bool[np.ndarray, "query_length key_length"] = evidence_keys(rows, (queries, keys), first)[row]
    places = np.argwhere(marked)
    side = max(4.0, 180 / max(queries, keys))  # points; larger than a cell, so that the cell stays visible
    ax.scatter(
        places[:, 1], places[:, 0], s=side**2, marker="s", facecolors="none", edgecolors="#22272e", linewidths=0.7
    )


def _label(ax: Axes, rows: Batch, row: int, task: Task) -> None:
    tokens = np.asarray(rows.inputs)[row]
    if tokens.ndim > 1 or len(tokens) > _LABELLED:
        return
    texts = [task.token_text(int(token)) for token in tokens]
    places = range(len(texts))
    ax.set_xticks(places, texts, rotation=90, fontsize=6)
    ax.set_yticks(places, texts, fontsize=6)
