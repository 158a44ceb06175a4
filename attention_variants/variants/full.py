"""Full attention: every query sees every key (or every earlier one)."""

import dataclasses

from attention_variants.families.every_key import EveryKeyVariant


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullAttention(EveryKeyVariant):
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

    family = "softmax, every key"
    paper = "Vaswani et al. 2017, arXiv:1706.03762"
