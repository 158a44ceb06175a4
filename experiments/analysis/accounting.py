"""What a model of a task executes and stores, pass by pass, counted from its programs and from `cost`; nothing is run.

A *row* is one sequence of the task. The forward pass and the training step read a batch; prefill reads a whole row into
a cache, and decode reads the last token of a row with it. Executed work is that of the program as it is traced; ideal
FLOPs leave out what each mixer computes beyond its permitted pairs, or its recurrence.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from attention_variants.cost import Work, count_work
from experiments.analysis import compute
from experiments.components.mixers import Call
from experiments.config.run import Run
from experiments.model.transformer import abstract_model

_BYTES = 4  # of a float32

FORWARD, STEP, PREFILL, DECODE = PASSES = ("forward", "training step", "prefill", "decode")


class Pass(NamedTuple):
    """What one pass executes."""

    name: str  # one of PASSES
    rows: int
    tokens: int  # read, in all rows
    work: Work  # executed
    ideal_flops: int


class Memory(NamedTuple):
    """Bytes."""

    params: int  # controls included
    cache: int  # at the end of decoding one row: all arrays, integers too, except the counters; 0: no decoding
    cache_grows: float  # per further token, up to twice the length
    activations: int  # kept by a training step for its backward pass


class Account(NamedTuple):
    """What a model costs on its task."""

    passes: tuple[Pass, ...]  # prefill and decode only where rows can be decoded
    memory: Memory

    def of(self, name: str) -> Pass | None:
        """Returns the pass of that name, None where there is none."""
        return next((each for each in self.passes if each.name == name), None)


def account(run: Run) -> Account:
    """Counts the passes of a model, and its memory.

    Raises:
      NotImplementedError: a program contains an operation without a static count.
    """
    length = run.task.input_length
    passes, size, grows = [_forward(run), _step(run)], 0, 0.0
    if (cache := _cache(run, length)) is not None:
        passes += [_decoding(run, name, new) for name, new in ((PREFILL, length), (DECODE, 1))]
        size, grows = _bytes(cache), (_layer_bytes(run, 2 * length) - _layer_bytes(run, length)) / length
    params = _BYTES * sum(compute.parameters(run))
    return Account(tuple(passes), Memory(params, size, grows, activation_bytes(run)))


def activation_bytes(run: Run) -> int:
    """Returns what a step's backward pass reads of its forward pass, apart from parameters and indices.

    These are the residuals of `jax.vjp`, as traced: XLA may keep less by recomputing some. What does not grow with the
    batch, such as the parameters among them, is subtracted by counting a second, larger batch.
    """
    return _residual_bytes(run, 2 * run.train.batch_size) - _residual_bytes(run, run.train.batch_size)


def extend_call(run: Run, new: int) -> tuple[Callable[..., Any], Any, Any, Any]:
    """Returns a function that reads the last `new` tokens of a row, given its cache, and the shapes it takes."""
    graph, params = abstract_model(run)
    cache = _cache(run, run.task.input_length)
    tokens = jax.ShapeDtypeStruct((1, new), jnp.int32)
    return lambda params, cache, tokens: nnx.merge(graph, params).extend(cache, tokens), params, cache, tokens


def _forward(run: Run) -> Pass:
    rows = run.train.batch_size
    work = count_work(*compute.forward_call(run, rows))
    mixers = compute.mixed(run, nnx.merge(*abstract_model(run)))
    costs = [each.mixer.cost(each.sizes, each.call) for each in mixers]
    surplus = sum(cost.executed_flops - cost.ideal_flops for cost in costs)
    return Pass(FORWARD, rows, rows * run.task.input_length, work, work.flops - rows * surplus)


def _step(run: Run) -> Pass:
    work = count_work(*compute.gradient_call(run))
    rows = run.train.batch_size
    return Pass(STEP, rows, rows * run.task.input_length, work, compute.count(run, 1)["train_flops_ideal"])


def _decoding(run: Run, name: str, new: int) -> Pass:
    """Counts the last `new` tokens of a row; what an encoder reads before them is not counted."""
    work = count_work(*extend_call(run, new))
    model = nnx.merge(*abstract_model(run))
    layers = zip(run.built, model.layers, strict=True)
    surplus = sum(
        mixer.decoding_surplus(layer.mixer, sizes, run.task.input_length, new) for (mixer, sizes), layer in layers
    )
    if run.task.context is not None and run.cross is not None:
        across = run.cross.cost(run.cross_sizes, Call(new, run.task.context.length, False))
        surplus += len(model.layers) * (across.executed_flops - across.ideal_flops)
    return Pass(name, 1, new, work, work.flops - surplus)


def _cache(run: Run, length: int) -> Any:
    """Returns the shapes of an empty cache for one row, None where rows cannot be decoded."""
    graph, params = abstract_model(run)
    row = jax.eval_shape(lambda: run.task.sample(jax.random.key(0), 1))
    try:
        return jax.eval_shape(
            lambda params, context: nnx.merge(graph, params).init_cache(1, length, context=context), params, row.context
        )
    except NotImplementedError:
        return None


def _layer_bytes(run: Run, length: int) -> int:
    """Returns the bytes that the layers keep of a row of a length; what they keep of a context does not grow."""
    layers = nnx.merge(*abstract_model(run)).layers
    return _bytes(jax.eval_shape(lambda: [layer.mixer.init_cache(1, length, jnp.float32) for layer in layers]))


def _bytes(tree: Any) -> int:
    """Returns the bytes of all arrays; scalars are counters and are left out."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if leaf.ndim)


def _residual_bytes(run: Run, rows: int) -> int:
    call = compute.loss_call(run, rows)
    residuals = jax.eval_shape(lambda params, batch: jax.vjp(lambda p: call.function(p, batch), params)[1], *call[1:])
    return _bytes([leaf for leaf in jax.tree.leaves(residuals) if jnp.issubdtype(leaf.dtype, jnp.floating)])
