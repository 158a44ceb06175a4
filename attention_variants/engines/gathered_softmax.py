"""Softmax attention in which every query has a short list of keys of its own; memory linear in length.

The listed keys and values are gathered for one strip of queries at a time. The backward pass gathers them again,
recomputes the weights, and adds what falls on a key into one running gradient.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from attention_variants.arrays import Keys, Outputs, Queries, Values, accumulation_dtype, masked_softmax
from attention_variants.engines.blocks import even_block

_GATHERED_AT_ONCE = 1024  # keys per head and strip: their gathered copies should stay in a cache


def gathered_softmax(
    query: Queries, key: Keys, value: Values, indices: Int[Array, "batch num_heads query_length listed"]
) -> Outputs:
    """Softmax attention of scaled products over the listed keys.

    Args:
      query: [batch, query_length, num_heads, head_dim].
      key: [batch, key_length, num_kv_heads, head_dim].
      value: [batch, key_length, num_kv_heads, value_dim].
      indices: the keys of each query and head, without repetition; -1 lists none.

    Returns:
      [batch, query_length, num_heads, value_dim] in float32 (float64 for such inputs); 0 where no key is listed.
    """
    batch, length, num_heads, _ = query.shape
    key_length, num_kv_heads = key.shape[1:3]
    strip = _strip(length, indices.shape[3])
    strips = -(-length // strip)

    def cut(array: Array, filler: int) -> Array:
        """[batch, num_heads, length, n] -> [batch, num_kv_heads, group, strips, strip, n]."""
        padding = ((0, 0), (0, 0), (0, strips * strip - length), (0, 0))
        array = jnp.pad(array, padding, constant_values=filler)
        return array.reshape(batch, num_kv_heads, num_heads // num_kv_heads, strips, strip, -1)

    # Past the end of the keys, where gathering gives 0 and scattering is dropped.
    indices = jnp.where(indices < 0, key_length, indices)
    heads = jax.vmap(jax.vmap(jax.vmap(_attention, (0, None, None, 0))))  # batch, num_kv_heads, group
    out = heads(cut(query.swapaxes(1, 2), 0), key.swapaxes(1, 2), value.swapaxes(1, 2), cut(indices, key_length))
    return out.reshape(batch, num_heads, strips * strip, -1).swapaxes(1, 2)[:, :length]


def gathered_pairs(query_length: int, listed: int) -> int:
    """Pairs of a query and a listed key whose logit and output are computed, padding included."""
    strip = _strip(query_length, listed)
    return -(-query_length // strip) * strip * listed


def _strip(length: int, listed: int) -> int:
    return even_block(length, max(1, _GATHERED_AT_ONCE // listed))


@jax.custom_vjp
def _attention(query: Array, key: Array, value: Array, indices: Array) -> Array:
    """One head: query [strips, strip, dim], key and value [key_length, dim], indices [strips, strip, listed]."""

    def attend(item: tuple[Array, Array]) -> Array:
        query, indices = item
        weights = _weights(query, _gather(key, indices), indices < len(key))
        return _contract("qm,qmd->qd", weights.astype(value.dtype), _gather(value, indices))

    return lax.map(attend, (query, indices))


def _attention_forward(query: Array, key: Array, value: Array, indices: Array) -> Any:
    return _attention(query, key, value, indices), (query, key, value, indices)


def _attention_backward(saved: Any, d_out: Array) -> Any:
    """With weights w of a query: d logits = w * (d out . value - sum w * (d out . value))."""
    query, key, value, indices = saved
    dtype = d_out.dtype

    def step(carry: tuple[Array, Array], item: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], Array]:
        d_key, d_value = carry
        query, indices, d_out = item
        keys = _gather(key, indices)
        weights = _weights(query, keys, indices < len(key))
        d_weights = _contract("qd,qmd->qm", d_out, _gather(value, indices).astype(dtype))
        mean = (weights * d_weights).sum(-1, keepdims=True)
        d_logits = weights * (d_weights - mean) / math.sqrt(query.shape[-1])
        d_key = d_key.at[indices].add(d_logits[..., None] * query[:, None].astype(dtype), mode="drop")
        d_value = d_value.at[indices].add(weights[..., None] * d_out[:, None], mode="drop")
        return (d_key, d_value), _contract("qm,qmd->qd", d_logits, keys.astype(dtype))

    zeros = jnp.zeros(key.shape, dtype), jnp.zeros(value.shape, dtype)
    (d_key, d_value), d_query = lax.scan(step, zeros, (query, indices, d_out))
    return d_query.astype(query.dtype), d_key.astype(key.dtype), d_value.astype(value.dtype), None


_attention.defvjp(_attention_forward, _attention_backward)


def _gather(array: Array, indices: Array) -> Array:
    return array.at[indices].get(mode="fill", fill_value=0)


def _weights(query: Array, keys: Array, listed: Array) -> Array:
    return masked_softmax(_contract("qd,qmd->qm", query, keys) / math.sqrt(query.shape[-1]), listed)


def _contract(equation: str, left: Array, right: Array) -> Array:
    return jnp.einsum(equation, left, right, preferred_element_type=accumulation_dtype(left.dtype))
