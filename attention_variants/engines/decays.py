"""What the decays of a chunk of tokens leave of what came before, for the running states.

Token i has exp(a_(j+1) + ... + a_i) left of what token j wrote, for log decays a <= 0. Only sums over the tokens
between the two are exponentiated, each summed by itself: as the difference of two longer sums, the log of a weak decay
that follows strong ones would be lost in rounding (-1e-6 next to -440 in float32), and so would its gradient. Nothing
exceeds exp(0), so nothing overflows.

One decay for the whole key is a factor per pair of tokens (`chunk_decays`). Decays per channel would be a factor per
pair and channel; `products_by_halves` takes them into matrix products instead. A chunk is halved again and again, so
that each pair of tokens is parted once, by the border m between two halves of one block:

    sum_d reader_id writer_jd exp(a_(j+1) + ... + a_i)_d
        = sum_d (reader_id exp(a_m + ... + a_i)_d) (writer_jd exp(a_(j+1) + ... + a_(m-1))_d),   j < m <= i

Both factors are in [0, 1], and both exponents are sums within one half. That takes log2(chunk) exponentials per token
and channel, where all pairs take chunk of them, and 2 * channels FLOPs per pair. In the gradient of a decay, too, all
terms belong to pairs that it lies between: nothing cancels.

References: Yang et al. 2023, arXiv:2312.06635, section 4.3, have one level of such borders, between sub-chunks of 16
tokens, and pairs by channel within; we go on by halves to single tokens, which needs no pairs.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attention_variants.engines.blocks import power_of_two


class Decays(NamedTuple):
    """Factors in [0, 1]; `channels` is 1 where one decay serves the whole key."""

    between: Float[Array, "batch kv_heads reader writer channels"]  # left of each key at each reader; future: 0
    from_start: Float[Array, "batch kv_heads reader channels"]  # left of the state before the chunk at each reader
    to_end: Float[Array, "batch kv_heads writer channels"]  # left of each key at the end of the chunk
    over: Float[Array, "batch kv_heads channels"]  # left of the state before the chunk at its end


class DecayedProducts(NamedTuple):
    """What readers find of what a chunk writes, and factors in [0, 1] as in `Decays`."""

    products: Float[Array, "batch kv_heads chunk rows chunk*writes"]  # the writes of a token side by side; future: 0
    from_start: Float[Array, "batch kv_heads chunk channels"]
    to_end: Float[Array, "batch kv_heads chunk channels"]
    over: Float[Array, "batch kv_heads channels"]


class _Sums(NamedTuple):
    """Log decays summed within blocks of tokens."""

    since: Float[Array, "batch kv_heads blocks tokens channels"]  # from the start of the block to each reader
    until: Float[Array, "batch kv_heads blocks tokens channels"]  # after each writer to the end of the block
    total: Float[Array, "batch kv_heads blocks 1 channels"]


def chunk_decays(log_decay: Float[Array, "batch kv_heads chunk channels"]) -> Decays:
    """Returns the factors of one chunk, pair by pair.

    Args:
      log_decay: the log of what is left of the past when a token is written, <= 0. A token decays the past, writes,
        then reads.
    """
    chunk = log_decay.shape[2]
    earlier = jnp.tril(jnp.ones((chunk, chunk), bool), -1)[..., None]
    # between[i, j] = sum of the tokens after j up to i, for j < i.
    between = jnp.cumsum(jnp.where(earlier, log_decay[:, :, :, None], 0.0), axis=2)
    from_start = jnp.cumsum(log_decay, axis=2)
    to_end, over = jnp.exp(between[:, :, -1]), jnp.exp(from_start[:, :, -1])
    own = jnp.where(jnp.eye(chunk, dtype=bool)[..., None], 1.0, 0.0)
    return Decays(jnp.where(earlier, jnp.exp(between), own), jnp.exp(from_start), to_end, over)


def products_by_halves(
    readers: Float[Array, "batch kv_heads chunk rows channels"],
    writers: Float[Array, "batch kv_heads chunk writes channels"],
    own: Float[Array, "batch kv_heads chunk rows writes"],
    log_decay: Float[Array, "batch kv_heads chunk channels"],
    *,
    reads_first: bool = False,
) -> DecayedProducts:
    """Returns sum_d reader_id writer_jd exp(a_(j+1) + ... + a_i)_d for all tokens j < i of one chunk, and `own` for i.

    Args:
      readers: of each token one or more, such as the queries of its group of heads.
      writers: of each token one or more keys.
      own: what the readers of a token find of its own writers: any numbers, such as plain products.
      log_decay: the log of what is left of the past when a token is written, <= 0; -inf leaves nothing.
      reads_first: a token reads before it decays the past; otherwise it decays, then reads. Both are before the next.
    """
    chunk = log_decay.shape[2]
    readers, writers, own, log_decay = (_padded(array) for array in (readers, writers, own, log_decay))
    each = log_decay[:, :, :, None]
    sums = _Sums(jnp.zeros_like(each) if reads_first else each, jnp.zeros_like(each), each)
    products = own
    while sums.total.shape[2] > 1:
        products, sums = _joined_products(products, readers, writers, sums), _joined_sums(sums)
    rows, writes = own.shape[3:]
    products = products.reshape(*log_decay.shape[:3], rows, -1)[:, :, :chunk, :, : chunk * writes]
    since, until, total = (jnp.exp(array[:, :, 0]) for array in sums)
    return DecayedProducts(products, since[:, :, :chunk], until[:, :, :chunk], total[:, :, 0])


def flops_by_halves(chunk: int, rows: int, writes: int, channels: int) -> int:
    """FLOPs of the matrix products of `products_by_halves` for one sequence and head."""
    padded = power_of_two(chunk)
    return 2 * rows * writes * channels * (padded * (padded - 1) // 2)


def _joined_products(products: Array, readers: Array, writers: Array, sums: _Sums) -> Array:
    """Joins the products [batch, kv_heads, blocks, tokens * rows, tokens * writes] of two blocks to those of one."""
    first, second = products[:, :, 0::2], products[:, :, 1::2]
    pairs, tokens = first.shape[:3], sums.since.shape[3]
    late = readers.reshape(*pairs, 2, tokens, *readers.shape[3:])[:, :, :, 1]
    early = writers.reshape(*pairs, 2, tokens, *writers.shape[3:])[:, :, :, 0]
    late = (late * jnp.exp(sums.since[:, :, 1::2, :, None])).reshape(*pairs, -1, readers.shape[4])
    early = (early * jnp.exp(sums.until[:, :, 0::2, :, None])).reshape(*pairs, -1, writers.shape[4])
    corner = jnp.einsum("bhnid,bhnjd->bhnij", late, early)
    upper = jnp.concatenate([first, jnp.zeros_like(first)], axis=4)
    return jnp.concatenate([upper, jnp.concatenate([corner, second], axis=4)], axis=3)


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
