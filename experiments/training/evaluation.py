"""Accuracy and loss over fixed rows, as a whole and by slice (query distance, depth, number of pairs ...)."""

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
    row_accuracy: float  # share of the rows whose answers are all right
    slices: dict[str, dict[str, list[Any]]]  # {name: {"values" or "edges", "accuracy", "count"}}


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
    right = ((whole.correct > 0) | ~scored).all(axis=1)
    correct, loss, weights, slices = jax.tree.map(lambda leaf: leaf[scored], tuple(whole))
    weights = weights.astype(np.float64)
    return Evaluation(
        accuracy=float(np.average(correct, weights=weights)),
        loss=float(np.average(loss, weights=weights)),
        row_accuracy=float(right[scored.any(axis=1)].mean()),
        slices={name: by_slice(values, correct, weights) for name, values in slices.items()},
    )


def by_slice(
    values: Int[np.ndarray, " targets"], correct: Float[np.ndarray, " targets"], weights: Float[np.ndarray, " targets"]
) -> dict[str, list[Any]]:
    """Returns accuracy by an integer property of the targets.

    Returns:
      {"values": [...], "accuracy": [...], "count": [...]}; where values exceed 15, {"edges": [...], ...} instead, with
      one edge more than bins: bin i holds edges[i] <= value < edges[i + 1], and edges are powers of two (and 0).
      The accuracy of an empty bin is None.
    """
    if values.max() <= _LAST_PLAIN_VALUE:
        labels, bins = np.unique(values, return_inverse=True)
        name, size = "values", len(labels)
    else:
        labels = np.concatenate([[0], 2 ** np.arange(int(values.max()).bit_length() + 1)])
        labels = labels[max(0, np.searchsorted(labels, values.min(), side="right") - 1) :]
        bins = np.searchsorted(labels, values, side="right") - 1
        name, size = "edges", len(labels) - 1
    total = np.bincount(bins, weights, size)
    right = np.bincount(bins, weights * correct, size)
    return {
        name: labels.tolist(),
        "accuracy": [float(r / t) if t > 0 else None for r, t in zip(right, total, strict=True)],
        "count": np.bincount(bins, minlength=size).tolist(),
    }
