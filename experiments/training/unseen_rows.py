"""Accuracy on the test rows that training has not shown: short strings repeat, and what repeats can be memorised."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from experiments.config.run import Run
from experiments.model.streams import TEST, TRAIN, split_key
from experiments.tasks.base import Task
from experiments.training.evaluation import evaluate
from experiments.training.step import Program


def score_unseen_rows(run: Run, program: Program, params: Any, steps: int) -> dict[str, float | None]:
    """Tests on the test rows that differ from every row of training, if the rows of the task may repeat.

    Args:
      run: the run.
      program: compiled from it.
      params: those to be tested.
      steps: of training, the rows of which count as shown.

    Returns:
      repeated_rows, the share of test rows that training has shown, and unseen_accuracy, None where it has shown all;
      nothing for a task without `rows_repeat`.
    """
    if not run.task.rows_repeat:
        return {}
    seed, rows = jax.random.key(run.seed), run.eval.test_rows
    shown = shown_rows(run.task, seed, steps, run.train.batch_size, rows, run.eval.batch_size)
    accuracy = None
    if not shown.all():
        read = functools.partial(program.reader, params)
        accuracy = evaluate(read, split_key(seed, TEST), rows, counts=~shown).accuracy
    return {"repeated_rows": float(shown.mean()), "unseen_accuracy": accuracy}


def shown_rows(
    task: Task, seed: PRNGKeyArray, steps: int, train_batch: int, rows: int, test_batch: int
) -> Bool[np.ndarray, " rows"]:
    """Returns which of the first `rows` test rows training draws within `steps`: equal in inputs and context.

    Args:
      task: whose rows.
      seed: key of the run.
      steps: batches of training.
      train_batch: rows in each of them.
      rows: test rows.
      test_batch: rows in each batch of the test.
    """
    draw = _drawer(task)
    batches = range(-(-rows // test_batch))
    tested = [row for batch in batches for row in draw(split_key(seed, TEST), batch, test_batch)][:rows]
    wanted = set(tested)
    shown: set[bytes] = set()
    for step in range(steps):
        shown |= wanted.intersection(draw(split_key(seed, TRAIN), step, train_batch))
    return np.array([row in shown for row in tested])


@functools.lru_cache(maxsize=64)
def _drawer(task: Task) -> Callable[[PRNGKeyArray, int, int], list[bytes]]:
    """Returns (stream, number of the batch, its rows) -> one string of bytes per row; compiled once per task."""

    @functools.partial(jax.jit, static_argnums=2)
    def draw(stream: PRNGKeyArray, number: Any, rows: int) -> list[Array]:
        batch = task.sample(jax.random.fold_in(stream, number), rows)
        return [part.reshape(rows, -1) for part in (batch.inputs, batch.context) if part is not None]

    def spelled(stream: PRNGKeyArray, number: int, rows: int) -> list[bytes]:
        parts = [np.asarray(part) for part in draw(stream, number, rows)]
        return [b"".join(part[row].tobytes() for part in parts) for row in range(rows)]

    return spelled
