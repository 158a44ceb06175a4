"""What a model could get right at all: its ceiling, from attention patterns and the task's generator alone.

A layer's output at a position can depend on that position (the residual stream), on the few positions before it that
its convolutions see, and on those that its attention pattern lets it see. Composing the layers says which inputs can
move which outputs. Targets whose evidence is all within reach may be answered; the others can only be guessed.

The ceiling is an upper bound for the whole model: a convolution before a window carries the window's reach back by its
kernel_size - 1. The published "share of queries whose value lies within the window" counts the window alone, even where
a convolution precedes it; that is `share_within(variant.pattern(...), task)`. With a vocabulary of 8192 guessing adds
less than 0.0003, so it is also the ceiling of the window layer by itself.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from experiments.components.mixers import LayerMixer, causal_taps
from experiments.config import schema as settings
from experiments.config.schema import ModelConfig
from experiments.model.layers import Mixer, cross_variant, encoder_mixers, layer_mixers
from experiments.tasks.base import Batch, Task

Reach = Bool[np.ndarray, "output_length input_length"]

_ROWS_PER_BATCH = 256


def ceiling(config: Mapping[str, Any], rows: int = 8192) -> float:
    """Returns the highest accuracy that a run's model can have.

    Args:
      config: a nested dict shaped like `configs/base.py`.
      rows: drawn from the generator, always the same ones, so that equal models have equal ceilings under every seed.
    """
    run = settings.read(config)
    return task_ceiling(run.model, run.task, rows)


@functools.lru_cache(maxsize=64)
def task_ceiling(model: ModelConfig, task: Task, rows: int = 8192) -> float:
    """Returns `ceiling` of a model on a task."""
    return accuracy_within(task_reach(model, task), task, rows)


def task_reach(model: ModelConfig, task: Task) -> Reach:
    """Returns which outputs [row] depend on which inputs [column]: those of the row, then those of the context."""
    mixers, causal = layer_mixers(model), task.causal and not model.bidirectional
    if task.context is None:
        reach = model_reach(mixers, task.input_length, causal, model.short_conv)
    else:
        reach = _reach_with_context(model, mixers, task.input_length, task.context.length, causal)
    if model.readout == "mean":  # every input before moves the mean
        reach = np.logical_or.accumulate(reach, axis=0)
    return reach


def _reach_with_context(
    model: ModelConfig, mixers: Sequence[Mixer], length: int, context_length: int, causal: bool
) -> Reach:
    encoded = model_reach(encoder_mixers(model), context_length, causal=False, short_conv=model.short_conv)
    across = cross_variant(model).pattern(length, context_length, False)
    from_context = np.hstack([np.zeros((length, length), bool), _compose(across, encoded)])
    reach = np.hstack([np.eye(length, dtype=bool), np.zeros((length, context_length), bool)])
    for mixer in mixers:
        reach = _compose(layer_reach(mixer, length, causal, model.short_conv), reach) | from_context
    return reach


def model_reach(mixers: Sequence[Mixer], length: int, causal: bool = True, short_conv: int = 0) -> Reach:
    """Returns which outputs [row] of the last layer can depend on which inputs [column] of the first."""
    layers = [layer_reach(mixer, length, causal, short_conv) for mixer in mixers]
    return functools.reduce(lambda inner, outer: _compose(outer, inner), layers)


def layer_reach(mixer: Mixer, length: int, causal: bool = True, short_conv: int = 0) -> Reach:
    """Returns the reach of one layer.

    Args:
      mixer: an attention variant or another layer mixer.
      length: tokens per row.
      causal: whether queries see only keys at their own position and before.
      short_conv: taps of the causal convolution in front of the attention's projections; 0: none.
    """
    if isinstance(mixer, LayerMixer):
        return mixer.reach(length)
    taps = causal_taps(length, max(1, short_conv))  # includes the residual stream
    pattern = mixer.pattern(length, length, causal)
    return taps | (_compose(pattern, taps) if short_conv > 1 else pattern)


def share_within(reach: Reach, task: Task, rows: int = 8192) -> float:
    """Returns the share of scored targets whose evidence is all within `reach`, such as one layer's pattern."""
    return _expected(reach, task, rows, guess=False)


def accuracy_within(reach: Reach, task: Task, rows: int = 8192) -> float:
    """Returns the share within reach, plus the rest times the task's guess rate."""
    return _expected(reach, task, rows, guess=True)


def _expected(reach: Reach, task: Task, rows: int, guess: bool) -> float:
    if guess and _claims_no_bound(task):
        return 1.0
    targets = _draw_targets(task, rows)
    seen, counts = reach[targets.positions[:, None], targets.evidence], targets.evidence >= 0
    within = (seen & counts).any(axis=1) if task.any_evidence_suffices else (seen | ~counts).all(axis=1)
    return float(np.average(np.where(within, 1.0, targets.guess_rate if guess else 0.0), weights=targets.weights))


@functools.lru_cache(maxsize=64)
def _claims_no_bound(task: Task) -> bool:
    """Whether whoever sees nothing may be right all the same: then no evidence, often the whole row, need be kept."""
    batch = _sample(task, _ROWS_PER_BATCH, 0)
    return bool((task.guess_rate(batch)[np.asarray(batch.weights) > 0] == 1).all())


class _Targets(NamedTuple):
    """Targets of many rows on one axis."""

    positions: Any
    evidence: Any  # [targets, n]
    weights: Any
    guess_rate: Any


@functools.lru_cache(maxsize=8)
def _draw_targets(task: Task, rows: int) -> _Targets:
    drawn = []
    for step in range(-(-rows // _ROWS_PER_BATCH)):
        batch = _sample(task, min(rows, _ROWS_PER_BATCH), step)
        targets = _Targets(batch.positions, batch.evidence, batch.weights, task.guess_rate(batch))
        drawn.append([np.asarray(array)[np.asarray(batch.weights) > 0] for array in targets])
    return _Targets(*(np.concatenate(arrays) for arrays in zip(*drawn, strict=True)))


def _sample(task: Task, rows: int, seed: int) -> Batch:
    return jax.tree.map(np.asarray, _sample_on_device(task, rows, jax.random.key(seed)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sample_on_device(task: Task, rows: int, rng: PRNGKeyArray) -> Batch:
    return task.sample(rng, rows)


def _compose(outer: Reach, inner: Reach) -> Reach:
    """Returns the boolean matrix product: what `outer` sees of what `inner` sees. Counts stay exact in float32."""
    return outer.astype(np.float32) @ inner.astype(np.float32) > 0
