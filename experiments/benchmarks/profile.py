"""Where the time of a training step goes: its parts, compiled and timed separately, beside the step as it is trained.

Parts that are compiled separately cannot be fused with each other, and read and write what passes between them. So they
need not add up to the step. What is in no part, such as residual sums, is the rest.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from attention_variants.cost import count_flops
from attention_variants.module import MultiHeadAttention
from experiments.benchmarks import roofline, training
from experiments.benchmarks.clock import take_turns
from experiments.benchmarks.roofline import Machine
from experiments.config.files import Loaded
from experiments.config.run import Run
from experiments.model.layers import flat
from experiments.model.objective import gradient_step, mean_loss, read_batch, read_out
from experiments.model.transformer import make_model
from experiments.reporting.text import human, table
from experiments.studies import grid
from experiments.tasks.base import Batch
from experiments.training import loop
from experiments.training.step import TrainState, compile_program, follow, initial_state

STEP, BOTH, OPTIMIZER = "training step", "forward and backward", "optimizer"
_STEPS, _REPEATS = 20, 9  # of training in one timed call; timed calls
_WITHIN = "  "  # before the parts of BOTH
_MAIN = (
    _EMBEDDING := _WITHIN + "embedding",
    _MIXERS := _WITHIN + "norms and mixers",
    _MLPS := _WITHIN + "norms and MLPs",
    _ANSWER := _WITHIN + "unembedding and loss",
)
_ATTENTION, _REST = _WITHIN * 2 + "attention", _WITHIN + "the rest"


@dataclasses.dataclass
class Part:
    """One part of a training step, or the whole; medians."""

    cell: str
    part: str
    ms: float
    share: float  # of the training step
    flops: int | None  # of matrix products, executed; None where they are not counted
    of_matmul: float | None  # FLOP/s over those of one large product


class _Call(NamedTuple):
    """A part, as a function of its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


def measure(study: Loaded, machine: Machine) -> Iterator[Part]:
    """Yields the parts of a step of every cell of a study, the whole step first, one seed each.

    Raises:
      ValueError: parts of a model do not fit each other; one line.
    """
    runs = [Run.read(cell) for cell in grid.expand(study.config, (), 1, study.sweep)]
    for run in runs:
        loop.validate(run)
    for label, run in zip(training.labels(runs), runs, strict=True):
        yield from _parts_of(label, run, machine)


def render(parts: Sequence[Part], machine: Machine, style: str) -> str:
    """Returns the table of all parts, and the most that the machine can do."""
    header = ["model", "part", "ms", "of the step", "FLOPs", "of matmul"]
    lines = [
        [
            each.cell,
            each.part.replace(_WITHIN, "&nbsp;&nbsp;") if style == "markdown" else each.part,
            f"{each.ms:.2f}",
            f"{each.share:.0%}",
            human(each.flops) if each.flops else "",
            f"{each.of_matmul:.0%}" if each.of_matmul else "",
        ]
        for each in parts
    ]
    note = (
        f"Medians of {_REPEATS}; the step is one of {_STEPS} in one program, its parts are programs of their own and "
        "need not add up to it. Indented: parts of forward and backward, both passes. Attention: without its "
        "projections, which are in mixers. Of matmul: FLOP/s over those of one large product, "
        f"{human(machine.matmul_flops)}FLOP/s; a large array is read and written with {human(machine.bandwidth)}B/s."
    )
    return f"{table([header, *lines], style, left=2)}\n\n{note}"


def _parts_of(label: str, run: Run, machine: Machine) -> list[Part]:
    calls = _calls(run)
    compiled = {name: jax.jit(call.function).lower(*call.arguments).compile() for name, call in calls.items()}
    ready = {name: functools.partial(compiled[name], *call.arguments) for name, call in calls.items()}
    seconds = {name: each.median for name, each in take_turns({STEP: _steps(run)} | ready, _REPEATS).items()}
    seconds[STEP] /= _STEPS
    last = {OPTIMIZER: seconds.pop(OPTIMIZER)}
    seconds[_REST] = max(seconds[BOTH] - sum(seconds[name] for name in _MAIN if name in seconds), 0.0)
    seconds |= last
    found = []
    for name, taken in seconds.items():
        flops = count_flops(calls[name].function, *calls[name].arguments) if name in calls else None
        share = roofline.share(machine, flops, 0, taken).of_matmul if flops else None
        found.append(Part(label, name, 1e3 * taken, taken / seconds[STEP], flops, share))
    return found


def _steps(run: Run) -> Callable[[], Any]:
    """Returns a call of some steps, each from the state of the one before."""
    program, state = compile_program(run), initial_state(run)

    def advance() -> None:
        nonlocal state
        state, _, finite = program.advance(run, state, int(state.step) + _STEPS)
        if not finite:
            raise ValueError(f"model.attention={run.model.attention} diverges; choose a smaller train.learning_rate.")

    return advance


def _calls(run: Run) -> dict[str, _Call]:
    """Returns the parts of a step in their order, those within another after it."""
    graph, params = make_model(run)
    rng, rows = jax.random.key(run.seed), run.train.batch_size
    batch = jax.jit(lambda: run.task.training_batch(run.task.sample(rng, rows)))()
    state = initial_state(run)

    def data(rng: Any) -> Batch:
        return run.task.training_batch(run.task.sample(rng, rows))

    def forward(params: Any, batch: Batch) -> Any:
        return mean_loss(read_batch(run, graph, params, batch))

    def optimizer(state: TrainState, gradient: Any, peak: Any) -> TrainState:
        return follow(run, state, gradient, peak)

    return {
        "data": _Call(data, (rng,)),
        "forward": _Call(forward, (params, batch)),
        BOTH: _Call(functools.partial(gradient_step, run, graph), (params, batch)),
        **_inner(run, graph, params, batch),
        OPTIMIZER: _Call(optimizer, (state, params, jnp.float32(run.train.learning_rate))),
    }


def _inner(run: Run, graph: Any, params: Any, batch: Batch) -> dict[str, _Call]:
    """Returns the parts of both passes of a model, each on a stream of random numbers."""
    length = batch.inputs.shape[1]
    stream = jax.random.normal(jax.random.key(1), (*batch.inputs.shape[:2], run.model.model_dim), run.train.dtype)
    positions = jnp.arange(length)

    def embedding(params: Any, stream: Any, batch: Batch) -> Any:
        return nnx.merge(graph, params).embedding(batch.inputs, positions)

    def mixers(params: Any, stream: Any, batch: Batch) -> Any:
        for layer in (model := nnx.merge(graph, params)).layers:
            stream = layer.mixer(flat(layer.norm, stream), causal=model.causal, positions=positions)
        return stream

    def mlps(params: Any, stream: Any, batch: Batch) -> Any:
        for layer in nnx.merge(graph, params).layers:
            stream = stream if layer.mlp is None else flat(layer.mlp, flat(layer.mlp_norm, stream))
        return stream

    def answer(params: Any, stream: Any, batch: Batch) -> Any:
        return mean_loss(read_out(nnx.merge(graph, params).answer(stream, batch.positions), batch, run.task))

    parts = {_EMBEDDING: embedding, _MIXERS: mixers, _MLPS: mlps, _ANSWER: answer}
    found = {name: _both(function, (params, stream), batch) for name, function in parts.items()}
    if run.model.mlp_dim == 0:
        del found[_MLPS]
    inside = _attention(nnx.merge(graph, params), stream, positions)
    return {
        name: call
        for main, outer in found.items()
        for name, call in ((main, outer), *([(_ATTENTION, inside)] if main == _MIXERS and inside else []))
    }


def _attention(model: Any, stream: Any, positions: Any) -> _Call | None:
    """Returns the attention of all layers that have any, without their projections; None if no layer has any."""
    layers = [layer.mixer for layer in model.layers if isinstance(layer.mixer, MultiHeadAttention)]
    mixings = [layer.prepare(stream, causal=model.causal, positions=positions) for layer in layers]

    def attend(given: Any, nothing: Any) -> Any:
        whole = zip(layers, mixings, given, strict=True)
        return [
            layer.attend(mixing._replace(query=query, key=key, value=value, controls=controls))
            for layer, mixing, (query, key, value, controls) in whole
        ]

    given = [(mixing.query, mixing.key, mixing.value, mixing.controls) for mixing in mixings]
    return _both(attend, (given,), None) if layers else None


def _both(function: Callable[..., Any], varied: tuple[Any, ...], fixed: Any) -> _Call:
    """Returns both passes of a function: its value, and its gradient with respect to `varied`."""

    def passes(cotangent: Any, varied: tuple[Any, ...], fixed: Any) -> Any:
        value, pull = jax.vjp(lambda *varied: function(*varied, fixed), *varied)
        return value, pull(cotangent)

    shapes = jax.eval_shape(lambda *varied: function(*varied, fixed), *varied)
    return _Call(passes, (jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes), varied, fixed))
