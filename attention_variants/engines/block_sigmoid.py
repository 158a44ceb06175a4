"""Attention by a sigmoid of each logit over a block pattern: its own gradient, memory linear in length.

Blocks, pairs and layout are those of `block_softmax`. No weight depends on another, so there is nothing to keep per
query but the sum; the backward pass recomputes the weights of each pair.

Reference: Ramapuram et al. 2024, arXiv:2409.04431, section 4.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attention_variants.arrays import KeyMask, Keys, Outputs, Queries, Values, accumulation_dtype
from attention_variants.engines.block_softmax import BlockPlan, for_pairs, masked_logits, pull_back
from attention_variants.engines.blocks import cut_blocks, join_blocks, matmul


def block_sigmoid(
    plan: BlockPlan,
    query: Queries,
    key: Keys,
    value: Values,
    shift: Float[Array, "#batch query_length"],
    *,
    key_mask: KeyMask | None = None,
    bias: Any = None,
) -> Outputs:
    """Returns the sum of sigmoid(query . key / sqrt(head_dim) + bias - shift) value over permitted pairs.

    Args:
      plan: pattern, lengths and block sizes.
      query: [batch, query_length, num_heads, head_dim].
      key: [batch, key_length, num_kv_heads, head_dim]; masked keys hold finite values.
      value: [batch, key_length, num_kv_heads, value_dim].
      shift: [batch or 1, query_length], taken off every logit of a query; a constant, it has no gradient.
      key_mask: [batch, key_length], True = may be attended.
      bias: a pytree with `block`, see `interface.Bias`; its leaves are floating.
    """
    group = query.shape[2] // value.shape[2]
    shift = jnp.repeat(shift.astype(accumulation_dtype(query.dtype))[:, :, None, None], group, axis=2)
    if key_mask is not None:
        key_mask = cut_blocks(key_mask[:, :, None, None], plan.num_key_blocks, plan.key_block, 1)[..., 0]
    out = _attention(
        plan,
        cut_blocks(query, plan.num_query_blocks, plan.query_block, group),
        cut_blocks(key, plan.num_key_blocks, plan.key_block, 1),
        cut_blocks(value, plan.num_key_blocks, plan.key_block, 1),
        cut_blocks(shift, plan.num_query_blocks, plan.query_block, group),
        key_mask,
        bias,
    )
    return join_blocks(out, group)[:, : plan.query_length]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    plan: BlockPlan, query: Array, key: Array, value: Array, shift: Array, key_mask: Array | None, bias: Any
) -> Array:
    """The output [blocks, batch, kv_heads, group * block, value_dim]."""

    def body(out: Array, i: Any, j: Any, masked: bool) -> Array:
        logits = masked_logits(plan, i, j, query[i], key[j], key_mask, bias, masked)
        weights = jax.nn.sigmoid(logits - shift[i])
        return out.at[i].add(matmul("bhqk,bhkd->bhqd", weights.astype(value.dtype), value[j]))

    out = jnp.zeros((*query.shape[:-1], value.shape[-1]), accumulation_dtype(query.dtype))
    return for_pairs(plan, key_mask is not None, body, out)


def _attention_forward(plan: BlockPlan, *arguments: Any) -> Any:
    return _attention(plan, *arguments), arguments


def _attention_backward(plan: BlockPlan, arguments: Any, d_out: Array) -> Any:
    """With p = sigmoid(logits - shift): d logits = p (1 - p) d out . value."""
    query, key, value, shift, key_mask, bias = arguments

    def weigh(i: Any, logits: Array, d_weights: Array) -> tuple[Array, Array]:
        weights = jax.nn.sigmoid(logits - shift[i])
        return weights, weights * (1 - weights) * d_weights

    d_query, d_key, d_value, _, d_bias = pull_back(plan, weigh, d_out, query, key, value, key_mask, bias)
    return d_query, d_key, d_value, None, None, d_bias


_attention.defvjp(_attention_forward, _attention_backward)
