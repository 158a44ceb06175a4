"""Softmax attention over a few distances: every query sees the keys at the same distances from its own position.

The logits of one distance are the products of the queries with the keys moved by it. They are taken one distance after
the other, so that no block is visited for a single diagonal in it and memory stays linear in length: moved keys are
never kept, but moved again for the gradient.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from attention_variants.arrays import KeyMask, Keys, Outputs, Queries, Values, accumulation_dtype, masked_softmax


def diagonal_softmax(
    distances: tuple[int, ...],
    query: Queries,
    key: Keys,
    value: Values,
    *,
    key_mask: KeyMask | None = None,
    bias: Any = None,
) -> Outputs:
    """Softmax attention of scaled products in which query i sees the keys i - distance that exist.

    Args:
      distances: at least one, without repetition; negative ones look ahead.
      query: [batch, query_length, num_heads, head_dim].
      key: [batch, key_length, num_kv_heads, head_dim]; masked keys hold finite values.
      value: [batch, key_length, num_kv_heads, value_dim].
      key_mask: [batch, key_length], True = may be attended.
      bias: a pytree with `block`, see `interface.Bias`.

    Returns:
      [batch, query_length, num_heads, value_dim] in float32 (float64 for such inputs); a query with no permitted key
      gives 0.
    """
    batch, query_length, num_heads, head_dim = query.shape
    key_length, num_kv_heads, value_dim = value.shape[1:]
    dtype = accumulation_dtype(query.dtype)
    query = query.astype(dtype).reshape(batch, query_length, num_kv_heads, -1, head_dim) / math.sqrt(head_dim)
    front, back = max(0, *distances), max(0, query_length - key_length - min(distances))
    if key_mask is None:
        key_mask = jnp.ones((1, key_length), bool)
    key, value, visible = (_pad(array, front, back) for array in (key.astype(dtype), value.astype(dtype), key_mask))

    def moved(array: Array, distance: Any) -> Array:
        return lax.dynamic_slice_in_dim(array, front - distance, query_length, axis=1)

    @jax.checkpoint
    def logits_at(distance: Array) -> Array:
        logits = jnp.einsum("bqhgd,bqhd->bqhg", query, moved(key, distance))
        return logits if bias is None else logits + _bias_at(bias, distance, logits)

    @jax.checkpoint
    def add(out: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        distance, weights = step
        return out + jnp.einsum("bqhg,bqhd->bqhgd", weights, moved(value, distance)), None

    steps = jnp.asarray(distances)
    logits = jnp.moveaxis(lax.map(logits_at, steps), 0, -1)
    mask = jnp.moveaxis(jax.vmap(moved, (None, 0))(visible, steps), 0, -1)
    weights = jnp.moveaxis(masked_softmax(logits, mask[:, :, None, None]), -1, 0)
    out = jnp.zeros((*query.shape[:-1], value_dim), dtype)
    return lax.scan(add, out, (steps, weights))[0].reshape(batch, query_length, num_heads, value_dim)


def executed_pairs(distances: tuple[int, ...], query_length: int) -> int:
    """Pairs of a query and a key whose logit and output are computed, including keys that do not exist."""
    return query_length * len(distances)


def count_pairs(distances: tuple[int, ...], query_length: int, key_length: int) -> int:
    """Returns the number of permitted query-key pairs."""
    steps = np.asarray(distances)
    return int((np.minimum(query_length, key_length + steps) - np.maximum(steps, 0)).clip(0).sum())


def _pad(array: Array, front: int, back: int) -> Array:
    return jnp.pad(array, ((0, 0), (front, back), *((0, 0) for _ in array.shape[2:])))


def _bias_at(bias: Any, distance: Array, logits: Array) -> Array:
    """Returns the bias of every query and the key at one distance, [1, query_length, num_kv_heads, group]."""
    positions = jnp.arange(logits.shape[1])
    pairs = jax.vmap(lambda query, key: bias.block(query[None], key[None])[:, 0, 0])
    return pairs(positions, positions - distance).astype(logits.dtype).reshape(1, *logits.shape[1:])
