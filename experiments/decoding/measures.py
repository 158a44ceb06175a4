"""What decoding costs: seconds for the prompt and for each token after it, and bytes of state."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from experiments.config.run import Run
from experiments.decoding.decoder import Decoder, Prefilled, Rows
from experiments.model.transformer import Model
from experiments.tasks.base import Context

REPEATS = 5  # timed calls, unless more are asked for
_LONG_PREFILL = 1.0  # seconds; a call that takes longer is timed once, without another before it

T = TypeVar("T")


class Seconds(NamedTuple):
    """Those of the fastest of several warm calls, which leaves out what compilation and a busy machine add."""

    prefill: float  # of the context and the whole prompt, all rows
    step: float  # of one token of every row after the prompt


class Kept(NamedTuple):
    """The state of one layer, for one row."""

    layer: str  # "layer 1", and "context 1" for what it keeps of a context
    mixer: str  # its spec
    bytes: int  # all arrays but the counters
    grows: float  # bytes per further token, up to a row of twice the length


def take_turns(
    decoders: Mapping[str, tuple[Decoder, Rows]], rng: PRNGKeyArray, repeats: int = REPEATS
) -> dict[str, Seconds]:
    """Times decoders in turn, so that a busy moment affects all alike; each timed call follows an untimed one.

    A prompt leaves the processor's caches full of what it wrote, the more so the longer it is. So steps are timed after
    other steps; otherwise their time would seem to grow with the prompt. A prompt that takes long is read once.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    long: dict[str, tuple[Prefilled, float]] = {}
    for _ in range(repeats):
        for name, (decoder, rows) in decoders.items():
            read = functools.partial(decoder.prefill, rows, rng)
            first, prefill = long[name] if name in long else _timed(read)
            if prefill > _LONG_PREFILL:
                long[name] = first, prefill
            else:
                first, prefill = _timed(read)
            follow = functools.partial(decoder.proceed, first, rows, rng)
            _timed(follow)
            times[name].append((prefill, _timed(follow)[1] / (rows.tokens.shape[1] - decoder.prompt)))
    return {name: Seconds(*map(min, zip(*each, strict=True))) for name, each in times.items()}


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    """Returns what a call returns, and its seconds."""
    start = time.perf_counter()
    found = jax.block_until_ready(call())
    return found, time.perf_counter() - start


def kept(model: Model, run: Run, length: int) -> list[Kept]:
    """Returns the state of every layer that decodes a row of `length` tokens, in the order of the layers."""
    cache = jax.eval_shape(lambda: model.init_cache(1, length, context=_no_context(run.task.context)))
    longer = jax.eval_shape(lambda: [layer.mixer.init_cache(1, 2 * length, jnp.float32) for layer in model.layers])
    found = []
    for number, (mixer, _) in enumerate(run.built):
        size = _bytes(cache.layers[number])
        found.append(Kept(f"layer {number + 1}", mixer.spec(), size, (_bytes(longer[number]) - size) / length))
        if run.cross is not None:
            found.append(Kept(f"context {number + 1}", run.cross.spec(), _bytes(cache.context[number]), 0.0))
    return found


def _bytes(cache: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache) if leaf.ndim)


def _no_context(shape: Context | None) -> Array | None:
    if shape is None:
        return None
    return jnp.zeros((1, shape.length, shape.channels)) if shape.channels else jnp.zeros((1, shape.length), jnp.int32)
