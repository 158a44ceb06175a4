"""Softmax attention of new queries over the keys and values that a cache holds."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from attention_variants.arrays import Keys, Outputs, Queries, Values, accumulation_dtype, masked_softmax
from attention_variants.patterns import window

_DECODED_AT_ONCE = 256  # queries per strip of `attend_cached`, to keep memory linear in a long prefill


class Reach(NamedTuple):
    """Which keys a query may see by their place alone, where new keys follow those that a cache held."""

    first: int  # keys in front that every query may see
    last: int  # keys right before a query's own


def attend_cached(
    query: Float[Array, "batch new num_heads head_dim"],
    key: Float[Array, "batch slots num_kv_heads head_dim"],
    value: Float[Array, "batch slots num_kv_heads value_dim"],
    query_positions: Int[Array, " new"],
    key_positions: Int[Array, " slots"],
    visible: Callable[[Any, Any], Any],
    reach: Reach | None = None,
    *,
    bias: Any = None,
    weigh: Callable[[Array, Array], Array] = masked_softmax,
) -> Float[Array, "batch new num_heads value_dim"]:
    """Attention of new queries over cached keys, strip by strip; slots at negative positions are empty.

    Args:
      query: of the new tokens.
      key: what the cache held and then, where there is a `reach`, the keys of the same new tokens.
      value: of these keys.
      query_positions: in the whole sequence.
      key_positions: in the whole sequence.
      visible: says which pairs of positions may attend.
      reach: if `visible` allows no key beyond it: a strip of a long prompt then reads only these keys, and the work is
        linear in the prompt. None: every strip reads all keys.
      bias: of the positions.
      weigh: turns (logits [batch, num_heads, query, key], mask) into weights.
    """
    batch, new, num_heads, head_dim = query.shape
    num_kv_heads = key.shape[2]
    dtype = accumulation_dtype(query.dtype)
    grouped = query.astype(dtype).reshape(batch, new, num_kv_heads, num_heads // num_kv_heads, head_dim)

    def strip(queries: Array, positions: Array, key: Array, value: Array, key_positions: Array) -> Array:
        logits = jnp.einsum("bqhgd,bkhd->bhgqk", queries, key.astype(dtype)) / math.sqrt(head_dim)
        if bias is not None:
            block = bias.block(positions, key_positions).astype(dtype)
            logits = logits + block.reshape(-1, *logits.shape[1:])
        mask = visible(positions[:, None], key_positions[None, :]) & (key_positions >= 0)[None, :]
        weights = weigh(logits.reshape(batch, num_heads, *mask.shape), mask[None, None]).reshape(logits.shape)
        return jnp.einsum("bhgqk,bkhd->bqhgd", weights, value.astype(dtype))

    def strip_from(first_query: Array, queries: Array, positions: Array) -> Array:
        if reach is None or 2 * (sum(reach) + _DECODED_AT_ONCE) > key.shape[1]:  # a copy of most keys would gain little
            return strip(queries, positions, key, value, key_positions)
        near = (_near(array, axis, first_query, reach) for array, axis in ((key, 1), (value, 1), (key_positions, 0)))
        return strip(queries, positions, *near)

    if new <= _DECODED_AT_ONCE:
        out = strip(grouped, query_positions, key, value, key_positions)
    else:
        strips = -(-new // _DECODED_AT_ONCE)
        padding = strips * _DECODED_AT_ONCE - new
        grouped = jnp.pad(grouped, ((0, 0), (0, padding), (0, 0), (0, 0), (0, 0)))
        queries = jnp.moveaxis(grouped.reshape(batch, strips, _DECODED_AT_ONCE, *grouped.shape[2:]), 1, 0)
        positions = jnp.pad(query_positions, (0, padding)).reshape(strips, _DECODED_AT_ONCE)
        firsts = jnp.arange(strips) * _DECODED_AT_ONCE
        out = jnp.moveaxis(lax.map(lambda item: strip_from(*item), (firsts, queries, positions)), 0, 1)
        out = out.reshape(batch, -1, *out.shape[3:])[:, :new]
    return out.reshape(batch, new, num_heads, -1)


def _near(array: Array, axis: int, first_query: Array, reach: Reach) -> Array:
    """Returns what the strip that starts at this query may see; near the end, the slice begins earlier."""
    first, rest = jnp.split(array, [reach.first], axis)
    rest = lax.dynamic_slice_in_dim(rest, first_query, reach.last + _DECODED_AT_ONCE, axis)
    return jnp.concatenate([first, rest], axis)


def attend_window(query: Queries, key: Keys, value: Values, window_size: int, first: Int[Array, ""]) -> Outputs:
    """Sliding-window attention of queries from `first` on over slots [batch, max_length, num_kv_heads, head_dim]."""
    new, slots = query.shape[1], key.shape[1]
    size = min(slots, window_size - 1 + new)
    start = jnp.clip(first + new - size, 0, slots - size)
    key, value = (lax.dynamic_slice_in_dim(array, start, size, axis=1) for array in (key, value))
    visible = window(window_size, causal=True).visible
    return attend_cached(query, key, value, first + jnp.arange(new), start + jnp.arange(size), visible)
