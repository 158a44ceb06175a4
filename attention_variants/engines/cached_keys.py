"""A decoding cache that keeps every key and value at its position, for patterns that may reach back anywhere."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from attention_variants.engines.pattern_attention import attend_cached
from attention_variants.interface import Keys, Outputs, Queries, Values
from attention_variants.patterns import window


class PositionedCache(NamedTuple):
    """All keys and values; slot s holds position s, zeros where it is yet to come."""

    key: Float[Array, "batch max_length num_kv_heads head_dim"]
    value: Float[Array, "batch max_length num_kv_heads head_dim"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


def empty_cache(batch: int, max_length: int, num_kv_heads: int, head_dim: int, dtype: Any) -> PositionedCache:
    """Returns the cache before the first token."""
    empty = jnp.zeros((batch, max_length, num_kv_heads, head_dim), dtype)
    return PositionedCache(empty, empty, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))


def append(cache: PositionedCache, key: Keys, value: Values) -> PositionedCache:
    """Returns the cache with the keys and values of new tokens."""
    new = key.shape[1]
    key, value = put(cache.key, key, cache.length), put(cache.value, value, cache.length)
    return PositionedCache(key, value, cache.length + new, cache.max_length)


def put(slots: Array, new: Array, first: Int[Array, ""]) -> Array:
    """Writes `new` [batch, new, ...] into `slots` [batch, slots, ...] from slot `first` on; drops what is past them."""
    return slots.at[:, first + jnp.arange(new.shape[1])].set(new.astype(slots.dtype), mode="drop")


def attend_window(query: Queries, key: Keys, value: Values, window_size: int, first: Int[Array, ""]) -> Outputs:
    """Sliding-window attention of queries at `first` and on over slots [batch, max_length, num_kv_heads, head_dim]."""
    new, slots = query.shape[1], key.shape[1]
    size = min(slots, window_size - 1 + new)
    start = jnp.clip(first + new - size, 0, slots - size)
    key, value = (lax.dynamic_slice_in_dim(array, start, size, axis=1) for array in (key, value))
    visible = window(window_size, causal=True).visible
    return attend_cached(query, key, value, first + jnp.arange(new), start + jnp.arange(size), visible)
