"""The most that a model could get right: its ceiling, from attention patterns and the task's generator alone.

A layer's output at a position can depend on that position (the residual stream), on the few positions before it that
its convolutions see, and on those that its attention pattern lets it see. Composing the layers gives the inputs that
can move each output. Targets whose evidence is all within reach may be answered; the others can only be guessed.

The ceiling is an upper bound for the whole model: a convolution before a window extends the window's reach by its
kernel_size - 1. The published "share of queries whose value lies within the window" counts the window alone, even if
a convolution precedes it; that is `share_within(variant.pattern(...), task)`. With a vocabulary of 8192, guessing adds
less than 0.0003, so this share is also the ceiling of the window layer by itself.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from experiments.components.mixers import LayerSizes, Mixer
from experiments.components.reach import Moved, Reach, Runs, pattern_runs, spread
from experiments.config.run import Run
from experiments.tasks.base import Batch, Task

ROWS = 8192  # drawn to count targets within reach: always the same, so that equal models have equal ceilings
_ROWS_PER_BATCH = 256
# If rows are long, fewer are drawn, and fewer at once. Nothing changes up to 16,384 tokens, 2,048 targets and 16,384
# pieces of evidence per row, the evidence counted once for each target.
_MOST_TOKENS, _MOST_TARGETS, _MOST_PIECES, _TOKENS_PER_BATCH, _PIECES_PER_BATCH = 2**27, 2**24, 2**27, 2**22, 2**26
_WORD = np.dtype(np.uint64)
_MOVED_BYTES = 2**26  # of the inputs that are followed through the layers at once


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
    return _through(_steps(run, task), np.eye(_inputs(task), dtype=bool))


def model_reach(layers: Sequence[tuple[Mixer, LayerSizes]], length: int, causal: bool = True) -> Reach:
    """Returns which outputs [row] of the last layer can depend on which inputs [column] of the first."""
    return _follow(_layer_steps(layers, length, causal), np.eye(length, dtype=bool))


def share_within(reach: Reach, task: Task, rows: int = ROWS) -> float:
    """Returns the share of scored targets whose evidence is all within `reach`, such as one layer's pattern."""
    targets = _draw_targets(task, rows)
    return float(np.average(_within(reach, task, targets), weights=targets.weights))


def accuracy_within(reach: Reach, task: Task, rows: int = ROWS) -> float:
    """Returns the share within reach, plus the rest times the task's guess rate."""
    if _claims_no_bound(task):
        return 1.0
    targets = _draw_targets(task, rows)
    best = np.where(_within(reach, task, targets), 1.0, targets.guess_rate)
    return float(np.average(best, weights=targets.weights))


@functools.lru_cache(maxsize=64)
def _ceiling(run: Run, task: Task, rows: int) -> float:
    if _claims_no_bound(task):
        return 1.0
    targets = _draw_targets(task, rows)
    return float(np.average(_best_of(run, task, targets), weights=targets.weights))


@functools.lru_cache(maxsize=8)
def _best(run: Run) -> np.ndarray:
    """Returns the highest accuracy at each of the drawn targets."""
    return _best_of(run, run.task, _draw_targets(run.task, ROWS))


def _best_of(run: Run, task: Task, targets: "_Targets") -> np.ndarray:
    """Returns 1 for targets within reach and the guess rate for others.

    Only inputs that are evidence are followed through the layers, as many at once as memory allows.
    """
    steps, sources = _steps(run, task), np.unique(targets.evidence[targets.evidence >= 0])
    many = max(1, _MOVED_BYTES // _inputs(task) // _WORD.itemsize) * 8 * _WORD.itemsize
    seen = np.zeros(targets.evidence.shape, bool)
    for start in range(0, len(sources), many):
        some = sources[start : start + many]
        bits = _through(steps, _marked(_inputs(task), some)).view(np.uint8)
        here = (targets.evidence >= some[0]) & (targets.evidence <= some[-1])
        place = np.searchsorted(some, targets.evidence[here])
        outputs = np.broadcast_to(targets.positions[:, None], here.shape)[here]
        seen[here] = bits[outputs, place // 8] >> (place % 8) & 1
    return np.where(_enough(seen, task, targets), 1.0, targets.guess_rate)


def _marked(inputs: int, columns: np.ndarray) -> Moved:
    """Returns bits packed into words: each of `columns` moves the input of that number and no other."""
    words = -(-len(columns) // (8 * _WORD.itemsize))
    bits, place = np.zeros((inputs, words * _WORD.itemsize), np.uint8), np.arange(len(columns))
    bits[columns, place // 8] = 1 << (place % 8)
    return bits.view(_WORD)


class _Steps(NamedTuple):
    """How changes of the inputs spread through a model: for each layer, its runs, one after another."""

    length: int  # of the row; the inputs after it are those of the context
    layers: Sequence[Sequence[Runs]]
    encoder: Sequence[Sequence[Runs]]
    cross: Runs | None  # from the context into every layer
    mean: bool  # whether every earlier output moves the answer


def _steps(run: Run, task: Task) -> _Steps:
    encoder: Sequence[Sequence[Runs]] = ()
    length, cross, causal = task.input_length, None, task.causal and not run.model.bidirectional
    if task.context is not None:
        assert run.cross is not None  # Run.read builds it for every task with a context
        encoder = _layer_steps(run.built_encoder, task.context.length, causal=False)
        cross = pattern_runs(run.cross.variant, length, task.context.length, False)
    layers = _layer_steps(run.built, length, causal)
    return _Steps(length, layers, encoder, cross, run.model.readout == "mean")


def _layer_steps(layers: Sequence[tuple[Mixer, LayerSizes]], length: int, causal: bool) -> list[tuple[Runs, ...]]:
    known = {layer: layer[0].runs(layer[1], length, causal) for layer in dict.fromkeys(layers)}
    return [known[layer] for layer in layers]


def _through(steps: _Steps, moved: Moved) -> Moved:
    """Returns which columns move each output of the row, where `moved` says which move each input."""
    row, context = moved[: steps.length], moved[steps.length :]
    from_context = None if steps.cross is None else spread(steps.cross, _follow(steps.encoder, context))
    row = _follow(steps.layers, row, from_context)
    return np.bitwise_or.accumulate(row, axis=0) if steps.mean else row


def _follow(layers: Sequence[Sequence[Runs]], moved: Moved, more: Moved | None = None) -> Moved:
    """Passes `moved` through layers, each of which adds `more`."""
    for layer in layers:
        moved = functools.reduce(lambda before, runs: spread(runs, before), layer, moved)
        moved = moved if more is None else moved | more
    return moved


def _inputs(task: Task) -> int:
    return task.input_length + (task.context.length if task.context else 0)


class _Targets(NamedTuple):
    """Targets of many rows on one axis."""

    positions: Any
    evidence: Any  # [targets, n]
    weights: Any
    guess_rate: Any
    slices: dict[str, Any]


def _within(reach: Reach, task: Task, targets: _Targets) -> np.ndarray:
    return _enough(reach[targets.positions[:, None], targets.evidence], task, targets)


def _enough(seen: np.ndarray, task: Task, targets: _Targets) -> np.ndarray:
    """Returns which targets can be answered from what is seen of their evidence."""
    counts = targets.evidence >= 0
    return (seen & counts).any(axis=1) if task.any_evidence_suffices else (seen | ~counts).all(axis=1)


def _bins(item: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Returns the first value and the end of every bin of a slice."""
    if "edges" in item:
        return list(zip(item["edges"][:-1], item["edges"][1:], strict=True))
    return [(value, value + 1) for value in item["values"]]


def _mean_inside(best: np.ndarray, targets: _Targets, name: str, start: int, end: int) -> float | None:
    values = targets.slices[name]
    weights = targets.weights * ((values >= start) & (values < end))
    return float((best * weights).sum() / weights.sum()) if weights.sum() else None


@functools.lru_cache(maxsize=64)
def _claims_no_bound(task: Task) -> bool:
    """Whether a guess without any evidence may always be right; if so, targets, often whole rows, are not kept."""
    batch = _sample(task, _rows_per_batch(task), 0)
    return bool((task.guess_rate(batch)[np.asarray(batch.weights) > 0] == 1).all())


@functools.lru_cache(maxsize=8)
def _draw_targets(task: Task, rows: int) -> _Targets:
    drawn, at_once = [], _rows_per_batch(task)
    rows = _rows(task, rows)
    for step in range(-(-rows // at_once)):
        batch = _sample(task, min(rows, at_once), step)
        counts = np.asarray(batch.weights) > 0
        targets = _Targets(batch.positions, batch.evidence, batch.weights, task.guess_rate(batch), batch.slices)
        drawn.append(jax.tree.map(lambda array, counts=counts: np.asarray(array)[counts], targets))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *drawn)


def _rows(task: Task, rows: int) -> int:
    most = min(_MOST_TOKENS // _inputs(task), _MOST_TARGETS // task.num_scored(), _MOST_PIECES // _pieces(task))
    return max(1, min(rows, most))


def _rows_per_batch(task: Task) -> int:
    return max(1, min(_ROWS_PER_BATCH, _TOKENS_PER_BATCH // _inputs(task), _PIECES_PER_BATCH // _pieces(task)))


def _pieces(task: Task) -> int:
    """Returns the pieces of evidence of a row's targets, padding included."""
    _, scored, pieces = jax.eval_shape(lambda: task.sample(jax.random.key(0), 1)).evidence.shape
    return scored * pieces


def _sample(task: Task, rows: int, seed: int) -> Batch:
    return jax.tree.map(np.asarray, _sample_on_device(task, rows, jax.random.key(seed)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sample_on_device(task: Task, rows: int, rng: PRNGKeyArray) -> Batch:
    return task.sample(rng, rows)
