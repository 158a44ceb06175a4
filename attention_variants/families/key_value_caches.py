"""Decoding caches of keys and values: the last ones, or every one at its position."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from attention_variants.arrays import Keys, Values
from attention_variants.interface import HeadSizes


class RollingCache(NamedTuple):
    """The last keys and values, newest last; slot s holds position length - size + s, or nothing if that is < 0."""

    key: Float[Array, "batch size num_kv_heads head_dim"]
    value: Float[Array, "batch size num_kv_heads value_dim"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


class PositionedCache(NamedTuple):
    """All keys and values; slot s holds position s, or zeros until that token arrives."""

    key: Float[Array, "batch max_length num_kv_heads head_dim"]
    value: Float[Array, "batch max_length num_kv_heads value_dim"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


def empty_pair(batch: int, slots: int, heads: HeadSizes, dtype: Any) -> tuple[Array, Array]:
    """Returns zeros for keys and for values: two buffers, because one cannot be donated twice."""
    shape = batch, slots, heads.num_kv_heads
    return jnp.zeros((*shape, heads.head_dim), dtype), jnp.zeros((*shape, heads.value_dim), dtype)


def empty_cache(batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> PositionedCache:
    """Returns the cache before the first token."""
    key, value = empty_pair(batch, max_length, heads, dtype)
    return PositionedCache(key, value, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))


def append(cache: PositionedCache, key: Keys, value: Values) -> PositionedCache:
    """Returns the cache with the keys and values of new tokens."""
    new = key.shape[1]
    key, value = put(cache.key, key, cache.length), put(cache.value, value, cache.length)
    return PositionedCache(key, value, cache.length + new, cache.max_length)


def put(slots: Array, new: Array, first: Int[Array, ""]) -> Array:
    """Writes `new` [batch, new, ...] into `slots` [batch, slots, ...] from slot `first` on; drops what does not fit."""
    return slots.at[:, first + jnp.arange(new.shape[1])].set(new.astype(slots.dtype), mode="drop")
