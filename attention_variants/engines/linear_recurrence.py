"""The recurrence S_t = decay_t S_(t-1) + key_t value_t^T, read by output_t = query_t S_t.

Three forms of one function: chunked (parallel within a chunk, a running state between chunks), recurrent (a chunk of
one token) and, without decay and not causal, one sum over all keys. Within a chunk position i reads position j <= i
with the product of the decays of j+1..i, which is exp(a_i - a_j) for the running sum a of log decays; only such
differences <= 0 are exponentiated, so nothing overflows. Gradients recompute each chunk from its incoming state.

Within, arrays are [chunks, batch, num_kv_heads, group * chunk, dim] as in `block_softmax`.

References: Katharopoulos et al. 2020, arXiv:2006.16236; chunks as in Hua et al. 2022, arXiv:2202.10447, and Yang et
al. 2024, arXiv:2312.06635. All states are float32 (float64 for such inputs).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attention_variants.engines.block_softmax import cut_blocks, even_block, join_blocks
from attention_variants.interface import Outputs, Queries, accumulation_dtype


class LinearState(NamedTuple):
    """The running sums over past tokens."""

    memory: Float[Array, "batch num_kv_heads head_dim value_dim"]  # sum of decayed key value^T
    normaliser: Float[Array, "batch num_kv_heads head_dim"]  # sum of decayed keys


def empty_state(batch: int, num_kv_heads: int, head_dim: int, value_dim: int, dtype: Any = jnp.float32) -> LinearState:
    """Returns the state before the first token."""
    dtype = accumulation_dtype(dtype)
    return LinearState(
        jnp.zeros((batch, num_kv_heads, head_dim, value_dim), dtype), jnp.zeros((batch, num_kv_heads, head_dim), dtype)
    )


def linear_recurrence(
    query: Queries,
    key: Float[Array, "batch query_length num_kv_heads head_dim"],
    value: Float[Array, "batch query_length num_kv_heads value_dim"],
    *,
    log_decay: Float[Array, "batch query_length num_kv_heads"] | None = None,
    normalise: bool = False,
    chunk_size: int,
    state: LinearState | None = None,
    return_state: bool = False,
) -> tuple[Outputs, LinearState | None]:
    """Causal linear attention in chunks.

    Args:
      query: [batch, length, num_heads, head_dim], feature map and scale applied.
      key: [batch, length, num_kv_heads, head_dim], feature map applied, masked keys 0.
      value: [batch, length, num_kv_heads, value_dim].
      log_decay: [batch, length, num_kv_heads], <= 0; the log of what is left of the past when this token is written.
      normalise: divide by the sum of the weights query . key; a query whose weights sum to 0 gives 0.
      chunk_size: tokens per chunk.
      state: what came before; None is nothing.
      return_state: whether the state after the last token is wanted.

    Returns:
      The output [batch, length, num_heads, value_dim] in float32, and the final state or None.
    """
    batch, length, num_heads, head_dim = query.shape
    num_kv_heads, value_dim = value.shape[2:]
    group, dtype = num_heads // num_kv_heads, accumulation_dtype(query.dtype)
    chunk = even_block(length, chunk_size)
    num_chunks = -(-length // chunk)
    query, key, value = (
        cut_blocks(array.astype(dtype), num_chunks, chunk, heads)
        for array, heads in ((query, group), (key, 1), (value, 1))
    )
    decays = None if log_decay is None else cut_blocks(log_decay.astype(dtype)[..., None], num_chunks, chunk, 1)[..., 0]
    body = functools.partial(_chunk, normalise=normalise)
    if num_chunks == 1:
        out, state = body(state, query[0], key[0], value[0], _first(decays), return_state=return_state)
        out = out[None]
    else:
        start = state or empty_state(batch, num_kv_heads, head_dim, value_dim, dtype)
        # The scan's own residuals are the incoming states; the rest of a chunk is recomputed.
        step = jax.checkpoint(lambda carry, xs: body(carry, *xs, return_state=True)[::-1], prevent_cse=False)
        state, out = lax.scan(step, start, (query, key, value, decays))
    return join_blocks(out, group)[:, :length], state if return_state else None


def linear_sum(
    query: Queries,
    key: Float[Array, "batch key_length num_kv_heads head_dim"],
    value: Float[Array, "batch key_length num_kv_heads value_dim"],
    *,
    normalise: bool = False,
) -> Outputs:
    """Linear attention in which every query reads every key; arguments as in `linear_recurrence`."""
    batch, length, num_heads, head_dim = query.shape
    dtype = accumulation_dtype(query.dtype)
    key, value = key.astype(dtype), value.astype(dtype)
    query = query.astype(dtype).reshape(batch, length, key.shape[2], -1, head_dim)
    out = jnp.einsum("bqhgd,bhde->bqhge", query, jnp.einsum("bkhd,bkhe->bhde", key, value))
    if normalise:
        out = _divide(out, jnp.einsum("bqhgd,bhd->bqhg", query, key.sum(1)))
    return out.reshape(batch, length, num_heads, -1)


def chunked_flops(
    length: int, num_heads: int, num_kv_heads: int, head_dim: int, chunk_size: int, normalise: bool
) -> int:
    """FLOPs of the matrix products of `linear_recurrence` on one sequence without a state; value_dim == head_dim."""
    chunk = even_block(length, chunk_size)
    num_chunks = -(-length // chunk)
    within = 4 * num_heads * chunk * chunk * head_dim
    between = 2 * num_heads * chunk * head_dim * (head_dim + normalise) + 2 * num_kv_heads * chunk * head_dim**2
    return num_chunks * (within + between) if num_chunks > 1 else within


def summed_flops(
    query_length: int, key_length: int, num_heads: int, num_kv_heads: int, head_dim: int, normalise: bool
) -> int:
    """FLOPs of `linear_sum` on one sequence, which are also those of the token-by-token recurrence."""
    write = 2 * key_length * num_kv_heads * head_dim**2
    return write + 2 * query_length * num_heads * head_dim * (head_dim + normalise)


def _chunk(
    state: LinearState | None,
    query: Array,
    key: Array,
    value: Array,
    log_decay: Array | None,
    *,
    normalise: bool,
    return_state: bool,
) -> tuple[Array, LinearState | None]:
    """One chunk: query [batch, kv_heads, group * chunk, dim], key and value [batch, kv_heads, chunk, dim]."""
    chunk = key.shape[2]
    group = query.shape[2] // chunk
    weights = jnp.einsum("bhqd,bhkd->bhqk", query, key)
    causal = jnp.tile(jnp.tril(jnp.ones((chunk, chunk), bool)), (group, 1))
    if log_decay is None:
        weights = jnp.where(causal, weights, 0.0)
        from_start = to_end = over = None
    else:
        total = jnp.cumsum(log_decay, axis=-1)
        between = jnp.tile(total, group)[..., :, None] - total[..., None, :]
        weights = jnp.where(causal, weights * jnp.exp(jnp.where(causal, between, 0.0)), 0.0)
        from_start, to_end, over = (
            jnp.exp(jnp.tile(total, group)),
            jnp.exp(total[..., -1:] - total),
            jnp.exp(total[..., -1]),
        )
    out = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
    sums = weights.sum(-1)
    if state is not None:
        decayed = query if from_start is None else query * from_start[..., None]
        out = out + jnp.einsum("bhqd,bhde->bhqe", decayed, state.memory)
        if normalise:
            sums = sums + jnp.einsum("bhqd,bhd->bhq", decayed, state.normaliser)
    if normalise:
        out = _divide(out, sums)
    return out, _write(state, key, value, to_end, over) if return_state else None


def _write(
    state: LinearState | None, key: Array, value: Array, to_end: Array | None, over: Array | None
) -> LinearState:
    """The state after a chunk; `to_end` decays each key to the chunk's end, `over` the state across the chunk."""
    if to_end is not None:
        key = key * to_end[..., None]
    memory, normaliser = jnp.einsum("bhkd,bhke->bhde", key, value), key.sum(2)
    if state is None:
        return LinearState(memory, normaliser)
    if over is None:
        return LinearState(state.memory + memory, state.normaliser + normaliser)
    return LinearState(state.memory * over[..., None, None] + memory, state.normaliser * over[..., None] + normaliser)


def _divide(out: Array, sums: Array) -> Array:
    empty = sums == 0
    return jnp.where(empty[..., None], 0.0, out / jnp.where(empty, 1.0, sums)[..., None])


def _first(array: Array | None) -> Array | None:
    return None if array is None else array[0]
