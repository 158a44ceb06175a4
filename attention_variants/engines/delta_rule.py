"""The delta rule: a memory that is corrected, not only added to.

    S_t = Diag(decay_t) S_(t-1),  then  S_t += strength_t key_t (value_t - S_t^T key_t)^T,  output_t = S_t^T query_t

Each token writes strength_t times the difference between its value and what the memory already holds under its key.
What token i of a chunk writes, u_i, depends on what those before it wrote. With S the state before the chunk and a_i
the log decays summed over the chunk up to token i, that is one triangular system per chunk (the WY form):

    (I + A) u = strength (value - (key exp(a)) S),   A_ij = strength_i sum_d key_id key_jd exp(a_i - a_j)_d,  j < i
    output_i  = (query_i exp(a_i)) S + sum_(j <= i) sum_d query_id key_jd exp(a_i - a_j)_d  u_j
    next S    = exp(a_last) S + sum_j (key_j exp(a_last - a_j)) u_j^T

The system is inverted by halves, in `unit_lower`: a product of powers of A loses every digit where keys repeat. What
decays leave, and why nothing overflows, is in `decays`. Gradients recompute each chunk from its incoming state.

Within, arrays are [chunks, batch, num_kv_heads, ...] as in `linear_recurrence`.

References: Yang et al. 2024, arXiv:2406.06484, section 3 (without decay); Yang et al. 2024, arXiv:2412.06464, section
3.3 (scalar decay); Kimi Team 2025, arXiv:2510.26692, section 3 (a decay per channel). All states are float32 (float64
for such inputs).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attention_variants.arrays import Outputs, Queries, accumulation_dtype
from attention_variants.engines.blocks import cut_blocks, even_block, join_blocks
from attention_variants.engines.decays import Decays, chunk_decays
from attention_variants.engines.triangular_inverse import inverse_flops, unit_lower_inverse

State = Float[Array, "batch num_kv_heads head_dim value_dim"]


def empty_state(batch: int, num_kv_heads: int, head_dim: int, value_dim: int, dtype: Any = jnp.float32) -> State:
    """Returns the state before the first token."""
    return jnp.zeros((batch, num_kv_heads, head_dim, value_dim), accumulation_dtype(dtype))


def delta_rule(
    query: Queries,
    key: Float[Array, "batch query_length num_kv_heads head_dim"],
    value: Float[Array, "batch query_length num_kv_heads value_dim"],
    *,
    write_strength: Float[Array, "batch query_length num_kv_heads"],
    log_decay: Float[Array, "batch query_length num_kv_heads *head_dim"] | None = None,
    chunk_size: int,
    state: State | None = None,
    return_state: bool = False,
) -> tuple[Outputs, State | None]:
    """The delta rule in chunks.

    Args:
      query: [batch, length, num_heads, head_dim], feature map applied.
      key: [batch, length, num_kv_heads, head_dim], of length at most 1, masked keys 0: what they write is 0.
      value: [batch, length, num_kv_heads, value_dim].
      write_strength: [batch, length, num_kv_heads], from 0 (writes nothing) to 1 (replaces what stood under the key).
      log_decay: <= 0, the log of what is left of the past when this token is written: [batch, length, num_kv_heads],
        or [batch, length, num_kv_heads, head_dim] for one per row of the state; None forgets nothing.
      chunk_size: tokens per chunk. One decay per channel takes chunk_size^2 * head_dim numbers of working memory per
        head, where a scalar takes chunk_size^2.
      state: what came before; None is nothing.
      return_state: whether the state after the last token is wanted.

    Returns:
      The output [batch, length, num_heads, value_dim] in float32, and the final state or None.
    """
    batch, length, num_heads, head_dim = query.shape
    num_kv_heads, value_dim = value.shape[2:]
    group, dtype = num_heads // num_kv_heads, accumulation_dtype(query.dtype)
    if state is not None:
        dtype = accumulation_dtype(query.dtype, state.dtype)
        state = state.astype(dtype)
    chunk = even_block(length, chunk_size)
    num_chunks = -(-length // chunk)
    if log_decay is not None and log_decay.ndim == 3:
        log_decay = log_decay[..., None]
    arrays = (query, group), (key, 1), (value, 1), (write_strength[..., None], 1), (log_decay, 1)
    parts: list[Any] = [
        None if array is None else cut_blocks(array.astype(dtype), num_chunks, chunk, heads) for array, heads in arrays
    ]
    if num_chunks == 1:
        out, state = _chunk(state, *jax.tree.map(lambda part: part[0], parts), return_state=return_state)
        out = out[None]
    else:
        start = empty_state(batch, num_kv_heads, head_dim, value_dim, dtype) if state is None else state
        # The scan's own residuals are the incoming states; the rest of a chunk is recomputed.
        step = jax.checkpoint(lambda carry, xs: _chunk(carry, *xs, return_state=True)[::-1], prevent_cse=False)
        state, out = lax.scan(step, start, parts)
    return join_blocks(out, group)[:, :length], state if return_state else None


def chunked_flops(
    length: int, num_heads: int, num_kv_heads: int, head_dim: int, value_dim: int, chunk_size: int
) -> int:
    """FLOPs of the matrix products of `delta_rule` on one sequence without a state."""
    chunk = even_block(length, chunk_size)
    num_chunks = -(-length // chunk)
    within = 2 * (num_heads + num_kv_heads) * chunk**2 * (head_dim + value_dim) + num_kv_heads * inverse_flops(chunk)
    between = recurrent_flops(chunk, num_heads, num_kv_heads, head_dim, value_dim)
    return num_chunks * (within + between) if num_chunks > 1 else within


def recurrent_flops(length: int, num_heads: int, num_kv_heads: int, head_dim: int, value_dim: int) -> int:
    """FLOPs of the token-by-token rule on one sequence: read under the key, write, and read under the queries."""
    return (2 * num_heads + 4 * num_kv_heads) * length * head_dim * value_dim


def _chunk(
    state: Array | None,
    query: Array,
    key: Array,
    value: Array,
    strength: Array,
    log_decay: Array | None,
    *,
    return_state: bool,
) -> tuple[Array, Array | None]:
    """One chunk: query [batch, kv_heads, group * chunk, dim], the others [batch, kv_heads, chunk, dim or 1]."""
    batch, kv_heads, chunk, head_dim = key.shape
    decays = None if log_decay is None else chunk_decays(log_decay)
    # Keys read the memory just as queries do: to learn what it already holds.
    readers = jnp.concatenate([key, query], axis=2).reshape(batch, kv_heads, -1, chunk, head_dim)
    products = _products(readers, key, decays)
    held = None
    if state is not None:
        decayed = readers if decays is None else readers * decays.from_start[:, :, None]
        held = jnp.einsum("bhgid,bhde->bhgie", decayed, state)
    surprise = value if held is None else value - held[:, :, 0]
    system = jnp.tril(products[:, :, 0], -1) * strength
    written = jnp.einsum("bhij,bhje->bhie", unit_lower_inverse(system), surprise * strength)
    out = jnp.einsum("bhgij,bhje->bhgie", products[:, :, 1:], written)
    if held is not None:
        out = out + held[:, :, 1:]
    if return_state:
        added = jnp.einsum("bhjd,bhje->bhde", key if decays is None else key * decays.to_end, written)
        if state is not None:
            added = added + (state if decays is None else state * decays.over[..., None])
        state = added
    return out.reshape(*query.shape[:3], -1), state if return_state else None


def _products(readers: Array, key: Array, decays: Decays | None) -> Array:
    """Returns what each reader i finds of each key j, sum_d reader_id key_jd between_ijd; 0 for j > i."""
    if decays is None:
        return jnp.tril(jnp.einsum("bhgid,bhjd->bhgij", readers, key))
    if decays.between.shape[-1] == 1:
        return jnp.einsum("bhgid,bhjd->bhgij", readers, key) * decays.between[:, :, None, ..., 0]
    return jnp.einsum("bhgid,bhijd->bhgij", readers, key[:, :, None] * decays.between)
