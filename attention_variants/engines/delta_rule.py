"""The delta rule: a memory that is corrected, not only added to.

    S_t = Diag(decay_t) S_(t-1),  then for each write  S_t += strength f (value - S_t^T e)^T,  output_t = S_t^T query_t

A write reads what the memory stores under its erase key e. Under its write key f, it adds strength times the difference
between its value and what it read; in the plain rule, f is e. A token decays the past once and then writes, once or
several times in turn. The difference u_i of write i depends on the writes before it. With S the state before a chunk,
and a_i the log decays summed over the chunk up to the token of write i, this is one triangular system per chunk (the WY
form):

    (I + A) u = value - (e exp(a)) S,   A_ij = strength_j sum_d e_id f_jd exp(a_i - a_j)_d,  j < i
    output_i  = (query_i exp(a_i)) S + sum_j strength_j sum_d query_id f_jd exp(a_i - a_j)_d u_j,  j of tokens <= i
    next S    = exp(a_last) S + sum_j strength_j (f_j exp(a_last - a_j)) u_j^T

The system is inverted by halving, in `unit_lower_inverse`: a product of powers of A loses every digit if keys repeat.
`decays` explains what decays leave, and why nothing overflows. Gradients recompute each chunk from its incoming state.

Internally, arrays are [chunks, batch, num_kv_heads, rows, dim]: the rows of a token (its writes, or its queries of one
group) are adjacent.

References: Yang et al. 2024, arXiv:2406.06484, section 3 (without decay); Yang et al. 2024, arXiv:2412.06464, section
3.3 (scalar decay); Kimi Team 2025, arXiv:2510.26692, section 3 (a decay per channel); Siems et al. 2025,
arXiv:2502.10297, section 3 (several writes per token). All states are float32 (float64 for such inputs).
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
from attention_variants.engines.triangular_inverse import inverse_flops, unit_lower_inverse

State = Float[Array, "batch num_kv_heads head_dim value_dim"]


def empty_state(batch: int, num_kv_heads: int, head_dim: int, value_dim: int, dtype: Any = jnp.float32) -> State:
    """Returns the state before the first token."""
    return jnp.zeros((batch, num_kv_heads, head_dim, value_dim), accumulation_dtype(dtype))


def delta_rule(
    query: Queries,
    key: Float[Array, "batch writes num_kv_heads head_dim"],
    value: Float[Array, "batch writes num_kv_heads value_dim"],
    *,
    write_key: Float[Array, "batch writes num_kv_heads head_dim"] | None = None,
    write_strength: Float[Array, "batch writes num_kv_heads"] | None = None,
    log_decay: Float[Array, "batch query_length num_kv_heads *head_dim"] | None = None,
    chunk_size: int,
    state: State | None = None,
    return_state: bool = False,
) -> tuple[Outputs, State | None]:
    """The delta rule in chunks.

    Args:
      query: [batch, length, num_heads, head_dim], feature map applied.
      key: [batch, writes, num_kv_heads, head_dim], the erase keys. `writes` is a multiple of length; the writes of a
        token are consecutive.
      value: [batch, writes, num_kv_heads, value_dim].
      write_key: like `key`, where the difference goes; None: `key`. The memory stays bounded where I - strength f e^T
        lengthens no vector: with f = e of length at most 1 and a strength from 0 to 2.
      write_strength: [batch, writes, num_kv_heads]: 0 writes nothing, 1 replaces what is stored under a unit key, 2
        flips its sign; None: 1.
      log_decay: <= 0, the log of what is left of the past when this token arrives: [batch, length, num_kv_heads], or
        [batch, length, num_kv_heads, head_dim] for one per row of the state; None forgets nothing.
      chunk_size: tokens per chunk.
      state: what came before; None: nothing.
      return_state: whether to return the state after the last token.

    Returns:
      The output [batch, length, num_heads, value_dim] in float32, and the final state or None.

    Raises:
      ValueError: the number of writes is not a multiple of the length.
    """
    batch, length, num_heads, head_dim = query.shape
    num_kv_heads, value_dim = value.shape[2:]
    if value.shape[1] % length:
        raise ValueError(f"the number of writes must be a multiple of the {length} tokens; got {value.shape[1]}.")
    dtype = accumulation_dtype(query.dtype)
    if state is not None:
        dtype = accumulation_dtype(query.dtype, state.dtype)
        state = state.astype(dtype)
    chunk = even_block(length, chunk_size)
    num_chunks = -(-length // chunk)
    if log_decay is not None and log_decay.ndim == 3:
        log_decay = log_decay[..., None]
    if write_strength is not None:
        write_strength = write_strength[..., None]
    query = _heads_as_rows(query, num_kv_heads)
    parts: list[Any] = [
        None if rows is None else cut_blocks(rows.astype(dtype), num_chunks, chunk * (rows.shape[1] // length), 1)
        for rows in (query, key, write_key, write_strength, value, log_decay)
    ]
    body = functools.partial(_chunk, chunk=chunk)
    if num_chunks == 1:
        out, state = body(state, *jax.tree.map(lambda part: part[0], parts), return_state=return_state)
        out = out[None]
    else:
        start = empty_state(batch, num_kv_heads, head_dim, value_dim, dtype) if state is None else state
        # The scan's own residuals are the incoming states; the rest of a chunk is recomputed.
        step = jax.checkpoint(lambda carry, xs: body(carry, *xs, return_state=True)[::-1], prevent_cse=False)
        state, out = lax.scan(step, start, parts)
    rows = join_blocks(out, 1)[:, : length * (num_heads // num_kv_heads)]
    return _rows_as_heads(rows, length), state if return_state else None


def chunked_flops(
    length: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    value_dim: int,
    *,
    chunk_size: int,
    writes_per_token: int = 1,
    per_channel: bool = False,
) -> int:
    """FLOPs of the matrix products of `delta_rule` on one sequence without a state; `per_channel` refers to decays."""
    chunk = even_block(length, chunk_size)
    num_chunks, writes = -(-length // chunk), writes_per_token * chunk
    rows = num_heads // num_kv_heads + writes_per_token  # readers per token and key-value head
    products = 2 * rows * writes_per_token * head_dim * chunk**2
    if per_channel:  # those of each token, and those before it
        products = 2 * rows * writes_per_token * head_dim * chunk
        products += flops_by_halves(chunk, rows, writes_per_token, head_dim)
    within = products + inverse_flops(writes) + 2 * rows * chunk * writes * value_dim
    between = 2 * (rows * chunk + writes) * head_dim * value_dim
    return num_kv_heads * num_chunks * (within + between if num_chunks > 1 else within)


def recurrent_flops(
    length: int, num_heads: int, num_kv_heads: int, head_dim: int, value_dim: int, *, writes_per_token: int = 1
) -> int:
    """FLOPs of the rule write by write on one sequence: read under the erase key, write, read under the queries."""
    return (2 * num_heads + 4 * num_kv_heads * writes_per_token) * length * head_dim * value_dim


def _heads_as_rows(query: Array, num_kv_heads: int) -> Array:
    """[batch, length, num_heads, dim] -> [batch, length * group, num_kv_heads, dim]."""
    batch, length, num_heads, dim = query.shape
    query = query.reshape(batch, length, num_kv_heads, num_heads // num_kv_heads, dim)
    return query.swapaxes(2, 3).reshape(batch, -1, num_kv_heads, dim)


def _rows_as_heads(rows: Array, length: int) -> Array:
    """The inverse of `_heads_as_rows`."""
    batch, _, num_kv_heads, dim = rows.shape
    return rows.reshape(batch, length, -1, num_kv_heads, dim).swapaxes(2, 3).reshape(batch, length, -1, dim)


def _chunk(
    state: Array | None,
    query: Array,
    erase: Array,
    write: Array | None,
    strength: Array | None,
    value: Array,
    log_decay: Array | None,
    *,
    chunk: int,
    return_state: bool,
) -> tuple[Array, Array | None]:
    """One chunk: arrays [batch, kv_heads, rows, dim], rows being `chunk` times those of a token."""
    write = erase if write is None else write
    write = write if strength is None else write * strength
    erase, query, write = (_by_token(rows, chunk) for rows in (erase, query, write))
    erased, queried, left = _products(erase, query, write, log_decay)
    held = None
    if state is not None:
        value = value - _held(erase, state, left)
        held = _held(query, state, left)
    added = jnp.einsum("bhij,bhje->bhie", unit_lower_inverse(erased), value)
    out = jnp.einsum("bhij,bhje->bhie", queried, added)
    if held is not None:
        out = out + held
    return out, _next_state(state, write, added, left) if return_state else None


class _Left(NamedTuple):
    """What is left within a chunk, factors in [0, 1]."""

    from_start: Float[Array, "batch kv_heads chunk channels"]  # of the state before the chunk at each token
    to_end: Float[Array, "batch kv_heads chunk channels"]  # of each token at the end of the chunk
    over: Float[Array, "batch kv_heads channels"]  # of the state before the chunk at its end


def _products(erase: Array, query: Array, write: Array, log_decay: Array | None) -> tuple[Array, Array, _Left | None]:
    """Returns what erase keys and what queries find of the writes, [batch, kv_heads, rows, writes], and what is left.

    Erase keys read the memory just as queries do, but see only those writes of their own token that precede theirs.
    """
    writes = write.shape[3]
    before, every = jnp.tril(jnp.ones((writes, writes), bool), -1), jnp.ones((query.shape[3], writes), bool)
    kinds = (erase, before), (query, every)
    if log_decay is not None and log_decay.shape[3] > 1:
        own = tuple(jnp.where(met, jnp.einsum("bhird,bhisd->bhirs", kind, write), 0.0) for kind, met in kinds)
        (erased, queried), *left = products_by_halves((erase, query), write, own, log_decay)
        return _flat(erased), _flat(queried), _Left(*left)
    if log_decay is None:
        erased, queried = (_decayed_by_head(*kind, write, None) for kind in kinds)
        return erased, queried, None
    between, *left = chunk_decays(log_decay)
    erased, queried = (_decayed_by_head(*kind, write, between) for kind in kinds)
    return erased, queried, _Left(*left)


def _decayed_by_head(readers: Array, own: Array, write: Array, between: Array | None) -> Array:
    """Returns the products, 0 for writes not met, for decays `between` [batch, kv_heads, chunk, chunk] or for none."""
    batch, kv_heads, chunk, rows, _ = readers.shape
    products = jnp.einsum("bhid,bhjd->bhij", *map(_flat, (readers, write)))
    products = products.reshape(batch, kv_heads, chunk, rows, chunk, -1)
    if between is not None:
        products = products * between[:, :, :, None, :, None]
    earlier = jnp.tril(jnp.ones((chunk, chunk), bool), -1)[:, None, :, None]
    same = jnp.eye(chunk, dtype=bool)[:, None, :, None] & own[None, :, None]
    return jnp.where(earlier | same, products, 0.0).reshape(batch, kv_heads, chunk * rows, -1)


def _held(readers: Array, state: Array, left: _Left | None) -> Array:
    """Returns what readers find of the state before the chunk, [batch, kv_heads, rows, value_dim]."""
    readers = readers if left is None else readers * left.from_start[:, :, :, None]
    return jnp.einsum("bhid,bhde->bhie", _flat(readers), state)


def _next_state(state: Array | None, write: Array, added: Array, left: _Left | None) -> Array:
    write = write if left is None else write * left.to_end[:, :, :, None]
    new = jnp.einsum("bhjd,bhje->bhde", _flat(write), added)
    if state is None:
        return new
    return new + (state if left is None else state * left.over[..., None])


def _by_token(rows: Array, chunk: int) -> Array:
    """[batch, kv_heads, rows, dim] -> [batch, kv_heads, chunk, rows of a token, dim]."""
    return rows.reshape(*rows.shape[:2], chunk, -1, rows.shape[3])


def _flat(tokens: Array) -> Array:
    """The inverse of `_by_token`."""
    return tokens.reshape(*tokens.shape[:2], -1, tokens.shape[4])
