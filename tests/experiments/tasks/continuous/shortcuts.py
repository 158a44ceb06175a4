"""What shortcuts answer in tasks of numbers, of two sequences and of one vector, row by row in NumPy."""

import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks.shortcuts import Guess, Unseen, most_frequent_from

_UNIFORM = (np.arange(330) + 0.5) / 330


def _image_of_the_most_frequent(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    string = batch.context[row][batch.context[row] > 0]
    return np.full(batch.targets.shape[1], task.image_of[np.bincount(string).argmax()])


def _image_of_a_fixed_place(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """What is asked at each place if the string is the shortest that has one there."""
    source = np.maximum(task.min_length - 1 - np.arange(batch.targets.shape[1]), 0)
    return task.image_of[batch.context[row][source]]


def _average_of_the_examples(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """mean(y x), scaled for the least error."""
    inputs = batch.inputs[row].astype(np.float64)
    x, y = inputs[::2, : task.dim], inputs[1::2, task.dim]
    return task.num_pairs / (task.num_pairs + task.dim + 1) * np.mean(y[:, None] * x[:-1], axis=0) @ x[-1:].T


GUESSES: dict[tuple[str, str], Guess] = {
    ("compression", "guess the row's most frequent token"): most_frequent_from(1),
    ("in_context_regression", "average the examples"): _average_of_the_examples,
    ("translation", "guess the image of the most frequent token"): _image_of_the_most_frequent,
    ("translation", "translate a fixed place, whatever the length"): _image_of_a_fixed_place,
}

UNSEEN: dict[str, Unseen] = {
    "compression": lambda task, batch, row, column: np.arange(1, task.vocab_size),
    "adding": lambda task, batch, row, column: batch.inputs[row, batch.evidence[row, column, 0], 0] + _UNIFORM,
    "translation": lambda task, batch, row, column: np.arange(1, task.vocab_size),
}
