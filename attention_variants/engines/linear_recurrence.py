"""The recurrence S_t = decay_t S_(t-1) + key_t value_t^T, read by output_t = query_t S_t.

Three forms of one function: chunked (parallel within a chunk, a running state between chunks), recurrent (a chunk of
one token) and, without decay and not causal, one sum over all keys. A decay is one number per head or one per channel
of the key: then the rows of S decay separately, and the pairs of a chunk are multiplied by halving. `decays` explains
what is left of a key, and why nothing overflows. Gradients recompute each chunk from its incoming state.

Internally, arrays are [chunks, batch, num_kv_heads, group * chunk, dim] as in `block_softmax`.

References: Katharopoulos et al. 2020, arXiv:2006.16236; chunks as in Hua et al. 2022, arXiv:2202.10447, and Yang et
al. 2024, arXiv:2312.06635. All states are float32 (float64 for such inputs).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attention_variants.arrays import Outputs, Queries, accumulation_dtype
from attention_variants.engines.blocks import cut_blocks, even_block, join_blocks
from attention_variants.engines.decays import chunk_decays, flops_by_halves, products_by_halves


class LinearState(NamedTuple):
    """The running sums over past tokens."""

    memory: Float[Array, "batch num_kv_heads key_dim value_dim"]  # sum of decayed key value^T
    normaliser: Float[Array, "batch num_kv_heads key_dim"] | None  # sum of decayed keys; None if nothing is normalised


def empty_state(
    batch: int, num_kv_heads: int, key_dim: int, value_dim: int, dtype: Any = jnp.float32, *, normalise: bool = True
) -> LinearState:
    """Returns the state before the first token."""
    dtype = accumulation_dtype(dtype)
    memory = jnp.zeros((batch, num_kv_heads, key_dim, value_dim), dtype)
    return LinearState(memory, jnp.zeros((batch, num_kv_heads, key_dim), dtype) if normalise else None)


def linear_recurrence(
    query: Queries,
    key: Float[Array, "batch query_length num_kv_heads head_dim"],
    value: Float[Array, "batch query_length num_kv_heads value_dim"],
    *,
    log_decay: Float[Array, "#batch #query_length num_kv_heads *channels"] | None = None,
    bonus: Float[Array, "#batch #query_length num_kv_heads head_dim"] | None = None,
    normalise: bool = False,
    chunk_size: int,
    state: LinearState | None = None,
    return_state: bool = False,
) -> tuple[Outputs, LinearState | None]:
    """Causal linear attention in chunks. `head_dim` is the width of the features; values may have another.

    Args:
      query: [batch, length, num_heads, head_dim], feature map and scale applied.
      key: [batch, length, num_kv_heads, head_dim], feature map applied, masked keys 0.
      value: [batch, length, num_kv_heads, value_dim].
      log_decay: <= 0, the log of what is left of the past when this token is written: [batch, length, num_kv_heads],
        or [batch, length, num_kv_heads, head_dim] for one per channel of the key. Batch and length may be 1; None
        forgets nothing.
      bonus: for decays per channel: the output reads the state before this token's decay and write, and in place of
        the write sees its own key weighted by `bonus` [batch or 1, length or 1, num_kv_heads, head_dim].
      normalise: divide by the sum of the weights query . key; a query whose weights sum to 0 gives 0.
      chunk_size: tokens per chunk.
      state: what came before; None: nothing.
      return_state: whether to return the state after the last token.

    Returns:
      The output [batch, length, num_heads, value_dim] in float32, and the final state or None.

    Raises:
      ValueError: a bonus without decays per channel.
    """
    batch, length, num_heads, key_dim = query.shape
    num_kv_heads, value_dim = value.shape[2:]
    group, dtype = num_heads // num_kv_heads, accumulation_dtype(query.dtype)
    if state is not None:
        dtype = accumulation_dtype(query.dtype, state.memory.dtype)
        state = jax.tree.map(lambda leaf: leaf.astype(dtype), state)
    if bonus is not None and (log_decay is None or log_decay.ndim != 4):
        got = "none" if log_decay is None else log_decay.shape
        raise ValueError(f"`bonus` needs a `log_decay` [batch, length, num_kv_heads, head_dim]; got {got}.")
    per_channel = log_decay is not None and log_decay.ndim == 4
    if log_decay is not None and not per_channel:
        log_decay = log_decay[..., None]
    chunk = even_block(length, chunk_size)
    num_chunks = -(-length // chunk)

    def cut(array: Array | None, heads: int) -> Array | None:
        if array is None:
            return None
        array = jnp.broadcast_to(array.astype(dtype), (batch, length, *array.shape[2:]))
        return cut_blocks(array, num_chunks, chunk, heads)

    parts: Any = cut(query, group), cut(key, 1), cut(value, 1), cut(log_decay, 1), cut(bonus, 1)
    body = functools.partial(_chunk, normalise=normalise, per_channel=per_channel)
    if num_chunks == 1:
        only = jax.tree.map(lambda part: part[0], parts)
        out, state = body(state, *only, return_state=return_state)
        out = out[None]
    else:
        start = state or empty_state(batch, num_kv_heads, key_dim, value_dim, dtype, normalise=normalise)
        # The scan's own residuals are the incoming states; the rest of a chunk is recomputed.
        step = jax.checkpoint(lambda carry, xs: body(carry, *xs, return_state=True)[::-1], prevent_cse=False)
        state, out = lax.scan(step, start, parts)
    return join_blocks(out, group)[:, :length], state if return_state else None


def linear_sum(
    query: Queries,
    key: Float[Array, "batch key_length num_kv_heads head_dim"],
    value: Float[Array, "batch key_length num_kv_heads value_dim"],
    *,
    normalise: bool = False,
) -> Outputs:
    """Linear attention in which every query reads every key; arguments as in `linear_recurrence`."""
    return read_sum(query, write_sum(key, value, normalise=normalise))


def write_sum(
    key: Float[Array, "batch key_length num_kv_heads head_dim"],
    value: Float[Array, "batch key_length num_kv_heads value_dim"],
    *,
    normalise: bool,
) -> LinearState:
    """Returns the sums over all keys, without decay."""
    dtype = accumulation_dtype(key.dtype)
    key, value = key.astype(dtype), value.astype(dtype)
    return LinearState(jnp.einsum("bkhd,bkhe->bhde", key, value), key.sum(1) if normalise else None)


def read_sum(query: Queries, state: LinearState) -> Outputs:
    """Returns what queries read from sums over keys, divided by the sum of weights if the sums include it."""
    batch, length, num_heads, head_dim = query.shape
    dtype = accumulation_dtype(query.dtype)
    query = query.astype(dtype).reshape(batch, length, state.memory.shape[1], -1, head_dim)
    out = jnp.einsum("bqhgd,bhde->bqhge", query, state.memory)
    if state.normaliser is not None:
        out = _divide(out, jnp.einsum("bqhgd,bhd->bqhg", query, state.normaliser))
    return out.reshape(batch, length, num_heads, -1)


def chunked_flops(
    length: int,
    num_heads: int,
    num_kv_heads: int,
    key_dim: int,
    value_dim: int,
    *,
    chunk_size: int,
    normalise: bool,
    decays_per_channel: bool = False,
) -> int:
    """FLOPs of the matrix products of `linear_recurrence` on one sequence without a state."""
    chunk = even_block(length, chunk_size)
    num_chunks = -(-length // chunk)
    products = 2 * chunk * chunk * key_dim
    if decays_per_channel:
        products = 2 * chunk * key_dim + flops_by_halves(chunk, 1, 1, key_dim)  # own keys, and those before
    within = num_heads * (products + 2 * chunk * chunk * value_dim)
    if num_chunks == 1:
        return within
    between = summed_flops(chunk, chunk, num_heads, num_kv_heads, key_dim, value_dim, normalise=normalise)
    return num_chunks * (within + between)


def summed_flops(
    query_length: int,
    key_length: int,
    num_heads: int,
    num_kv_heads: int,
    key_dim: int,
    value_dim: int,
    *,
    normalise: bool,
) -> int:
    """FLOPs of `linear_sum` on one sequence, which are also those of the token-by-token recurrence."""
    write = 2 * key_length * num_kv_heads * key_dim * value_dim
    return write + 2 * query_length * num_heads * key_dim * (value_dim + normalise)


def _chunk(
    state: LinearState | None,
    query: Array,
    key: Array,
    value: Array,
    log_decay: Array | None,
    bonus: Array | None,
    *,
    normalise: bool,
    per_channel: bool,
    return_state: bool,
) -> tuple[Array, LinearState | None]:
    """One chunk: query [batch, kv_heads, group * chunk, dim], the others [batch, kv_heads, chunk, dim or 1]."""
    rows, chunk = query.shape[:3], key.shape[2]
    query = query.reshape(*rows[:2], -1, chunk, query.shape[3])  # [batch, kv_heads, group, chunk, dim]
    from_start: Any = 1.0
    to_end: Any = 1.0
    over: Any = 1.0
    if log_decay is None:
        causal = jnp.tril(jnp.ones((chunk, chunk), bool))
        weights = jnp.where(causal, jnp.einsum("bhgid,bhjd->bhgij", query, key), 0.0)
    else:
        weights, from_start, to_end, over = _decayed_weights(query, key, log_decay, bonus, per_channel)
        from_start, over = from_start[:, :, None], over[..., None]
    out, sums = jnp.einsum("bhgij,bhje->bhgie", weights, value), weights.sum(-1)
    if state is not None:
        query = query * from_start
        out = out + jnp.einsum("bhgid,bhde->bhgie", query, state.memory)
        if normalise:
            sums = sums + jnp.einsum("bhgid,bhd->bhgi", query, state.normaliser)
    if normalise:
        out = _divide(out, sums)
    if return_state:
        state = _write(state, key * to_end, value, over, normalise)
    return out.reshape(*rows, -1), state if return_state else None


def _decayed_weights(
    query: Array, key: Array, log_decay: Array, bonus: Array | None, per_channel: bool
) -> tuple[Array, ...]:
    """Weights [batch, kv_heads, group, chunk, chunk]; what is left from the start, to the end, and over the chunk."""
    if not per_channel:
        between, *ends = chunk_decays(log_decay)
        return jnp.einsum("bhgid,bhjd->bhgij", query, key) * between[:, :, None], *ends
    readers, own_key = jnp.swapaxes(query, 2, 3), key if bonus is None else key * bonus
    own = jnp.einsum("bhigd,bhid->bhig", readers, own_key)[..., None]
    reads_first = bonus is not None
    (products,), *ends = products_by_halves((readers,), key[:, :, :, None], (own,), log_decay, reads_first=reads_first)
    return jnp.swapaxes(products, 2, 3), *ends


def _write(state: LinearState | None, key: Array, value: Array, over: Any, normalise: bool) -> LinearState:
    """The state after a chunk: what is left of it, `over` [..., dim or 1, 1], and the keys decayed to the end."""
    memory, normaliser = jnp.einsum("bhjd,bhje->bhde", key, value), key.sum(2) if normalise else None
    if state is None:
        return LinearState(memory, normaliser)
    memory = state.memory * over + memory
    if normaliser is None or state.normaliser is None:
        return state._replace(memory=memory)
    return LinearState(memory, (state.normaliser[..., None] * over)[..., 0] + normaliser)


def _divide(out: Array, sums: Array) -> Array:
    empty = (sums == 0)[..., None]
    return jnp.where(empty, 0.0, _ratio(out, jnp.where(empty, 1.0, sums[..., None])))


@jax.custom_jvp
def _ratio(out: Array, sums: Array) -> Array:
    """Returns out / sums; the derivative rule of a division squares `sums`, which may over- or underflow."""
    return out / sums


@_ratio.defjvp
def _ratio_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (out, sums), (d_out, d_sums) = primals, tangents
    ratio = out / sums
    return ratio, (d_out - ratio * d_sums) / sums
