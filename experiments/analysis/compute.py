"""What a run costs: parameters, training and inference FLOPs, decoding state. Counted from the program, not guessed.

FLOPs are those of matrix products, one multiply-add being 2; elementwise work, such as the depthwise convolutions of a
few taps, is not counted. *Executed* counts the gradient step as it is traced. *Ideal* leaves out what each mixer
computes beyond the least that its permitted query-key pairs, or its recurrence, need (`Mixer.surplus_flops`).
Projections, convolutions, controls, MLP and unembedding count the same in both.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from attention_variants.cost import count_flops
from experiments.analysis.state_capacity import state_bytes
from experiments.components.mixers import Call, LayerSizes, Mixer
from experiments.components.optimizers import AdamW
from experiments.components.schedules import Cosine
from experiments.config.run import Run
from experiments.config.sections import PretrainConfig, TrainConfig
from experiments.model.objective import gradient_step, mean_loss, read_batch
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


def parameters(run: Run) -> tuple[int, int]:
    """Returns two numbers of parameters: those that all variants share, and those of variants' controls and options."""
    return _parameters(_counted(run.cell))


@functools.lru_cache(maxsize=4096)  # two numbers each
def _parameters(run: Run) -> tuple[int, int]:
    graph, params = abstract_model(run)
    controls = sum(each.mixer.control_params(each.layer) for each in mixed(run, nnx.merge(graph, params)))
    return sum(leaf.size for leaf in jax.tree.leaves(params)) - controls, controls


def cache_bytes(run: Run) -> int:
    """Returns the bytes that decoding keeps of one row of the task and of its context; 0 where nothing is decoded."""
    if not run.causal:
        return 0
    own = state_bytes(run, run.task.input_length)
    if run.task.context is None or run.cross is None:
        return own
    across = Call(run.task.input_length, run.task.context.length, False)
    return own + len(run.layers) * run.cross.cost(run.cross_sizes, across).cache_bytes


def step_flops(run: Run) -> int:
    """Returns the executed FLOPs of one training step, as `count` does, and counts nothing else."""
    return _executed(_counted(run.cell))


class Traceable(NamedTuple):
    """A function and its arguments, as shapes."""

    function: Callable[..., Any]
    params: Any
    batch: Any


def gradient_call(run: Run) -> Traceable:
    """Returns loss and gradient of one training step; the optimizer is not part of it."""
    graph, params = abstract_model(run)
    batch = _training_batch(run, run.train.batch_size)
    return Traceable(lambda params, batch: gradient_step(run, graph, params, batch), params, batch)


def loss_call(run: Run, rows: int) -> Traceable:
    """Returns the training loss of some rows, whose gradient a step takes."""
    graph, params = abstract_model(run)
    batch = _training_batch(run, rows)
    return Traceable(lambda params, batch: mean_loss(read_batch(run, graph, params, batch)), params, batch)


def forward_call(run: Run, rows: int) -> Traceable:
    """Returns the forward pass of some rows, with the logits that are scored."""
    graph, params = abstract_model(run)
    batch = jax.eval_shape(lambda: run.task.sample(jax.random.key(0), rows))

    def forward(params: Any, batch: Any) -> Any:
        return nnx.merge(graph, params)(batch.inputs, batch.positions, context=batch.context)

    return Traceable(forward, params, batch)


def _training_batch(run: Run, rows: int) -> Any:
    return jax.eval_shape(lambda: run.task.training_batch(run.task.sample(jax.random.key(0), rows)))


class _Step(NamedTuple):
    """What is counted once for all seeds and numbers of steps."""

    params: int
    control_params: int
    executed: int
    ideal: int
    forward_per_token: int
    cache_bytes: int


def _counted(run: Run) -> Run:
    """Returns the run that represents all runs whose steps cost the same.

    How it is optimised does not matter, nor does the library that computes its attention: no counter sees its kernels.
    """
    train = TrainConfig(batch_size=run.train.batch_size)  # nor the dtype: FLOPs and caches are the same
    config = dataclasses.replace(run.config, train=train, pretrain=PretrainConfig())
    mixers, encoder = (tuple(mixer.portable() for mixer in group) for group in (run.mixers, run.encoder))
    cross = None if run.cross is None else run.cross.portable()
    run = dataclasses.replace(run, mixers=mixers, encoder=encoder, cross=cross)
    return dataclasses.replace(run, config=config, optimizer=AdamW(), schedule=Cosine())


@functools.lru_cache(maxsize=256)
def _executed(run: Run) -> int:
    return count_flops(*gradient_call(run))


@functools.lru_cache(maxsize=256)
def _step(run: Run) -> _Step:
    model = nnx.merge(*abstract_model(run))
    executed, forward = _executed(run), count_flops(*forward_call(run, 1))
    surplus = sum(
        each.mixer.surplus_flops(each.layer, each.sizes, each.call, run.train.batch_size) for each in mixed(run, model)
    )
    shared, controls = _parameters(run)
    return _Step(
        params=shared,
        control_params=controls,
        executed=executed,
        ideal=executed - surplus,
        forward_per_token=round(forward / run.task.input_length),
        cache_bytes=cache_bytes(run),
    )


class Mixed(NamedTuple):
    """One mixer of the model: its layer, and what it is called on."""

    mixer: Mixer
    layer: Any
    sizes: LayerSizes
    call: Call


def mixed(run: Run, model: Model) -> list[Mixed]:
    """Returns what mixes the row, what mixes its context, and what mixes the two."""
    length = run.task.input_length
    own = Call(length, length, run.causal)
    found = [
        Mixed(mixer, layer.mixer, sizes, own) for (mixer, sizes), layer in zip(run.built, model.layers, strict=True)
    ]
    if run.task.context is not None and run.cross is not None:
        other = run.task.context.length
        encoder = zip(run.built_encoder, model.encoder.layers, strict=True)  # type: ignore[union-attr]
        found += [Mixed(mixer, layer.mixer, sizes, Call(other, other, False)) for (mixer, sizes), layer in encoder]
        across = Call(length, other, False)
        found += [Mixed(run.cross, layer.cross, run.cross_sizes, across) for layer in model.layers]
    return found
