"""For each query and head, the candidates (keys, or blocks of keys) that score highest: a choice without gradient.

All candidates are scored, one strip of queries at a time, so memory is linear in the number of either. Ties go to the
earlier candidate. Queries are scaled for the choice, so that underflow does not make scores equal.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attention_variants.arrays import Queries, accumulation_dtype
from attention_variants.engines.blocks import even_block

_SCORED_AT_ONCE = 64  # queries per strip


def top_candidates(
    query: Queries,
    candidate: Float[Array, "batch candidates num_kv_heads head_dim"],
    num_chosen: int,
    visible: Callable[[Any, Any], Any],
    *,
    candidate_mask: Bool[Array, "batch candidates"] | None = None,
    first_position: int | Int[Array, ""] = 0,
) -> Int[Array, "batch num_heads query_length chosen"]:
    """Returns the `num_chosen` visible candidates with the largest query . candidate, best first.

    Args:
      query: [batch, query_length, num_heads, head_dim].
      candidate: [batch, candidates, num_kv_heads, head_dim].
      num_chosen: how many to choose; all, if there are fewer.
      visible: (query positions [strip, 1], candidates [1, candidates]) -> whether a query may choose a candidate.
      candidate_mask: [batch, candidates], True = may be chosen.
      first_position: the position of the first query; the others follow it.

    Returns:
      Indices of candidates, -1 where fewer than `num_chosen` exist.
    """
    batch, length, num_heads, head_dim = query.shape
    candidates, num_kv_heads = candidate.shape[1:3]
    dtype = accumulation_dtype(query.dtype)
    query, candidate = lax.stop_gradient((of_size_one(query.astype(dtype)), candidate.astype(dtype)))
    strip = even_block(length, _SCORED_AT_ONCE)
    strips = -(-length // strip)
    query = jnp.pad(query, ((0, 0), (0, strips * strip - length), (0, 0), (0, 0)))
    query = query.reshape(batch, strips, strip, num_kv_heads, num_heads // num_kv_heads, head_dim)
    permitted = jnp.ones((batch, candidates), bool) if candidate_mask is None else candidate_mask

    def choose(item: tuple[Array, Array]) -> Array:
        query, positions = item
        # In full precision: a different choice is a different function.
        scores = jnp.einsum("bqhgd,bkhd->bhgqk", query, candidate, precision="highest")
        seen = visible(positions[:, None], jnp.arange(candidates)[None, :])[None, None, None]
        scores = jnp.where(seen & permitted[:, None, None, None, :], scores, -jnp.inf)
        best, indices = lax.top_k(scores, min(num_chosen, candidates))
        return jnp.where(best == -jnp.inf, -1, indices)

    positions = first_position + jnp.arange(strips * strip).reshape(strips, strip)
    chosen = lax.map(choose, (jnp.moveaxis(query, 1, 0), positions))  # [strips, batch, kv_heads, group, strip, chosen]
    chosen = jnp.moveaxis(chosen, 0, 3).reshape(batch, num_heads, strips * strip, -1)
    return chosen[:, :, :length]


def of_size_one(query: Queries) -> Queries:
    """Returns queries scaled by powers of two, with largest entries in [0.5, 1), so that scores keep their order."""
    _, exponent = jnp.frexp(jnp.abs(query).max(-1, keepdims=True))
    return jnp.ldexp(query, -exponent)


def scoring_flops(query_length: int, candidates: int, num_heads: int, head_dim: int) -> int:
    """FLOPs of `top_candidates` on one sequence."""
    strip = even_block(query_length, _SCORED_AT_ONCE)
    return 2 * num_heads * head_dim * -(-query_length // strip) * strip * candidates


def best_of_rows(
    scores: Float[Array, "*rows candidates"], permitted: Bool[Array, "*#rows candidates"], number: int
) -> Bool[Array, "*rows candidates"]:
    """Returns which permitted candidates are among the `number` best of their row, by sorting; for definitions."""
    best_first = jnp.argsort(jnp.where(permitted, -scores, jnp.inf), axis=-1, stable=True)
    return permitted & (jnp.argsort(best_first, axis=-1) < number)
