"""Mixture of block attention: every query attends to its own block and to the blocks that it matches best."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, dense_logits
from attention_variants.engines.blocks import cut_keys
from attention_variants.engines.top_k import of_size_one
from attention_variants.families.block_choice import BlockChoiceVariant
from attention_variants.families.key_value_caches import empty_cache, put
from attention_variants.interface import BYTES_PER_SCALAR, Cost, HeadSizes


class BlockSumCache(NamedTuple):
    """All keys and values, slot s holding position s, and the running sum of every block's keys."""

    key: Float[Array, "batch max_length num_kv_heads head_dim"]
    value: Float[Array, "batch max_length num_kv_heads value_dim"]
    block_sum: Float[Array, "batch blocks num_kv_heads head_dim"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockTopKAttention(BlockChoiceVariant):
    """Softmax attention over the query's own block and the best `num_blocks - 1` others.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over block(j) = block(i) or block(j) among the best by query_i . mean(keys of the block),   j <= i where causal

    Each query and head chooses for itself; ties go to the earlier block. If causal, only earlier blocks are candidates,
    all of them finished. Masked keys are left out of the mean; a block with no other keys is not a candidate. The
    choice has no gradient. `num_blocks * block_size >= length` is full attention.

    Attributes:
      block_size: keys per block.
      num_blocks: blocks that a query attends to, its own included (as the paper counts).

    References:
      Lu et al. 2025, "MoBA: Mixture of Block Attention for Long-Context LLMs", arXiv:2502.13189, equations 2 to 6.
      Causal there; in our non-causal form, all other blocks are candidates.
    """

    cost_order = "length * (num_blocks * block_size + length / block_size)"
    paper = "Lu et al. 2025, arXiv:2502.13189"
    examples = {16: "block_size=2,num_blocks=3", 128: "block_size=16,num_blocks=3"}

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        executed, ideal = self.chosen_cost(query_length, heads, causal)
        sums = -(-key_length // self.block_size) * heads.num_kv_heads * heads.head_dim
        return Cost(executed, ideal, cache_bytes=heads.token_bytes * key_length + BYTES_PER_SCALAR * sums)

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> BlockSumCache:
        empty = empty_cache(batch, max_length, heads, dtype)
        blocks = -(-max_length // self.block_size)
        sums = jnp.zeros((batch, blocks, heads.num_kv_heads, heads.head_dim), accumulation_dtype(dtype))
        return BlockSumCache(empty.key, empty.value, sums, empty.length, empty.max_length)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        permitted = jnp.ones(key.shape[:2], bool) if key_mask is None else key_mask
        count = cut_keys(permitted[..., None, None], self.block_size).sum(2)
        sums = cut_keys(key.astype(accumulation_dtype(key.dtype)), self.block_size).sum(2)
        masks: Any = {"block_mask": count[..., 0, 0] > 0, "key_mask": key_mask}
        means = sums / jnp.maximum(count, 1).astype(sums.dtype)
        return self.attend_chosen(query, key, value, means, causal=causal, **masks)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        logits, members = dense_logits(query, key), self.members(key.shape[1], key_mask)
        # The mean of query . key over a block is query . mean.
        scores = dense_logits(of_size_one(query), key)[..., None, :]
        sums = jnp.where(members[:, None, None], scores, 0.0).sum(-1)
        count = jnp.maximum(members.sum(-1), 1)[:, None, None].astype(sums.dtype)
        return self.chosen_weights(logits, sums / count, members, causal)

    def _extend(
        self, cache: BlockSumCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, BlockSumCache]:
        first, new = cache.length, key.shape[1]
        blocks = (first + jnp.arange(new)) // self.block_size
        sums = cache.block_sum.at[:, blocks].add(key.astype(cache.block_sum.dtype), mode="drop")
        cache = BlockSumCache(
            put(cache.key, key, first), put(cache.value, value, first), sums, first + new, cache.max_length
        )
        means = sums / self.block_size  # of finished blocks, the only candidates
        return self.attend_chosen(query, cache.key, cache.value, means, first_position=first), cache
