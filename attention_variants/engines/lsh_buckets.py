"""The nearest keys of each query's hash bucket, per head: a choice without gradient, by sorting, linear in length.

Once keys are sorted by bucket, then by position, the keys that a query may see are one run of the sorted list, around
the place where the query itself would be. What comes after a query never moves a key of an earlier position.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def bucket_mates(
    query_buckets: Int[Array, "batch query_length num_heads rounds"],
    key_buckets: Int[Array, "batch key_length num_kv_heads rounds"],
    num_buckets: int,
    reach: tuple[int, int],
    *,
    key_mask: Bool[Array, "batch key_length"] | None = None,
    first_position: int | Int[Array, ""] = 0,
) -> Int[Array, "batch num_heads query_length listed"]:
    """Returns each query's own key and the nearest keys of its bucket in every round, without repetition.

    Args:
      query_buckets: [batch, query_length, num_heads, rounds], in [0, num_buckets).
      key_buckets: [batch, key_length, num_kv_heads, rounds].
      num_buckets: how many there are.
      reach: keys of the bucket that a query sees up to its own position, and past it.
      key_mask: [batch, key_length], True = may be listed.
      first_position: the position of the first query; the others follow it. Keys start at 0.

    Returns:
      Positions of keys, -1 for none, in a list of `listed_keys(...)`.

    Raises:
      ValueError: too many buckets for so many keys.
    """
    (batch, length, num_heads, rounds), (_, key_length, num_kv_heads, _) = query_buckets.shape, key_buckets.shape
    if (num_buckets + 1) * key_length >= 2**31:
        raise ValueError(f"`num_buckets` * key_length must be below 2**31; got {num_buckets} and {key_length}.")
    permitted = jnp.ones((batch, key_length), bool) if key_mask is None else key_mask
    # A masked key goes behind the last bucket.
    key_buckets = jnp.where(permitted[:, :, None, None], key_buckets, num_buckets)
    codes = jnp.sort(jnp.moveaxis(key_buckets * key_length + jnp.arange(key_length)[None, :, None, None], 1, 3))
    grouped = query_buckets.reshape(batch, length, num_kv_heads, -1, rounds).transpose(0, 2, 3, 4, 1)
    positions = first_position + jnp.arange(length)
    one_head = functools.partial(_mates, positions=positions, reach=reach)
    all_heads = jax.vmap(jax.vmap(jax.vmap(jax.vmap(one_head), (None, 0))))  # batch, num_kv_heads, group, round
    mates = all_heads(codes, grouped).reshape(batch, num_heads, rounds, length, -1)
    own = jnp.where(permitted.at[:, positions].get(mode="clip"), positions[None, :], -1)
    own = jnp.broadcast_to(own[:, None, :, None], (batch, num_heads, length, 1))
    keys = jnp.sort(jnp.concatenate([own, *jnp.moveaxis(mates, 2, 0)], axis=-1))
    again = jnp.pad(keys[..., 1:] == keys[..., :-1], ((0, 0), (0, 0), (0, 0), (1, 0)))
    return jnp.sort(jnp.where(again, -1, keys))[..., -listed_keys(key_length, rounds, sum(reach)) :]


def listed_keys(key_length: int, rounds: int, bucket_size: int) -> int:
    """Returns the most keys that a query can see: those of all rounds and its own."""
    return min(rounds * bucket_size + 1, key_length)


def _mates(codes: Array, buckets: Array, *, positions: Array, reach: tuple[int, int]) -> Array:
    """One round of one head: sorted codes [key_length], buckets of queries [length] -> keys [length, sum(reach)]."""
    key_length, (before, after) = len(codes), reach
    place = jnp.searchsorted(codes, buckets * key_length + positions, side="right")
    slots = place[:, None] + jnp.arange(-min(before, key_length), min(after, key_length))[None, :]
    found = codes.at[slots].get(mode="clip")
    mate = (slots >= 0) & (slots < key_length) & (found // key_length == buckets[:, None])
    return jnp.where(mate, found % key_length, -1)
