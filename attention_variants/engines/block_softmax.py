"""Softmax attention over a block pattern: online softmax, its own gradient, memory linear in length.

The lengths are cut into blocks. Which block of queries touches which block of keys is known before tracing, so the
visited pairs are listed and scanned over: blocks that no query sees cost nothing, and the cost is exact. Pairs seen
whole skip the mask. The forward pass keeps a running maximum, normaliser and output per query (Milakov and Gimelshein
2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135); the backward pass recomputes the weights of each pair from
the saved log-normaliser.

Internally, arrays are [blocks, batch, num_kv_heads, group * block, dim], group = num_heads // num_kv_heads: the query
heads that share a key head are rows of one larger matrix product.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from attention_variants.arrays import KeyMask, Keys, Outputs, Queries, Values, accumulation_dtype, rounded
from attention_variants.engines.blocks import cut_blocks, even_block, join_blocks, matmul
from attention_variants.patterns import Pattern

_UNROLLED_PAIRS = 2  # so few pairs are unrolled: a loop would cost more than it saves
_LARGE_LOGIT = 256.0  # float32 keeps 1e-5 of what is added to it


@dataclasses.dataclass(frozen=True)
class BlockPlan:
    """How one call is cut up: hashable, so that it is a static argument."""

    pattern: Pattern
    query_length: int
    key_length: int
    query_block: int
    key_block: int
    first_query: int = 0  # the position of the first query, for the pattern and a bias; keys begin at 0

    @property
    def num_query_blocks(self) -> int:
        """Blocks of queries, the last one padded."""
        return -(-self.query_length // self.query_block)

    @property
    def num_key_blocks(self) -> int:
        """Blocks of keys, the last one padded."""
        return -(-self.key_length // self.key_block)

    def num_pairs(self) -> int:
        """Visited pairs of blocks."""
        return sum(len(pairs) for pairs in _pairs(self))

    def executed_pairs(self) -> int:
        """Pairs of a query and a key whose logit and output are computed: all those of the visited blocks."""
        return self.num_pairs() * self.query_block * self.key_block


def make_plan(pattern: Pattern, query_length: int, key_length: int, block_size: int, first_query: int = 0) -> BlockPlan:
    """Cuts both lengths into even blocks of at most about `block_size`; see `BlockPlan` for the rest."""
    blocks = even_block(query_length, block_size), even_block(key_length, block_size)
    return BlockPlan(pattern, query_length, key_length, *blocks, first_query)


def block_softmax(
    plan: BlockPlan, query: Queries, key: Keys, value: Values, *, key_mask: KeyMask | None = None, bias: Any = None
) -> tuple[Outputs, Float[Array, "batch num_heads query_length"]]:
    """Softmax attention of scaled products over the pairs that `plan.pattern` and `key_mask` permit.

    Args:
      plan: pattern, lengths and block sizes.
      query: [batch, query_length, num_heads, head_dim].
      key: [batch, key_length, num_kv_heads, head_dim]; masked keys hold finite values.
      value: [batch, key_length, num_kv_heads, value_dim].
      key_mask: [batch, key_length], True = may be attended.
      bias: a pytree with `block`, see `interface.Bias`; its leaves are floating.

    Returns:
      The output [batch, query_length, num_heads, value_dim] in float32 (float64 for such inputs), and the log of the
      normaliser [batch, num_heads, query_length]: -inf, and output 0, for a query with no permitted key. Both carry
      gradients, so that disjoint patterns can be joined by `merge`.
    """
    batch, _, num_heads, _ = query.shape
    group = num_heads // value.shape[2]
    if key_mask is not None:
        key_mask = cut_blocks(key_mask[:, :, None, None], plan.num_key_blocks, plan.key_block, 1)[..., 0]
    out, log_normaliser = _attention(
        plan,
        cut_blocks(query, plan.num_query_blocks, plan.query_block, group),
        cut_blocks(key, plan.num_key_blocks, plan.key_block, 1),
        cut_blocks(value, plan.num_key_blocks, plan.key_block, 1),
        key_mask,
        bias,
    )
    out = join_blocks(out, group)[:, : plan.query_length]
    log_normaliser = join_blocks(log_normaliser[..., None], group)[:, : plan.query_length, :, 0]
    return out, jnp.moveaxis(log_normaliser, 1, 2)


def merge(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
    """Joins (output, log normaliser) of two disjoint sets of keys into those of their union.

    Logits of 1e6 and more leave a log normaliser no digits to tell one largest key from several equal ones.
    """
    (out_1, log_1), (out_2, log_2) = first, second
    highest = lax.stop_gradient(jnp.maximum(log_1, log_2))
    highest = jnp.where(highest == -jnp.inf, 0.0, highest)
    share_1, share_2 = jnp.exp(log_1 - highest), jnp.exp(log_2 - highest)
    total = share_1 + share_2
    safe = jnp.where(total == 0, 1.0, total)
    weight_1, weight_2 = (jnp.moveaxis(share / safe, 1, 2)[..., None] for share in (share_1, share_2))
    log_total = jnp.where(total == 0, -jnp.inf, highest + jnp.log(safe))
    return out_1 * weight_1 + out_2 * weight_2, log_total


@functools.lru_cache(maxsize=256)
def _pairs(plan: BlockPlan) -> tuple[np.ndarray, np.ndarray]:
    """Returns the visited pairs (query block, key block) that need a mask, and those seen whole; each [pairs, 2]."""
    first_query = np.arange(plan.num_query_blocks)[:, None] * plan.query_block
    first_key = np.arange(plan.num_key_blocks)[None, :] * plan.key_block
    last_query = np.minimum(first_query + plan.query_block, plan.query_length) - 1
    last_key = np.minimum(first_key + plan.key_block, plan.key_length) - 1
    ends = plan.first_query + first_query, plan.first_query + last_query, first_key, last_key
    padded = last_key - first_key + 1 < plan.key_block
    touched = np.broadcast_to(plan.pattern.touched(*ends), (plan.num_query_blocks, plan.num_key_blocks))
    filled = touched & plan.pattern.filled(*ends) & ~padded
    return np.argwhere(touched & ~filled), np.argwhere(filled)


def for_pairs(plan: BlockPlan, always_mask: bool, body: Callable[..., Any], carry: Any) -> Any:
    """Runs `carry = body(carry, query_block, key_block, masked)` over all visited pairs."""
    partial, whole = _pairs(plan)
    for pairs, masked in ((partial, True), (whole, always_mask)):
        if len(pairs) <= _UNROLLED_PAIRS:
            for i, j in pairs:
                carry = body(carry, int(i), int(j), masked)
        else:
            carry = _scan_pairs(functools.partial(body, masked=masked), carry, jnp.asarray(pairs, jnp.int32))
    return carry


def _scan_pairs(body: Callable[..., Any], carry: Any, pairs: Array) -> Any:
    def step(carry: Any, pair: Array) -> tuple[Any, None]:
        return body(carry, pair[0], pair[1]), None

    return lax.scan(step, carry, pairs)[0]


def _positions(plan: BlockPlan, i: Any, j: Any) -> tuple[Array, Array]:
    queries, keys = (b * block + jnp.arange(block) for b, block in ((i, plan.query_block), (j, plan.key_block)))
    return plan.first_query + queries, keys


def masked_logits(
    plan: BlockPlan, i: Any, j: Any, query: Array, key: Array, key_mask: Array | None, bias: Any, masked: bool
) -> Array:
    """Logits of one pair, -inf where a key may not be seen; [batch, kv_heads, group * block, key_block]."""
    logits = matmul("bhqd,bhkd->bhqk", query, key) / math.sqrt(query.shape[-1])
    if bias is None and not masked:
        return rounded(logits)
    shape = logits.shape
    logits = logits.reshape(*shape[:2], -1, plan.query_block, plan.key_block)
    queries, keys = _positions(plan, i, j)
    if bias is not None:
        block = bias.block(queries, keys).astype(logits.dtype)
        logits = logits + block.reshape(-1, *logits.shape[1:])  # [1 or batch, kv_heads, group, block, key_block]
    logits = rounded(logits)
    if masked:
        visible = plan.pattern.visible(queries[:, None], keys[None, :]) & (keys < plan.key_length)[None, :]
        visible = visible[None, None, None]
        if key_mask is not None:
            visible = visible & key_mask[j][:, :, None, None, :]
        logits = jnp.where(visible, logits, -jnp.inf)
    return logits.reshape(shape)


def pull_back(
    plan: BlockPlan,
    weigh: Callable[[Any, Array, Array], tuple[Array, Array]],
    d_out: Array,
    query: Array,
    key: Array,
    value: Array,
    key_mask: Array | None,
    bias: Any,
) -> tuple[Array, Array, Array, None, Any]:
    """Returns the gradients of output = weights @ value, weights being recomputed for each pair.

    Args:
      plan: as in the forward pass; the arrays are cut into its blocks.
      weigh: (query block, logits, d weights) -> (weights, d logits), each [batch, kv_heads, group * block, key_block].
      d_out: the cotangent of the output.
      query: this and the rest are the arguments of the forward pass.
      key: see there.
      value: see there.
      key_mask: see there.
      bias: see there.

    Returns:
      Those of query, key, value, key_mask (None) and bias.
    """
    dtype, scale = d_out.dtype, 1 / math.sqrt(query.shape[-1])

    def body(carry: Any, i: Any, j: Any, masked: bool) -> Any:
        d_query, d_key, d_value, d_bias = carry
        logits = masked_logits(plan, i, j, query[i], key[j], key_mask, bias, masked)
        d_weights = matmul("bhqd,bhkd->bhqk", d_out[i], value[j].astype(dtype))
        weights, d_logits = weigh(i, logits, d_weights)
        d_query = d_query.at[i].add(matmul("bhqk,bhkd->bhqd", d_logits * scale, key[j].astype(dtype)))
        d_key = d_key.at[j].add(matmul("bhqd,bhqk->bhdk", query[i].astype(dtype), d_logits * scale))
        d_value = d_value.at[j].add(matmul("bhqd,bhqk->bhdk", d_out[i], weights))
        if bias is not None:
            block, pull = jax.vjp(lambda bias: bias.block(*_positions(plan, i, j)), bias)
            d_block = d_logits.reshape(-1, *block.shape[-3:])
            d_block = d_block if block.ndim == 4 else d_block.sum(0)
            added = pull(d_block.astype(block.dtype))[0]
            d_bias = jax.tree.map(lambda total, new: total + new.astype(total.dtype), d_bias, added)
        return d_query, d_key, d_value, d_bias

    # Gradients of keys and values are summed transposed: XLA's products on CPU are much slower where the large factor,
    # the weights, would have to be transposed.
    shapes = query, jnp.swapaxes(key, -1, -2), jnp.swapaxes(value, -1, -2), bias
    carry = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), shapes)
    d_query, d_key, d_value, d_bias = for_pairs(plan, key_mask is not None, body, carry)
    gradients = d_query, jnp.swapaxes(d_key, -1, -2), jnp.swapaxes(d_value, -1, -2), d_bias
    d_query, d_key, d_value, d_bias = jax.tree.map(
        lambda g, leaf: g.astype(leaf.dtype), gradients, (query, key, value, bias)
    )
    return d_query, d_key, d_value, None, d_bias


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    plan: BlockPlan, query: Array, key: Array, value: Array, key_mask: Array | None, bias: Any
) -> tuple[Array, Array]:
    """Online softmax over all pairs; (output [..., group * block, value_dim], log normaliser [..., group * block])."""
    out, highest, total = _online_softmax(plan, query, key, value, key_mask, bias)
    return out, log_of_sum(highest, total)


def _online_softmax(
    plan: BlockPlan, query: Array, key: Array, value: Array, key_mask: Array | None, bias: Any
) -> tuple[Array, Array, Array]:
    """The output, the largest logit, and the sum of exp(logits - largest)."""
    dtype = accumulation_dtype(query.dtype)
    rows = query.shape[:-1]
    carry = (
        jnp.zeros((*rows, value.shape[-1]), dtype),  # output, not yet normalised
        jnp.full(rows, -jnp.inf, dtype),  # highest logit so far
        jnp.zeros(rows, dtype),  # normaliser
    )

    def body(carry: Any, i: Any, j: Any, masked: bool) -> Any:
        out, highest, total = carry
        logits = masked_logits(plan, i, j, query[i], key[j], key_mask, bias, masked)
        new_highest = jnp.maximum(highest[i], logits.max(-1))
        shift = jnp.where(new_highest == -jnp.inf, 0.0, new_highest)
        weights = jnp.exp(logits - shift[..., None])
        decay = jnp.exp(highest[i] - shift)
        new_out = out[i] * decay[..., None] + matmul("bhqk,bhkd->bhqd", weights.astype(value.dtype), value[j])
        new_total = total[i] * decay + weights.sum(-1)
        return out.at[i].set(new_out), highest.at[i].set(new_highest), total.at[i].set(new_total)

    out, highest, total = for_pairs(plan, key_mask is not None, body, carry)
    return out / jnp.where(total == 0, 1.0, total)[..., None], highest, total


def log_of_sum(highest: Float[Array, "*rows"], total: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
    """Returns the log normaliser of rows whose sum of exp(logits - highest) is `total`; -inf where that is 0."""
    return jnp.where(total == 0, -jnp.inf, highest + jnp.log(jnp.where(total == 0, 1.0, total)))


def shift_and_share(
    highest: Float[Array, "*rows"], total: Float[Array, "*rows"]
) -> tuple[Float[Array, "*rows"], Float[Array, "*rows"]]:
    """Returns the numbers by which a row's weights are exp(logits - shift) * share.

    The shift is the log normaliser and the share 1, unless the largest logit is so large that log(total) is lost in
    rounding.
    """
    empty = total == 0
    large = (jnp.abs(highest) > _LARGE_LOGIT) & ~empty
    shift = jnp.where(large, highest, jnp.where(empty, 0.0, log_of_sum(highest, total)))
    return shift, jnp.where(large, 1 / jnp.where(empty, 1.0, total), 1.0)


def _attention_forward(plan: BlockPlan, query: Array, key: Array, value: Array, key_mask: Any, bias: Any) -> Any:
    out, highest, total = _online_softmax(plan, query, key, value, key_mask, bias)
    rows = shift_and_share(highest, total)
    return (out, log_of_sum(highest, total)), (query, key, value, key_mask, bias, out, rows)


def _attention_backward(plan: BlockPlan, saved: Any, cotangents: Any) -> Any:
    """With weights p: d logits = p * (d out . value - d out . out + d log_normaliser)."""
    *arguments, out, (shift, share) = saved
    d_out, d_log = (share[..., None] * cotangents[0], share * cotangents[1])  # as p is a factor of all that follows
    shared = (d_out * out).sum(-1) - d_log

    def weigh(i: Any, logits: Array, d_weights: Array) -> tuple[Array, Array]:
        weights = jnp.exp(logits - shift[i][..., None])
        return weights, weights * (d_weights - shared[i][..., None])

    return pull_back(plan, weigh, d_out, *arguments)


_attention.defvjp(_attention_forward, _attention_backward)
