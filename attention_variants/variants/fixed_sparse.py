"""Fixed sparse attention: the query's own block, and a few summary tokens at the end of every earlier block."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from typing_extensions import override

from attention_variants import patterns
from attention_variants.biases.moved import MovedBias
from attention_variants.checks import check_integer
from attention_variants.engines.block_softmax import BlockPlan, block_softmax, make_plan, merge
from attention_variants.engines.blocks import block_of_size, even_block
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import Cost, HeadSizes

_SUMMARY_BLOCK = 128  # summary keys per block of the engine: small enough to skip those of later blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedSparseAttention(StaticPatternVariant):
    """Softmax attention over the query's own block and the last `num_summary` keys of every earlier block.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j <= i with floor(j / block_size) = floor(i / block_size) or j mod block_size >= block_size - num_summary

    If not causal, a query sees its whole block and the summaries of all others. Own blocks go through the block engine;
    the summaries are gathered into a short sequence of their own, and the two results are joined by their normalisers.
    Cost grows like length * (block_size + num_summary * length / block_size): length^1.5 if block_size grows like
    sqrt(length), quadratically with a small constant if it is fixed. `block_size >= length` is full attention.

    Attributes:
      block_size: tokens per block; the paper's stride l.
      num_summary: last tokens of a block that later queries see; the paper's c.

    References:
      Child et al. 2019, "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509, section 4.3, fixed
      pattern (l of 128 or 256, c of 8 to 32). There, heads alternate between the two parts, or take summaries from
      different places of the block; here, every head sees both parts and the same summaries.
    """

    block_size: int = 128
    num_summary: int = 8

    family = "softmax, static pattern"
    cost_order = "length * (block_size + num_summary * length / block_size)"
    state_order = "length * (head_dim + value_dim)"
    paper = "Child et al. 2019, arXiv:1904.10509"
    size_field = "block_size"
    examples = {16: "block_size=4,num_summary=1", 128: "block_size=16,num_summary=2"}

    def __post_init__(self) -> None:
        check_integer("block_size", self.block_size, 1)
        check_integer("num_summary", self.num_summary, 1, self.block_size)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the union of own blocks and summaries."""
        query_position, key_position = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
        own = query_position // self.block_size == key_position // self.block_size
        seen = own | (key_position % self.block_size >= self.block_size - self.num_summary)
        return seen & (key_position <= query_position) if causal else seen

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        """Used in decoding, where summaries are not gathered."""
        union = patterns.AnyOf((self._own_block(), patterns.LastOfBlocks(self.block_size, self.num_summary)))
        return patterns.AllOf((patterns.causal_or_full(causal), union))

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        plans = [plan for plan in self._plans(query_length, key_length, causal) if plan is not None]
        pairs = sum(plan.pattern.count(plan.query_length, plan.key_length) for plan in plans)
        return Cost(
            executed_flops=heads.pair_flops * sum(plan.executed_pairs() for plan in plans),
            ideal_flops=heads.pair_flops * pairs,
            cache_bytes=heads.token_bytes * key_length,
        )

    def _own_block(self) -> patterns.Pattern:
        return patterns.Blockwise(patterns.Band(before=0, after=0), self.block_size, self.block_size)

    def _plans(self, query_length: int, key_length: int, causal: bool) -> tuple[BlockPlan, BlockPlan | None]:
        """Returns the plans of own blocks and of the summaries of other blocks; None where there are none."""
        pattern = patterns.AllOf((patterns.causal_or_full(causal), self._own_block()))
        own = make_plan(pattern, query_length, key_length, block_of_size(self.block_size))
        blocks, rest = divmod(key_length, self.block_size)
        summaries = blocks * self.num_summary + max(rest - (self.block_size - self.num_summary), 0)
        if summaries == 0:
            return own, None
        earlier, later = patterns.Band(before=None, after=-1), patterns.Band(before=-1, after=None)
        others = patterns.Blockwise(
            earlier if causal else patterns.AnyOf((earlier, later)), self.block_size, self.num_summary
        )
        blocks_of = even_block(query_length, 512), even_block(summaries, _SUMMARY_BLOCK)
        return own, BlockPlan(others, query_length, summaries, *blocks_of)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        own, others = self._plans(query.shape[1], key.shape[1], causal)
        near = block_softmax(own, query, key, value, key_mask=key_mask, bias=bias)
        if others is None:
            return near[0]
        key, value = self._summaries(key, others.key_length), self._summaries(value, others.key_length)
        if key_mask is not None:
            key_mask = self._summaries(key_mask, others.key_length)
        if bias is not None:
            bias = MovedBias(bias, lambda index: index, self._position)
        return merge(near, block_softmax(others, query, key, value, key_mask=key_mask, bias=bias))[0]

    def _summaries(self, array: Array, count: int) -> Array:
        """[batch, length, ...] -> [batch, count, ...]: the last tokens of every block."""
        batch, length, *rest = array.shape
        array = jnp.pad(array, ((0, 0), (0, -length % self.block_size), *((0, 0) for _ in rest)))
        array = array.reshape(batch, -1, self.block_size, *rest)[:, :, -self.num_summary :]
        return array.reshape(batch, -1, *rest)[:, :count]

    def _position(self, index: Array) -> Array:
        """Returns the position of a summary in the sequence."""
        block, place = index // self.num_summary, index % self.num_summary
        return (block + 1) * self.block_size - self.num_summary + place
