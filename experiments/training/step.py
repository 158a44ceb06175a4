"""The compiled part of a run: chunks of training steps with data made on device, and reading a batch out."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from experiments.components.optimizers import make_direction, schedule
from experiments.config.schema import Settings
from experiments.model.transformer import abstract_model, make_model
from experiments.tasks.base import Batch
from experiments.training.evaluation import Readout, mean_loss, read_out

TRAIN, VALIDATION, TEST = range(3)  # splits; model.INIT_STREAM is the next
_MODEL_STREAM = 2**31 - 1  # of a batch; tasks split its key into small numbers


class TrainState(NamedTuple):
    """What one step hands to the next."""

    step: Int[Array, ""]  # steps taken
    params: Any  # nested dict of arrays
    moments: optax.OptState


@dataclasses.dataclass(frozen=True)
class Program:
    """A run, compiled for any seed and learning rate."""

    chunk: Any  # compiled `_chunk`; its state is donated
    reader: Any  # jitted `_read_batch`
    peak_bytes: int | None  # arguments, results and temporaries of a chunk, donated buffers once; None: not reported

    def advance(self, run: Settings, state: TrainState, stop: int) -> tuple[TrainState, float, bool]:
        """Trains to step `stop`, or to the first step with NaN or infinity; `state` is used up.

        Returns:
          (state, mean training loss, whether all losses and gradients were finite), computed and waited for.
        """
        seed, peak = jax.random.key(run.seed), jnp.float32(run.train.learning_rate)
        state, loss, finite = jax.block_until_ready(self.chunk(state, seed, peak, jnp.int32(stop)))
        return state, float(loss), bool(finite)


def compile_program(run: Settings) -> Program:
    """Compiles a run ahead of time; runs that differ only in what is not compiled in share the result."""
    train = dataclasses.replace(run.train, learning_rate=1.0, eval_every=1, solved_at=1.0, stop_when_solved=False)
    rows = dataclasses.replace(run.eval, validation_rows=1, test_rows=1)
    return _compile(dataclasses.replace(run, seed=0, train=train, eval=rows))


def initial_state(run: Settings) -> TrainState:
    """Returns the state before the first step, made from the seed."""
    return _with_moments(run, make_model(run)[1])


def split_key(seed: PRNGKeyArray, split: int) -> PRNGKeyArray:
    """Returns the key of a split: its step or batch s is drawn from fold_in(split_key, s)."""
    return jax.random.fold_in(seed, split)


def gradient_step(
    run: Settings, graph: Any, params: Any, batch: Batch, rng: PRNGKeyArray | None = None
) -> tuple[Float[Array, ""], Any]:
    """Returns the loss and its gradient; the whole of what is counted as a training step's FLOPs."""

    def loss(params: Any) -> Float[Array, ""]:
        return mean_loss(_read(run, graph, params, batch, rng))

    return jax.value_and_grad(loss)(params)


def trace(run: Settings) -> None:
    """Traces training with shapes in place of arrays: raises whatever building or training it would raise."""
    graph, params = abstract_model(run)
    jax.eval_shape(functools.partial(_chunk, run, graph), *_abstract_arguments(run, params))


@functools.lru_cache(maxsize=64)
def _compile(run: Settings) -> Program:
    graph, params = abstract_model(run)
    chunk = jax.jit(functools.partial(_chunk, run, graph), donate_argnums=0)
    compiled = chunk.lower(*_abstract_arguments(run, params)).compile()
    return Program(compiled, jax.jit(functools.partial(_read_batch, run, graph)), _peak_bytes(compiled))


def _peak_bytes(compiled: jax.stages.Compiled) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    given, made = memory.argument_size_in_bytes, memory.output_size_in_bytes - memory.alias_size_in_bytes
    return given + made + memory.temp_size_in_bytes


def _abstract_arguments(run: Settings, params: Any) -> Any:
    """Returns the shapes of (state, seed, peak, stop)."""
    make = lambda params: (_with_moments(run, params), jax.random.key(0), jnp.float32(0), jnp.int32(0))  # noqa: E731
    return jax.eval_shape(make, params)


def _with_moments(run: Settings, params: Any) -> TrainState:
    return TrainState(jnp.int32(0), params, make_direction(run.train).init(params))


def _chunk(
    run: Settings, graph: Any, state: TrainState, seed: PRNGKeyArray, peak: Array, stop: Array
) -> tuple[TrainState, Float[Array, ""], Bool[Array, ""]]:
    """A loop whose end is an argument, so that a shorter last chunk needs no compilation of its own."""
    first = state.step

    def body(carry: Any) -> Any:
        state, total, _ = carry
        state, loss, finite = _step(run, graph, state, seed, peak)
        return state, total + loss, finite

    def proceed(carry: Any) -> Any:
        return carry[2] & (carry[0].step < stop)

    state, total, finite = lax.while_loop(proceed, body, (state, jnp.float32(0), jnp.bool_(True)))
    return state, total / (state.step - first), finite


def _step(run: Settings, graph: Any, state: TrainState, seed: PRNGKeyArray, peak: Array) -> Any:
    rng = jax.random.fold_in(split_key(seed, TRAIN), state.step)
    batch = run.task.training_batch(run.task.sample(rng, run.train.batch_size))
    loss, gradient = gradient_step(run, graph, state.params, batch, model_rng(rng))
    direction, moments = make_direction(run.train).update(gradient, state.moments, state.params)
    rate = schedule(run.train, peak, state.step)
    params = jax.tree.map(lambda leaf, change: leaf - rate * change, state.params, direction)
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient))
    return TrainState(state.step + 1, params, moments), loss, finite


def _read_batch(run: Settings, graph: Any, params: Any, rng: PRNGKeyArray) -> Readout:
    return _read(run, graph, params, run.task.sample(rng, run.eval.batch_size), model_rng(rng))


def _read(run: Settings, graph: Any, params: Any, batch: Batch, rng: PRNGKeyArray | None) -> Readout:
    model = nnx.merge(graph, params)
    positions = model.position.draw(batch.inputs.shape[1], rng)
    return read_out(model(batch.inputs, batch.positions, positions, batch.context), batch, run.task)


def model_rng(rng: PRNGKeyArray) -> PRNGKeyArray:
    """Returns what the model draws with, beside a batch that was drawn with `rng` itself."""
    return jax.random.fold_in(rng, _MODEL_STREAM)
