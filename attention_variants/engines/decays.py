"""What the decays of a chunk of tokens leave of what came before, for the running states.

Token i has exp(a_(j+1) + ... + a_i) left of what token j wrote, for log decays a <= 0. Only sums over the tokens
between the two are exponentiated, each summed by itself: as the difference of two longer sums, the log of a weak decay
that follows strong ones would be lost in rounding (-1e-6 next to -440 in float32), and so would its gradient. Nothing
exceeds exp(0), so nothing overflows.

A chunk is halved again and again, so that each pair of tokens is separated once, by the border m between two halves of
one block:

    exp(a_(j+1) + ... + a_i) = exp(a_m + ... + a_i) exp(a_(j+1) + ... + a_(m-1)),   j < m <= i

Both exponents are sums within one half. In the gradient of a decay, too, all terms belong to pairs that it lies
between, so nothing cancels. One decay for the whole key is one factor per pair, made from these sums (`chunk_decays`).
Decays per channel would be a factor per pair and channel; `products_by_halves` absorbs them into matrix products
instead, where both factors are in [0, 1]:

    sum_d reader_id writer_jd exp(a_(j+1) + ... + a_i)_d
        = sum_d (reader_id exp(a_m + ... + a_i)_d) (writer_jd exp(a_(j+1) + ... + a_(m-1))_d)

That takes 2 * channels FLOPs per pair and log2(chunk) exponentials per token and channel; explicit pairs would take
chunk of them.

References: Yang et al. 2023, arXiv:2312.06635, section 4.3, have one level of such borders, between sub-chunks of 16
tokens, and explicit pairs per channel within; we keep halving down to single tokens, which needs no such pairs.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attention_variants.engines.blocks import power_of_two


class Decays(NamedTuple):
    """Factors in [0, 1] of whole keys."""

    between: Float[Array, "batch kv_heads reader writer"]  # left of each key at each reader; future: 0
    from_start: Float[Array, "batch kv_heads reader 1"]  # left of the state before the chunk at each reader
    to_end: Float[Array, "batch kv_heads writer 1"]  # left of each key at the end of the chunk
    over: Float[Array, "batch kv_heads 1"]  # left of the state before the chunk at its end


class DecayedProducts(NamedTuple):
    """What each kind of reader finds of the writes of a chunk, and factors in [0, 1] as in `Decays`."""

    products: tuple[Float[Array, "batch kv_heads chunk _ chunk*writes"], ...]  # a token's writes together; future: 0
    from_start: Float[Array, "batch kv_heads chunk channels"]
    to_end: Float[Array, "batch kv_heads chunk channels"]
    over: Float[Array, "batch kv_heads channels"]


class _Sums(NamedTuple):
    """Log decays summed within blocks of tokens."""

    since: Float[Array, "batch kv_heads blocks tokens channels"]  # from the start of the block to each reader
    until: Float[Array, "batch kv_heads blocks tokens channels"]  # after each writer to the end of the block
    total: Float[Array, "batch kv_heads blocks 1 channels"]


def chunk_decays(log_decay: Float[Array, "batch kv_heads chunk 1"]) -> Decays:
    """Returns the factors of one chunk.

    Args:
      log_decay: the log of what is left of the past when a token is written, <= 0; -inf leaves nothing. A token decays
        the past, writes, then reads.
    """
    chunk = log_decay.shape[2]
    each = _padded(log_decay)[:, :, :, None]
    sums = _Sums(each, jnp.zeros_like(each), each)
    between = jnp.zeros((*each.shape[:3], 1, 1), log_decay.dtype)
    while sums.total.shape[2] > 1:
        between, sums = _joined_pairs(between, sums), _joined_sums(sums)
    past = jnp.tril(jnp.ones((chunk, chunk), bool))
    return Decays(jnp.where(past, jnp.exp(between[:, :, 0, :chunk, :chunk]), 0.0), *_ends(sums, chunk))


def products_by_halves(
    readers: tuple[Float[Array, "batch kv_heads chunk _ channels"], ...],
    writers: Float[Array, "batch kv_heads chunk writes channels"],
    own: tuple[Float[Array, "batch kv_heads chunk _ writes"], ...],
    log_decay: Float[Array, "batch kv_heads chunk channels"],
    *,
    reads_first: bool = False,
) -> DecayedProducts:
    """Returns sum_d reader_id writer_jd exp(a_(j+1) + ... + a_i)_d for all tokens j < i of one chunk, and `own` for i.

    Args:
      readers: kinds of readers, such as queries and erase keys, for which the writers are decayed once; each token has
        one or more per kind, such as the queries of its group of heads.
      writers: one or more keys per token.
      own: what the readers of a token, kind by kind, find of its own writers: any numbers, such as plain products.
      log_decay: the log of what is left of the past when a token is written, <= 0; -inf leaves nothing.
      reads_first: a token reads before it decays the past; otherwise it decays, then reads. Both are before the next.
    """
    chunk, writes = log_decay.shape[2], writers.shape[3]
    readers, products = (tuple(map(_padded, kinds)) for kinds in (readers, own))
    writers, log_decay = _padded(writers), _padded(log_decay)
    each = log_decay[:, :, :, None]
    sums = _Sums(jnp.zeros_like(each) if reads_first else each, jnp.zeros_like(each), each)
    while sums.total.shape[2] > 1:
        products, sums = _joined_products(products, readers, writers, sums), _joined_sums(sums)
    by_reader = (kind.reshape(*log_decay.shape[:3], -1, kind.shape[4]) for kind in products)
    return DecayedProducts(tuple(kind[:, :, :chunk, :, : chunk * writes] for kind in by_reader), *_ends(sums, chunk))


def flops_by_halves(chunk: int, rows: int, writes: int, channels: int) -> int:
    """FLOPs of the matrix products of `products_by_halves` for one sequence and head."""
    padded = power_of_two(chunk)
    return 2 * rows * writes * channels * (padded * (padded - 1) // 2)


def _joined_pairs(between: Array, sums: _Sums) -> Array:
    """Joins the log decays between the pairs of tokens of two blocks, [..., reader, writer], to those of one block."""
    first, second = between[:, :, 0::2], between[:, :, 1::2]
    until = jnp.swapaxes(sums.until[:, :, 0::2], 3, 4)  # [..., 1, tokens]
    upper = jnp.concatenate([first, jnp.zeros_like(first)], axis=4)
    return jnp.concatenate([upper, jnp.concatenate([sums.since[:, :, 1::2] + until, second], axis=4)], axis=3)


def _ends(sums: _Sums, chunk: int) -> tuple[Array, Array, Array]:
    """Returns what is left from the start to each token, from each token to the end, and over the single block."""
    since, until, total = (jnp.exp(array[:, :, 0]) for array in sums)
    return since[:, :, :chunk], until[:, :, :chunk], total[:, :, 0]


def _joined_products(
    products: tuple[Array, ...], readers: tuple[Array, ...], writers: Array, sums: _Sums
) -> tuple[Array, ...]:
    """Joins the products [batch, kv_heads, blocks, tokens * rows, tokens * writes] of two blocks to those of one."""
    pairs, tokens = sums.total[:, :, 0::2].shape[:3], sums.since.shape[3]

    def half(array: Array, which: int, left: Array) -> Array:
        tokens_of_pairs = array.reshape(*pairs, 2, tokens, *array.shape[3:])[:, :, :, which]
        return (tokens_of_pairs * left).reshape(*pairs, -1, array.shape[4])

    since, until = jnp.exp(sums.since[:, :, 1::2, :, None]), jnp.exp(sums.until[:, :, 0::2, :, None])
    early = half(writers, 0, until)

    def joined(of_blocks: Array, readers: Array) -> Array:
        first, second = of_blocks[:, :, 0::2], of_blocks[:, :, 1::2]
        corner = jnp.einsum("bhnid,bhnjd->bhnij", half(readers, 1, since), early)
        upper = jnp.concatenate([first, jnp.zeros_like(first)], axis=4)
        return jnp.concatenate([upper, jnp.concatenate([corner, second], axis=4)], axis=3)

    return tuple(map(joined, products, readers))


def _joined_sums(sums: _Sums) -> _Sums:
    """Joins the sums of two blocks to those of one."""
    first, second = sums.total[:, :, 0::2], sums.total[:, :, 1::2]
    nothing, pairs = jnp.zeros_like(first), first.shape[:3]

    def add(within: Array, to_first: Array, to_second: Array) -> Array:
        # XLA on CPU runs one broadcast sum faster than it joins two halves.
        halves = within.reshape(*pairs, 2, *within.shape[3:]) + jnp.stack([to_first, to_second], axis=3)
        return halves.reshape(*pairs, -1, within.shape[4])

    return _Sums(add(sums.since, nothing, first), add(sums.until, second, nothing), first + second)


def _padded(array: Array) -> Array:
    """Pads axis 2, the tokens, to a power of two: tokens that neither write nor decay."""
    more = power_of_two(array.shape[2]) - array.shape[2]
    return jnp.pad(array, ((0, 0), (0, 0), (0, more), *((0, 0),) * (array.ndim - 3)))
