"""What a run costs: parameters, training and inference FLOPs, decoding state. Counted from the program, not guessed.

FLOPs are those of matrix products, one multiply-add being 2; elementwise work, such as the depthwise convolutions of a
few taps, is not counted. *Executed* counts the gradient step as it is traced. *Ideal* takes off what each mixer
computes beyond the least that its permitted query-key pairs, or its recurrence, need (`Mixer.surplus_flops`).
Projections, convolutions, controls, MLP and unembedding count the same in both.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from flax import nnx

from attention_variants.cost import count_flops
from experiments.analysis.state_capacity import state_bytes
from experiments.components.mixers import Call, LayerSizes, Mixer
from experiments.components.optimizers import AdamW
from experiments.components.schedules import Cosine
from experiments.config.run import Run
from experiments.config.schema import PretrainConfig, TrainConfig
from experiments.model.objective import gradient_step
from experiments.model.transformer import Model, abstract_model


def count(run: Run, steps: int) -> dict[str, int]:
    """Counts one run; runs that differ in their seed are counted once.

    Args:
      run: the run.
      steps: training steps to charge; evaluation is not charged.

    Returns:
      params: scalars that all variants share; control_params: those of the variants' controls.
      train_flops_executed, train_flops_ideal: of `steps` steps, see the module.
      forward_flops_per_token: executed by one row's forward pass, divided by its length.
      cache_bytes: decoding state at the task's length, see `state_capacity.state_bytes`, and what is kept of a context;
        0 where nothing is decoded.
    """
    step = _step(_counted(run.cell))
    return {
        "params": step.params,
        "control_params": step.control_params,
        "train_flops_executed": steps * step.executed,
        "train_flops_ideal": steps * step.ideal,
        "forward_flops_per_token": step.forward_per_token,
        "cache_bytes": step.cache_bytes,
    }


class _Step(NamedTuple):
    """What is counted once for all seeds and numbers of steps."""

    params: int
    control_params: int
    executed: int
    ideal: int
    forward_per_token: int
    cache_bytes: int


def _counted(run: Run) -> Run:
    """Returns the run that stands for all whose steps cost the same: how it is optimised does not matter."""
    train = TrainConfig(batch_size=run.train.batch_size)
    config = dataclasses.replace(run.config, train=train, pretrain=PretrainConfig())
    return dataclasses.replace(run, config=config, optimizer=AdamW(), schedule=Cosine())


@functools.lru_cache(maxsize=256)
def _step(run: Run) -> _Step:
    graph, params = abstract_model(run)
    model = nnx.merge(graph, params)
    batch = jax.eval_shape(lambda: run.task.training_batch(run.task.sample(jax.random.key(0), run.train.batch_size)))
    row = jax.eval_shape(lambda: run.task.sample(jax.random.key(0), 1))
    executed = count_flops(lambda params, batch: gradient_step(run, graph, params, batch), params, batch)
    forward = count_flops(
        lambda params, row: nnx.merge(graph, params)(row.inputs, row.positions, context=row.context), params, row
    )
    mixed = _mixed(run, model)
    surplus = sum(each.mixer.surplus_flops(each.layer, each.sizes, each.call, run.train.batch_size) for each in mixed)
    controls = sum(each.mixer.control_params(each.layer) for each in mixed)
    return _Step(
        params=sum(leaf.size for leaf in jax.tree.leaves(params)) - controls,
        control_params=controls,
        executed=executed,
        ideal=executed - surplus,
        forward_per_token=round(forward / run.task.input_length),
        cache_bytes=_cache_bytes(run) if run.causal else 0,
    )


class _Mixed(NamedTuple):
    """One mixer of the model: its layer, and what it is called on."""

    mixer: Mixer
    layer: Any
    sizes: LayerSizes
    call: Call


def _mixed(run: Run, model: Model) -> list[_Mixed]:
    """Returns what mixes the row, what mixes its context, and what mixes the two."""
    length = run.task.input_length
    own = Call(length, length, run.causal)
    found = [
        _Mixed(mixer, layer.mixer, sizes, own) for (mixer, sizes), layer in zip(run.built, model.layers, strict=True)
    ]
    if run.task.context is not None and run.cross is not None:
        other = run.task.context.length
        encoder = zip(run.built_encoder, model.encoder.layers, strict=True)  # type: ignore[union-attr]
        found += [_Mixed(mixer, layer.mixer, sizes, Call(other, other, False)) for (mixer, sizes), layer in encoder]
        across = Call(length, other, False)
        found += [_Mixed(run.cross, layer.cross, run.cross_sizes, across) for layer in model.layers]
    return found


def _cache_bytes(run: Run) -> int:
    """Returns what the row keeps of itself, and of its context."""
    own = state_bytes(run, run.task.input_length)
    if run.task.context is None or run.cross is None:
        return own
    across = Call(run.task.input_length, run.task.context.length, False)
    return own + len(run.layers) * run.cross.cost(run.cross_sizes, across).cache_bytes
