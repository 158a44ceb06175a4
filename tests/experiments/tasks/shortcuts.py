"""What shortcuts answer, row by row in NumPy: simulated against `Task.floors` and `Task.guess_rate`."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks import position_shortcuts
from tests.experiments.tasks.position_shortcuts import PLACES, Place, Table

Guess = Callable[[Task, Batch, int, np.random.Generator], np.ndarray]
Unseen = Callable[[Task, Batch, int, int], np.ndarray]


def _value_in_context(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    values = batch.inputs[row, 1 : 2 * int(batch.weights[row].sum()) : 2]
    return np.pad(rng.choice(values, len(values)), (0, batch.targets.shape[1] - len(values)))


def token_from(first: int) -> Guess:
    """Any token from `first` on."""
    return lambda task, batch, row, rng: rng.integers(first, task.vocab_size, batch.targets.shape[1])


def most_frequent_from(first: int) -> Guess:
    """The row's most frequent token among those from `first` on, the smallest of several."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        inputs = batch.inputs[row]
        return np.full(batch.targets.shape[1], np.bincount(inputs[inputs >= first]).argmax())

    return guess


def _most_frequent_but_the_last(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """The row's most frequent token among those unlike its last one, the smallest of several."""
    inputs = batch.inputs[row]
    return np.full(batch.targets.shape[1], np.bincount(inputs[inputs != inputs[-1]]).argmax())


def fitted(*places: Place, copies: bool = True) -> Guess:
    """What a table by place answers that is fitted on other rows; of several kinds of places the best one."""

    @functools.cache
    def table(task: Task) -> Table:
        rows = position_shortcuts.sample(task, 40_000, seed=21)
        tables = [position_shortcuts.fit(task, rows, place, copies=copies) for place in places]
        return max(tables, key=lambda table: position_shortcuts.score(task, rows, table))

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        return table(task).guesses(jax.tree.map(lambda array: array[row : row + 1], batch))[0]

    return guess


def in_rows_of_a_kind(place: Place) -> Place:
    """The place in rows with as many targets."""
    return lambda batch: place(batch) + batch.inputs.shape[1] * batch.weights.sum(axis=1, keepdims=True).astype(int)


def _unstated_values(task: Task, batch: Batch, row: int, column: int) -> np.ndarray:
    stated = np.delete(batch.targets[row][batch.weights[row] > 0], column)
    return np.setdiff1d(np.arange(task.vocab_size // 2, task.vocab_size), stated)


def _any_target(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    targets = batch.targets[batch.weights > 0]
    return rng.integers(targets.min(), targets.max() + 1, batch.targets.shape[1])


# Shortcut -> one row's answers, in whatever task.
COMMON: dict[str, Guess] = {
    "guess a token": _any_target,
    "always answer 0": lambda task, batch, row, rng: np.zeros_like(batch.targets[row]),
    "always answer 1": lambda task, batch, row, rng: np.ones_like(batch.targets[row]),
}

# (task, shortcut) -> one row's answers, from its inputs alone.
GUESSES: dict[tuple[str, str], Guess] = {
    ("mqar", "guess a value seen in context"): _value_in_context,
    ("mqar", "guess the value from the question's position alone"): fitted(in_rows_of_a_kind(PLACES["position"])),
    ("mqar", "guess the value from the question's rank alone"): fitted(in_rows_of_a_kind(PLACES["rank"])),
    ("selective_copying", "guess a data token"): token_from(2),
    ("selective_copying", "guess the row's most frequent data token"): most_frequent_from(2),
    ("selective_copying", "copy each answer from a fixed position"): fitted(PLACES["rank"]),
    ("induction", "guess the row's most frequent token"): _most_frequent_but_the_last,
}

# task -> the answers that the rest of the row leaves open for one target, as often as they are likely.
UNSEEN: dict[str, Unseen] = {
    "mqar": _unstated_values,
    "selective_copying": lambda task, batch, row, column: np.arange(2, task.vocab_size),
    "induction": lambda task, batch, row, column: np.delete(np.arange(task.vocab_size), batch.inputs[row, -1]),
}
