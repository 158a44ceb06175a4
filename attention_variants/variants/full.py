"""Full attention: every query sees every key (or every earlier one)."""

import dataclasses

import numpy as np

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.engines.pattern_attention import PatternAttention


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullAttention(PatternAttention):
    """Scaled dot-product attention, exact, blockwise, with memory linear in length.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j,   j <= i where causal

    Time grows with length^2. Blocks above the causal diagonal are skipped, so a long causal call executes little more
    than half of length^2 pairs.

    Attributes:
      block_size: tokens per block of the engine: speed only, the function is the same.

    References:
      Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762, equation 1. Blockwise with online softmax as
      in Dao et al. 2022, arXiv:2205.14135. No dropout on the weights.
    """

    block_size: int = 512

    family = "softmax, every key"
    cost_order = "length^2"
    state_order = "length * head_dim"
    paper = "Vaswani et al. 2017, arXiv:1706.03762"

    def __post_init__(self) -> None:
        check_integer("block_size", self.block_size, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True, or the lower triangle where causal."""
        everything = np.ones((query_length, key_length), bool)
        return np.tril(everything) if causal else everything

    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        """See `PatternAttention`."""
        return patterns.causal_or_full(causal)

    def engine_block(self, query_length: int, key_length: int) -> int:
        """See `PatternAttention`."""
        return self.block_size
