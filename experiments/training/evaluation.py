"""Accuracy and loss over fixed rows, as a whole and by slice (query distance, depth, number of pairs ...).

Papers on copying and on state tracking count a row as right if all of its answers are. Here every target says so for
the row up to itself: at the last target that is the whole row, and at each target the row's beginning.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray

from experiments.model.objective import Readout

_LAST_PLAIN_VALUE = 15  # slices that reach no further are listed value by value, others in powers of two


class Evaluation(NamedTuple):
    """Means over all targets that count."""

    accuracy: float
    loss: float
    slices: dict[str, dict[str, list[Any]]]  # {name: {"values" or "edges", "accuracy", "count", "row_accuracy"}}
    row_accuracy: float  # share of the rows in which every target is right


def evaluate(
    read_batch: Callable[[PRNGKeyArray], Readout],
    stream: PRNGKeyArray,
    rows: int,
    counts: Bool[np.ndarray, " rows"] | None = None,
) -> Evaluation:
    """Evaluates on the first `rows` rows of a stream: batch i is drawn from fold_in(stream, i), every time the same.

    Args:
      read_batch: draws the batch of a key and compares the model's answers on it.
      stream: the key of a split.
      rows: rows that are read; those of the last batch beyond them are left out.
      counts: which of them count; None: all.
    """
    parts: list[Readout] = []
    left = rows
    while left > 0:
        parts.append(jax.tree.map(np.asarray, read_batch(jax.random.fold_in(stream, len(parts)))))
        left -= len(parts[-1].weights)
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:rows], *parts)
    scored = whole.weights > 0
    if counts is not None:
        scored &= counts[:, None]
    so_far, order = right_so_far(whole.correct > 0, scored, whole.positions), _in_order(scored, whole.positions)
    row = np.broadcast_to(np.arange(len(scored))[:, None], scored.shape)[scored]
    order, so_far = order[scored], so_far[scored]
    correct, loss, weights, slices, _ = jax.tree.map(lambda leaf: leaf[scored], tuple(whole))
    weights = weights.astype(np.float64)
    return Evaluation(
        accuracy=float(np.average(correct, weights=weights)),
        loss=float(np.average(loss, weights=weights)),
        slices={
            name: by_slice(values, correct, weights) | {"row_accuracy": rows_by_slice(values, row, order, so_far)}
            for name, values in slices.items()
        },
        row_accuracy=float(so_far[_last_of_each(row, order)].mean()),
    )


def right_so_far(
    correct: Bool[np.ndarray, "rows scored"],
    scored: Bool[np.ndarray, "rows scored"],
    positions: Int[np.ndarray, "rows scored"],
) -> Bool[np.ndarray, "rows scored"]:
    """Returns, for each target that counts, whether it and all targets read before it in its row are right."""
    order = np.argsort(_in_order(scored, positions), axis=1)
    right = np.logical_and.accumulate(np.take_along_axis(correct | ~scored, order, axis=1), axis=1)
    found = np.empty_like(right)
    np.put_along_axis(found, order, right, axis=1)
    return found


def _in_order(
    scored: Bool[np.ndarray, "rows scored"], positions: Int[np.ndarray, "rows scored"]
) -> Int[np.ndarray, "rows scored"]:
    """Returns how many targets of the row come before each; those that do not count come last, ties in their order."""
    places = np.where(scored, positions, np.iinfo(np.int32).max)
    return np.argsort(np.argsort(places, axis=1, kind="stable"), axis=1, kind="stable")


def _last_of_each(group: Int[np.ndarray, " targets"], order: Int[np.ndarray, " targets"]) -> Int[np.ndarray, " groups"]:
    """Returns the last target of each group of targets."""
    sorted_by = np.lexsort((order, group))
    ends = np.flatnonzero(np.diff(group[sorted_by], append=-1))
    return sorted_by[ends]


def rows_by_slice(
    values: Int[np.ndarray, " targets"],
    row: Int[np.ndarray, " targets"],
    order: Int[np.ndarray, " targets"],
    so_far: Bool[np.ndarray, " targets"],
) -> list[float | None]:
    """Returns, for each bin of `by_slice`, the share of rows that are right up to their last target in it.

    Args:
      values: an integer property of the targets. If it is one of the row, this is the share of rows that are right; if
        it counts targets, the share of beginnings that are.
      row: the row of each target.
      order: its place among the targets of the row.
      so_far: see `right_so_far`.
    """
    _, _, bins, size = _bins(values)
    last = _last_of_each(row * size + bins, order)
    rows, right = np.bincount(bins[last], minlength=size), np.bincount(bins[last], so_far[last], size)
    return [float(r / n) if n else None for r, n in zip(right, rows, strict=True)]


def by_slice(
    values: Int[np.ndarray, " targets"], correct: Float[np.ndarray, " targets"], weights: Float[np.ndarray, " targets"]
) -> dict[str, list[Any]]:
    """Returns accuracy by an integer property of the targets.

    Returns:
      {"values": [...], "accuracy": [...], "count": [...]}; where values exceed 15, {"edges": [...], ...} instead, with
      one edge more than bins: bin i holds edges[i] <= value < edges[i + 1], and edges are powers of two (and 0).
      The accuracy of an empty bin is None.
    """
    name, labels, bins, size = _bins(values)
    total = np.bincount(bins, weights, size)
    right = np.bincount(bins, weights * correct, size)
    return {
        name: labels.tolist(),
        "accuracy": [float(r / t) if t > 0 else None for r, t in zip(right, total, strict=True)],
        "count": np.bincount(bins, minlength=size).tolist(),
    }


def _bins(
    values: Int[np.ndarray, " targets"],
) -> tuple[str, Int[np.ndarray, " labels"], Int[np.ndarray, " targets"], int]:
    """Returns what the labels are, the labels, the bin of each target, and the number of bins."""
    if values.max() <= _LAST_PLAIN_VALUE:
        labels, bins = np.unique(values, return_inverse=True)
        return "values", labels, bins, len(labels)
    labels = np.concatenate([[0], 2 ** np.arange(int(values.max()).bit_length() + 1)])
    labels = labels[max(0, np.searchsorted(labels, values.min(), side="right") - 1) :]
    return "edges", labels, np.searchsorted(labels, values, side="right") - 1, len(labels) - 1
