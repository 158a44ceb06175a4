"""What models cost on their tasks: what is counted (`analysis/accounting.py`), XLA's memory, and the clock.

Times are medians over turns that all models take in one process, so that a busy moment affects all alike. The
roofline has two ceilings, measured in the same process: FLOPs relative to those of a large matrix product, and the
least bytes that must go to and from memory relative to those of a large array. For a compiled pass these bytes are its
arguments and results once and its temporaries twice; for a decoded token, parameters and cache once.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.analysis import accounting, compute
from experiments.analysis.accounting import DECODE, FORWARD, STEP, Account
from experiments.benchmarks import roofline
from experiments.benchmarks.clock import take_turns
from experiments.benchmarks.roofline import Machine, Share
from experiments.config.run import Run
from experiments.decoding.decoder import Decoder, Rows
from experiments.model.transformer import make_model
from experiments.training.step import Program, compile_program, initial_state

_STEPS = 10  # of training in one timed call
_DECODED = 32  # tokens that are decoded in one timed call, at most


class Timed(NamedTuple):
    """What the clock says of one pass."""

    seconds: float  # of the pass, median
    tokens_per_second: float
    share: Share


class Measured(NamedTuple):
    """One model on its task."""

    name: str
    task: str
    account: Account
    temporaries: int | None  # bytes of a compiled training step; None where XLA does not say
    peak: int | None  # the same with arguments and results
    times: Mapping[str, Timed]  # by the name of the pass; empty without the clock


class _Call(NamedTuple):
    """A compiled pass, ready to be called."""

    run: Callable[[], Any]
    times: int  # how often one call makes the pass
    traffic: int  # bytes of one pass, at the least


def measure(runs: Mapping[str, Run], repeats: int, clock: bool) -> tuple[Machine | None, list[Measured]]:
    """Accounts for models, and times them if asked to.

    Args:
      runs: by the name of the model.
      repeats: timed calls of every pass.
      clock: whether to time; without it, nothing is drawn or trained, but a training step is compiled.

    Returns:
      The machine's ceilings, None without the clock, and what was measured, in the order of `runs`.
    """
    accounts = {name: accounting.account(run) for name, run in runs.items()}
    programs = {name: compile_program(run) for name, run in runs.items()}
    machine = roofline.measure() if clock else None
    times = {} if machine is None else _times(runs, accounts, programs, machine, repeats)
    return machine, [
        Measured(name, run.config.task, accounts[name], _temporaries(program), program.peak_bytes, times.get(name, {}))
        for (name, run), program in zip(runs.items(), programs.values(), strict=True)
    ]


def of_different_cost(runs: Sequence[Run]) -> list[Run]:
    """Returns one run for each cost; learning rates and seeds do not change it."""
    found: dict[Any, Run] = {}
    for run in runs:
        found.setdefault((run.config.task, run.model, run.train.batch_size), run)
    return list(found.values())


def _times(
    runs: Mapping[str, Run],
    accounts: Mapping[str, Account],
    programs: Mapping[str, Program],
    machine: Machine,
    repeats: int,
) -> dict[str, dict[str, Timed]]:
    """Returns the times of every pass of every model; for each kind of pass, all models are called in turn."""
    times: dict[str, dict[str, Timed]] = {name: {} for name in runs}
    for kind in accounting.PASSES:
        passes = {name: counted for name in runs if (counted := accounts[name].of(kind)) is not None}
        calls = {name: _call(kind, runs[name], accounts[name], programs[name]) for name in passes}
        for name, taken in take_turns({name: call.run for name, call in calls.items()}, repeats).items():
            seconds = taken.median / calls[name].times
            share = roofline.share(machine, passes[name].work.flops, calls[name].traffic, seconds)
            times[name][kind] = Timed(seconds, passes[name].tokens / seconds, share)
    return times


def _call(kind: str, run: Run, account: Account, program: Program) -> _Call:
    """Returns the compiled pass of a model."""
    if kind == DECODE:
        return _decoding(run, account)
    if kind == STEP:
        return _training(run, program)
    _, params = make_model(run)
    if kind == FORWARD:
        call = compute.forward_call(run, run.train.batch_size)
        batch = jax.jit(run.task.sample, static_argnums=1)(jax.random.key(0), run.train.batch_size)
        return _compiled(call.function, params, batch)
    function, *_ = accounting.extend_call(run, run.task.input_length)
    cache, tokens = _empty_cache(run, params)
    return _compiled(function, params, cache, tokens)


def _compiled(function: Callable[..., Any], *arguments: Any) -> _Call:
    compiled = jax.jit(function).lower(*arguments).compile()
    return _Call(functools.partial(compiled, *arguments), 1, _traffic(compiled))


def _training(run: Run, program: Program) -> _Call:
    """Returns steps one after another, each from the state of the one before."""
    state = initial_state(run)

    def advance() -> Any:
        nonlocal state
        state, _, finite = program.advance(run, state, int(state.step) + _STEPS)
        if not finite:  # the program stops there, and would be timed for steps that it does not take
            raise ValueError(
                f"model.attention={run.model.attention} diverges at step {int(state.step)}; to time it, choose a "
                "smaller train.learning_rate."
            )

    return _Call(advance, _STEPS, _traffic(program.chunk))


def _decoding(run: Run, account: Account) -> _Call:
    """Returns the decoding of the last tokens of a row, one by one, from the cache of those before."""
    length = run.task.input_length
    number = max(1, min(_DECODED, length // 2))
    batch = run.task.sample(jax.random.key(0), 1)
    rows = Rows.given(batch.inputs, batch.context)
    decoder, rng = Decoder(nnx.merge(*make_model(run)), rows, length - number), jax.random.key(0)
    first = decoder.prefill(rows, rng)
    traffic = account.memory.params + account.memory.cache
    return _Call(functools.partial(decoder.proceed, first, rows, rng), number, traffic)


def _empty_cache(run: Run, params: Any) -> tuple[Any, Any]:
    """Returns an empty cache for a row of the task, and its tokens."""
    model = nnx.merge(make_model(run)[0], params)
    batch = run.task.sample(jax.random.key(0), 1)
    return model.init_cache(1, run.task.input_length, context=batch.context), jnp.asarray(batch.inputs, jnp.int32)


def _traffic(compiled: Any) -> int:
    """Returns the least bytes that a compiled pass moves to or from memory; 0 where XLA does not say."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 0
    return memory.argument_size_in_bytes + memory.output_size_in_bytes + 2 * memory.temp_size_in_bytes


def _temporaries(program: Program) -> int | None:
    memory = program.chunk.memory_analysis()
    return None if memory is None else int(memory.temp_size_in_bytes)
