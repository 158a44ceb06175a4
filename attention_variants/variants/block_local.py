"""Block-local attention: the sequence is cut into blocks, and every block attends to itself."""

import dataclasses

import numpy as np
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.engines.blocks import block_of_size
from attention_variants.families.static_pattern import StaticPatternVariant


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockLocalAttention(StaticPatternVariant):
    """Softmax attention within blocks of `block_size` tokens, and optionally to the blocks just before.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j <= i with 0 <= block(i) - block(j) <= num_previous,   block(i) = floor(i / block_size)

    If not causal, a block also sees the `num_previous` blocks after it. With num_previous = 0, nothing crosses the edge
    of a block, at any depth. `block_size >= length` is full attention.

    Attributes:
      block_size: tokens per block.
      num_previous: earlier blocks (if not causal: also later ones) that a block sees in addition to itself.

    References:
      Liu et al. 2018, "Generating Wikipedia by summarizing long sequences", arXiv:1801.10198, section 4.2.4 (local
      attention, blocks of 256). `num_previous` is ours: with 1 it is the usual overlapping block attention.
    """

    block_size: int = 64
    num_previous: int = 0

    family = "softmax, static pattern"
    cost_order = "length * (num_previous + 1) * block_size"
    state_order = "(num_previous + 1) * block_size * (head_dim + value_dim)"
    paper = "Liu et al. 2018, arXiv:1801.10198"
    size_field = "block_size"
    examples = {16: "block_size=4", 128: "block_size=32"}
    claims_growth = True

    def __post_init__(self) -> None:
        check_integer("block_size", self.block_size, 1)
        check_integer("num_previous", self.num_previous, 0)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the blocks along the diagonal."""
        query_position, key_position = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
        blocks_back = query_position // self.block_size - key_position // self.block_size
        seen = np.abs(blocks_back) <= self.num_previous
        return seen & (key_position <= query_position) if causal else seen

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        near = patterns.Band(before=self.num_previous, after=0 if causal else self.num_previous)
        blocks = patterns.Blockwise(near, self.block_size, self.block_size)
        return patterns.AllOf((patterns.causal_or_full(causal), blocks))

    def engine_block(self, query_length: int, key_length: int) -> int:
        """Returns the block itself, clipped to what suits the engine."""
        return block_of_size(self.block_size)

    def cache_size(self, max_length: int) -> int:
        """Returns the blocks that the last token of a block sees."""
        return min((self.num_previous + 1) * self.block_size, max_length)
