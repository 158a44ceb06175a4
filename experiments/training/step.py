"""The compiled part of a run: chunks of training steps with data made on device, and evaluation on one batch."""

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from experiments.config.run import Run
from experiments.config.sections import PretrainConfig
from experiments.model.objective import Readout, gradient_step, read_batch
from experiments.model.streams import TRAIN, model_key, split_key
from experiments.model.transformer import abstract_model, decayed_params, make_model
from experiments.training import parallel
from experiments.training.parallel import Devices


class TrainState(NamedTuple):
    """What one step hands to the next."""

    step: Int[Array, ""]  # steps taken
    params: Any  # nested dict of arrays
    moments: optax.OptState


@dataclasses.dataclass(frozen=True)
class Program:
    """A run, compiled for any seed and learning rate."""

    graph: Any  # of the model
    chunk: Any  # compiled `_chunk`, or `_chunks` where it has several lanes; states are donated
    reader: Any  # jitted `_read_batch`
    # Of a chunk, on one device: arguments, results and temporaries, donated buffers counted once; a lane has its share.
    # None: not reported.
    peak_bytes: int | None
    lanes: int = 1  # runs that are trained at once

    def advance(self, run: Run, state: TrainState, stop: int) -> tuple[TrainState, float, bool]:
        """Trains to step `stop`, or to the first step with NaN or infinity; `state` is donated.

        Returns:
          (state, mean training loss, whether all losses and gradients were finite), all of it ready.
        """
        seed, peak = jax.random.key(run.seed), jnp.float32(run.train.learning_rate)
        state, loss, finite = jax.block_until_ready(self.chunk(state, seed, peak, jnp.int32(stop)))
        return state, float(loss), bool(finite)

    def advance_together(
        self, runs: Sequence[Run], states: Sequence[TrainState], stops: Sequence[int]
    ) -> tuple[list[TrainState], list[float], list[bool]]:
        """Does in every lane what `advance` does for one run; a lane that is at its stop keeps its state bit for bit.

        Args:
          runs: one for each lane, which differ only in what is not compiled in.
          states: of the lanes, donated.
          stops: the step to which each lane is trained.
        """
        seeds = jnp.stack([jax.random.key(run.seed) for run in runs])
        peaks = jnp.asarray([run.train.learning_rate for run in runs], jnp.float32)
        found = self.chunk(tuple(states), seeds, peaks, jnp.asarray(stops, jnp.int32))
        states, losses, finite = jax.block_until_ready(found)
        return list(states), np.asarray(losses).tolist(), np.asarray(finite).tolist()


def compile_program(run: Run) -> Program:
    """Compiles a run ahead of time for `parallel.devices()`.

    Runs that differ only in what is not compiled in share the result.
    """
    return _compile(compiled_part(run), parallel.devices())


def compile_together(run: Run, lanes: int) -> Program:
    """Compiles the training of `lanes` runs at once, which share what `compiled_part` returns, on the default device.

    Each lane computes what the program of one run does, but `vmap` may take sums in another order.
    """
    return _compile(compiled_part(run), Devices(), lanes)


def compiled_part(run: Run) -> Run:
    """Returns the run with neutral values for all that its compiled programs take as arguments or never see."""
    config = run.cell.config
    train = dataclasses.replace(config.train, learning_rate=1.0, eval_every=1, solved_at=1.0, stop_when_solved=False)
    rows = dataclasses.replace(config.eval, validation_rows=1, test_rows=1)
    return dataclasses.replace(
        run, config=dataclasses.replace(config, train=train, eval=rows, pretrain=PretrainConfig())
    )


def initial_state(run: Run) -> TrainState:
    """Returns the state before the first step, made from the seed."""
    return state_of(run, make_model(run)[1])


def state_of(run: Run, params: Any) -> TrainState:
    """Returns the state before the first step of a run that starts from these parameters."""
    return TrainState(jnp.int32(0), params, _direction(run).init(params))


def abstract_state(run: Run) -> TrainState:
    """Returns shapes and dtypes of the state; nothing is drawn."""
    _, params = abstract_model(run)
    return jax.eval_shape(functools.partial(state_of, run), params)


def trace(run: Run) -> None:
    """Traces training with shapes in place of arrays: raises whatever building or training it would raise."""
    _trace(compiled_part(run))


@functools.lru_cache(maxsize=256)
def _trace(run: Run) -> None:
    graph, params = abstract_model(run)
    jax.eval_shape(functools.partial(_chunk, run, graph, Devices()), *_abstract_arguments(run, params))


@functools.lru_cache(maxsize=64)
def _compile(run: Run, devices: Devices, lanes: int = 1) -> Program:
    graph, params = abstract_model(run)
    one = functools.partial(_chunk, run, graph, devices)
    arguments = _abstract_arguments(run, params)
    chunk: Any = devices.jit(one if lanes == 1 else functools.partial(_chunks, one), donate_argnums=0)
    compiled = chunk.lower(*(arguments if lanes == 1 else _of_lanes(lanes, *arguments))).compile()
    reader = devices.jit(functools.partial(_read_batch, run, graph, devices))
    peak = _peak_bytes(compiled)
    return Program(graph, compiled, reader, None if peak is None else peak // lanes, lanes)


def _peak_bytes(compiled: jax.stages.Compiled) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    given, made = memory.argument_size_in_bytes, memory.output_size_in_bytes - memory.alias_size_in_bytes
    return given + made + memory.temp_size_in_bytes


def _abstract_arguments(run: Run, params: Any) -> Any:
    """Returns the shapes of (state, seed, peak, stop)."""

    def make(params: Any) -> Any:
        return state_of(run, params), jax.random.key(0), jnp.float32(0), jnp.int32(0)

    return jax.eval_shape(make, params)


def _of_lanes(lanes: int, state: Any, *others: Any) -> Any:
    """Returns the shapes of a tuple of states, and of the other arguments stacked."""
    stacked = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: jnp.stack([leaf] * lanes), tree), others)
    return (state,) * lanes, *stacked


def _direction(run: Run) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(run.train.clip_norm), run.optimizer.direction(decayed_params(run)))


def _chunk(
    run: Run, graph: Any, devices: Devices, state: TrainState, seed: PRNGKeyArray, peak: Array, stop: Array
) -> tuple[TrainState, Float[Array, ""], Bool[Array, ""]]:
    """A loop whose end is an argument, so that a shorter last chunk needs no compilation of its own."""
    first = state.step

    def body(carry: Any) -> Any:
        state, total, _ = carry
        state, loss, finite = _step(run, graph, devices, state, seed, peak)
        return state, total + loss, finite

    def proceed(carry: Any) -> Any:
        return carry[2] & (carry[0].step < stop)

    state, total, finite = lax.while_loop(proceed, body, (state, jnp.float32(0), jnp.bool_(True)))
    return state, total / (state.step - first), finite


def _chunks(one: Any, states: tuple[TrainState, ...], seeds: PRNGKeyArray, peaks: Array, stops: Array) -> Any:
    """Runs `_chunk` in several lanes until all have ended: `vmap` keeps the carry of a lane that has ended."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    stacked, losses, finite = jax.vmap(one)(stacked, seeds, peaks, stops)
    ended = tuple(jax.tree.map(operator.itemgetter(lane), stacked) for lane in range(len(states)))
    return ended, losses, finite


def _step(run: Run, graph: Any, devices: Devices, state: TrainState, seed: PRNGKeyArray, peak: Array) -> Any:
    rng = jax.random.fold_in(split_key(seed, TRAIN), state.step)
    batch = run.task.training_batch(devices.spread(run.task.sample(rng, run.train.batch_size)))
    loss, gradient = gradient_step(run, graph, state.params, batch, model_key(rng))
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient))
    return follow(run, state, gradient, peak), loss, finite


def follow(run: Run, state: TrainState, gradient: Any, peak: Array) -> TrainState:
    """Returns the state one step further along a gradient: the optimizer's part of a training step."""
    direction, moments = _direction(run).update(gradient, state.moments, state.params)
    rate = peak * run.schedule.share(state.step, run.train.steps)
    params = jax.tree.map(lambda leaf, change: leaf - rate * change, state.params, direction)
    return TrainState(state.step + 1, params, moments)


def _read_batch(run: Run, graph: Any, devices: Devices, params: Any, rng: PRNGKeyArray) -> Readout:
    batch = devices.spread(run.task.sample(rng, run.eval.batch_size))
    return read_batch(run, graph, params, batch, model_key(rng))
