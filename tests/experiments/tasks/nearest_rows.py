"""What rows known by heart give away: answer as the most similar question that was seen, whatever the rule is.

Questions are compared by the tokens that have been read, from the question backwards: the fewer differ, the nearer.
"""

import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks import position_shortcuts

_READ = 64  # tokens that are compared
_KNOWN, _ASKED = 3000, 2000  # questions


def weak_floor(task: Task, *, known: int = _KNOWN, asked: int = _ASKED) -> str:
    """Returns by how much the nearest of `known` questions beats the task's best floor; "" if it does not."""
    train, test = (position_shortcuts.sample(task, 2000, seed) for seed in (13, 14))
    rng = np.random.default_rng(0)
    given, sought = _questions(train, known, rng), _questions(test, asked, rng)
    read, answers = _read(train, *given), train.targets[given]
    nearest = [int(np.count_nonzero(read != each, axis=1).argmin()) for each in _read(test, *sought)]
    guesses = np.array(test.targets)
    guesses[sought] = answers[nearest]
    right = task.correct(guesses, test)[sought]
    accuracy, error = float(right.mean()), float(right.std() / np.sqrt(len(right)))
    best, shortcut = max((floor, name) for name, floor in task.floors().items())
    if accuracy <= best + 4 * error + 0.002:  # some floors are estimates themselves
        return ""
    return f"{accuracy:.4f} +- {error:.4f}; the best floor is {best:.4f} ({shortcut})"


def _questions(batch: Batch, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of some targets, drawn among all that count."""
    rows, columns = np.nonzero(batch.weights > 0)
    chosen = rng.permutation(len(rows))[:most]
    return rows[chosen], columns[chosen]


def _read(batch: Batch, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns what had been read at each question, the token of the question first; -1 before the row begins."""
    inputs = batch.inputs.reshape(len(batch.inputs), -1)
    places = batch.positions[rows, columns][:, None] - np.arange(min(_READ, inputs.shape[1]))
    return np.where(places >= 0, inputs[rows[:, None], np.maximum(places, 0)], -1)
