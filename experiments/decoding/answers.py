"""What a model answers on rows of a task, with the right answers read afterwards, or with its own."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.decoding.decoder import Decoded
from experiments.tasks.base import Batch, Task


class Score(NamedTuple):
    """Shares that were answered right."""

    tokens: float
    whole: float  # of whole answers: every token of it is right


def own_tokens(task: Task, rows: Batch) -> Bool[np.ndarray, "batch length"]:
    """Returns which tokens of the rows are the right answer to the token before, so that a model can be given its own.

    All are false for tasks whose rows do not continue with their answers (`Task.answers_follow`), and where other
    answers are equally right: what is right after one of these is not known.
    """
    tokens, places, targets, weights = _arrays(rows)
    own = np.zeros(tokens.shape, bool)
    if not task.answers_follow or rows.also_right is not None:
        return own
    row, answer = np.nonzero(weights > 0)
    after, right = places[row, answer] + 1, targets[row, answer]
    inside = after < tokens.shape[1]
    row, after, right = row[inside], after[inside], right[inside]
    own[row, after] = tokens[row, after] == right
    return own


def whole_answers(rows: Batch, own: Bool[np.ndarray, "batch length"]) -> Int[np.ndarray, "batch scored"]:
    """Returns which whole answer, counted over all rows from 0, each target is a token of; -1 for padding.

    A whole answer is the tokens at successive places, where each place but the first reads the answer before it.
    """
    _, places, _, weights = _arrays(rows)
    scored = weights > 0
    order = np.argsort(np.where(scored, places, np.iinfo(places.dtype).max), axis=1, kind="stable")
    inverse = np.argsort(order, axis=1, kind="stable")
    sorted_places, sorted_scored = (np.take_along_axis(array, order, axis=1) for array in (places, scored))
    goes_on = np.zeros(places.shape, bool)
    goes_on[:, 1:] = sorted_places[:, 1:] == sorted_places[:, :-1] + 1
    goes_on &= np.take_along_axis(own, sorted_places, axis=1)
    number = np.cumsum(sorted_scored & ~goes_on).reshape(places.shape) - 1
    return np.where(scored, np.take_along_axis(number, inverse, axis=1), -1)


def right_answers(task: Task, rows: Batch, decoded: Decoded) -> Bool[np.ndarray, "batch scored"]:
    """Returns which targets a model got right; any value for padding."""
    _, places, _, _ = _arrays(rows)
    return np.asarray(task.correct(np.take_along_axis(np.asarray(decoded.answers), places, axis=1), rows))


def score(
    right: Bool[np.ndarray, "batch scored"],
    weights: Float[np.ndarray, "batch scored"],
    whole: Int[np.ndarray, "batch scored"],
) -> Score:
    """Returns the shares of tokens, by weight, and of whole answers that are right."""
    weights = np.asarray(weights, np.float64)
    scored = whole >= 0
    wrong = np.bincount(whole[scored], ~right[scored])
    return Score(float(np.average(right, weights=weights)), float(np.mean(wrong == 0)))


def _arrays(rows: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return tuple(np.asarray(part) for part in (rows.inputs, rows.positions, rows.targets, rows.weights))  # type: ignore
