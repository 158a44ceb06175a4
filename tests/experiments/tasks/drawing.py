"""Rows drawn by a task against rows drawn by an independent generator that follows the task's definition."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from scipy import stats

from experiments.tasks.base import Batch, Task

ROWS = 4000

# One row by definition: its tokens, and the answer at each position that is scored.
Generator = Callable[[np.random.Generator], tuple[list[int], dict[int, int]]]


@functools.cache
def sample(task: Task) -> Batch:
    quick = {"xla_backend_optimization_level": 0}  # compiling takes longer than drawing
    draw = jax.jit(task.sample, static_argnums=1, compiler_options=quick)
    return jax.tree.map(np.asarray, draw(jax.random.key(1), ROWS))


def same_distribution(one: np.ndarray, other: np.ndarray) -> bool:
    """Two samples; True unless chi-squared is sure that they differ. Kinds with few counts are taken together."""
    kinds, codes = np.unique(np.concatenate([one, other]), return_inverse=True)
    table = np.stack([np.bincount(part, minlength=len(kinds)) for part in np.split(codes, [len(one)])])
    rare = table.sum(axis=0) < 20
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    return stats.chi2_contingency(table[:, table.any(axis=0)]).pvalue > 1e-5


def assert_drawn_by(task: Task, generate: Generator) -> None:
    """Compares tokens, what is scored and answers by column, and tokens that stand 1, 2, 3, 7 or 12 columns apart."""
    rng, batch = np.random.default_rng(0), sample(task)
    rows, answers = np.zeros_like(batch.inputs), np.full_like(batch.inputs, -1)
    for row, answer in zip(rows, answers, strict=True):
        row[:], scored = generate(rng)
        for position, target in scored.items():
            answer[position] = target
    drawn = np.full_like(answers, -1)
    at, column = np.nonzero(batch.weights)
    drawn[at, batch.positions[at, column]] = batch.targets[at, column]
    for c in range(task.input_length):
        assert same_distribution(batch.inputs[:, c], rows[:, c]), f"tokens at {c}"
        assert same_distribution(drawn[:, c], answers[:, c]), f"answers at {c}"
        for d in (d for d in (1, 2, 3, 7, 12) if c + d < task.input_length):
            one, other = (inputs[:, c] * task.vocab_size + inputs[:, c + d] for inputs in (batch.inputs, rows))
            assert same_distribution(one, other), f"tokens at {c} and {c + d}"
    assert same_distribution((drawn >= 0).sum(axis=1), (answers >= 0).sum(axis=1)), "number of targets"
