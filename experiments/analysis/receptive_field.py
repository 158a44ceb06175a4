"""What a model could get right at all: its ceiling, from attention patterns and the task's generator alone.

A layer's output at a position can depend on that position (the residual stream), on the few positions before it that
its convolutions see, and on those that its attention pattern lets it see. Composing the layers gives the inputs that
can move each output. Targets whose evidence is all within reach may be answered; the others can only be guessed.

The ceiling is an upper bound for the whole model: a convolution before a window carries the window's reach back by its
kernel_size - 1. The published "share of queries whose value lies within the window" counts the window alone, even if
a convolution precedes it; that is `share_within(variant.pattern(...), task)`. With a vocabulary of 8192 guessing adds
less than 0.0003, so it is also the ceiling of the window layer by itself.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from experiments.components.attention import compose
from experiments.components.mixers import LayerSizes, Mixer, Reach
from experiments.config.run import Run
from experiments.tasks.base import Batch, Task

ROWS = 8192  # drawn to count targets within reach: always the same, so that equal models have equal ceilings
_ROWS_PER_BATCH = 256


def ceiling(run: Run, task: Task, rows: int = ROWS) -> float:
    """Returns the highest accuracy that a run's model can have on a task, its own or another one."""
    return _ceiling(run.cell, task, rows)


def slice_ceilings(run: Run, slices: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Returns the ceiling of every bin of the slices of a test on the run's own task.

    Args:
      run: the run.
      slices: {name: {"values" or "edges"}}, as `evaluation.by_slice` returns them.

    Returns:
      {name: ceiling of each bin}; None where the drawn rows have no target in a bin.
    """
    targets, best = _draw_targets(run.task, ROWS), _best(run.cell)
    return {
        name: [_mean_inside(best, targets, name, start, end) for start, end in _bins(item)]
        for name, item in slices.items()
    }


def task_reach(run: Run, task: Task) -> Reach:
    """Returns which outputs [row] depend on which inputs [column]: those of the row, then those of the context."""
    causal = task.causal and not run.model.bidirectional
    if task.context is None:
        reach = model_reach(run.layers, run.sizes, task.input_length, causal)
    else:
        reach = _reach_with_context(run, task.input_length, task.context.length, causal)
    if run.model.readout == "mean":  # every input before moves the mean
        reach = np.logical_or.accumulate(reach, axis=0)
    return reach


def model_reach(layers: Sequence[Mixer], sizes: LayerSizes, length: int, causal: bool = True) -> Reach:
    """Returns which outputs [row] of the last layer can depend on which inputs [column] of the first."""
    reaches = [mixer.reach(sizes, length, causal) for mixer in layers]
    return functools.reduce(lambda inner, outer: compose(outer, inner), reaches)


def share_within(reach: Reach, task: Task, rows: int = ROWS) -> float:
    """Returns the share of scored targets whose evidence is all within `reach`, such as one layer's pattern."""
    targets = _draw_targets(task, rows)
    return float(np.average(_within(reach, task, targets), weights=targets.weights))


def accuracy_within(reach: Reach, task: Task, rows: int = ROWS) -> float:
    """Returns the share within reach, plus the rest times the task's guess rate."""
    if _claims_no_bound(task):
        return 1.0
    targets = _draw_targets(task, rows)
    return float(np.average(_guessed(reach, task, targets), weights=targets.weights))


@functools.lru_cache(maxsize=64)
def _ceiling(run: Run, task: Task, rows: int) -> float:
    return accuracy_within(task_reach(run, task), task, rows)


@functools.lru_cache(maxsize=8)
def _best(run: Run) -> np.ndarray:
    """Returns the highest accuracy at each of the drawn targets."""
    return _guessed(task_reach(run, run.task), run.task, _draw_targets(run.task, ROWS))


def _reach_with_context(run: Run, length: int, context_length: int, causal: bool) -> Reach:
    assert run.cross is not None  # Run.read builds it for every task with a context
    encoded = model_reach(run.encoder, run.sizes, context_length, causal=False)
    across = run.cross.variant.pattern(length, context_length, False)
    from_context = np.hstack([np.zeros((length, length), bool), compose(across, encoded)])
    reach = np.hstack([np.eye(length, dtype=bool), np.zeros((length, context_length), bool)])
    for mixer in run.layers:
        reach = compose(mixer.reach(run.sizes, length, causal), reach) | from_context
    return reach


class _Targets(NamedTuple):
    """Targets of many rows on one axis."""

    positions: Any
    evidence: Any  # [targets, n]
    weights: Any
    guess_rate: Any
    slices: dict[str, Any]


def _guessed(reach: Reach, task: Task, targets: _Targets) -> np.ndarray:
    """Returns 1 for targets within reach and the guess rate for others."""
    return np.where(_within(reach, task, targets), 1.0, targets.guess_rate)


def _within(reach: Reach, task: Task, targets: _Targets) -> np.ndarray:
    seen, counts = reach[targets.positions[:, None], targets.evidence], targets.evidence >= 0
    return (seen & counts).any(axis=1) if task.any_evidence_suffices else (seen | ~counts).all(axis=1)


def _bins(item: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Returns first value and end of every bin of a slice."""
    if "edges" in item:
        return list(zip(item["edges"][:-1], item["edges"][1:], strict=True))
    return [(value, value + 1) for value in item["values"]]


def _mean_inside(best: np.ndarray, targets: _Targets, name: str, start: int, end: int) -> float | None:
    values = targets.slices[name]
    weights = targets.weights * ((values >= start) & (values < end))
    return float((best * weights).sum() / weights.sum()) if weights.sum() else None


@functools.lru_cache(maxsize=64)
def _claims_no_bound(task: Task) -> bool:
    """Whether a guess without any evidence may always be right: then no targets, often of the whole row, are kept."""
    batch = _sample(task, _ROWS_PER_BATCH, 0)
    return bool((task.guess_rate(batch)[np.asarray(batch.weights) > 0] == 1).all())


@functools.lru_cache(maxsize=8)
def _draw_targets(task: Task, rows: int) -> _Targets:
    drawn = []
    for step in range(-(-rows // _ROWS_PER_BATCH)):
        batch = _sample(task, min(rows, _ROWS_PER_BATCH), step)
        counts = np.asarray(batch.weights) > 0
        targets = _Targets(batch.positions, batch.evidence, batch.weights, task.guess_rate(batch), batch.slices)
        drawn.append(jax.tree.map(lambda array, counts=counts: np.asarray(array)[counts], targets))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *drawn)


def _sample(task: Task, rows: int, seed: int) -> Batch:
    return jax.tree.map(np.asarray, _sample_on_device(task, rows, jax.random.key(seed)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sample_on_device(task: Task, rows: int, rng: PRNGKeyArray) -> Batch:
    return task.sample(rng, rows)
