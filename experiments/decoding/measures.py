"""What decoding costs: seconds for the prompt and for each token behind it, and bytes of state."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from experiments.config.run import Run
from experiments.decoding.decoder import Decoder, Rows
from experiments.model.transformer import Model
from experiments.tasks.base import Context

REPEATS = 5  # timed calls, unless more are asked for


class Seconds(NamedTuple):
    """Those of the fastest of some warm calls: what compilation and a busy machine add is left out."""

    prefill: float  # of the context and the whole prompt, all rows
    step: float  # of one token of every row behind the prompt


class Kept(NamedTuple):
    """The state of one layer, for one row."""

    layer: str  # "layer 1", and "context 1" for what it keeps of a context
    mixer: str  # its spec
    bytes: int  # all arrays but the counters
    grows: float  # by bytes per token, up to a row of twice the length


def take_turns(
    decoders: Mapping[str, tuple[Decoder, Rows]], rng: PRNGKeyArray, repeats: int = REPEATS
) -> dict[str, Seconds]:
    """Times decoders in turns, so that a busy moment hits them alike; a turn is an untimed call and a timed one."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    for _ in range(repeats):
        for name, (decoder, rows) in decoders.items():
            steps = rows.tokens.shape[1] - decoder.prompt
            _once(decoder, rows, rng)
            prefill, proceed = _once(decoder, rows, rng)
            times[name].append((prefill, proceed / steps))
    return {name: Seconds(*map(min, zip(*each, strict=True))) for name, each in times.items()}


def _once(decoder: Decoder, rows: Rows, rng: PRNGKeyArray) -> tuple[float, float]:
    start = time.perf_counter()
    first = jax.block_until_ready(decoder.prefill(rows, rng))
    middle = time.perf_counter()
    jax.block_until_ready(decoder.proceed(first, rows, rng))
    return middle - start, time.perf_counter() - middle


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
