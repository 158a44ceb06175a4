"""Full attention: every query sees every key (or every earlier one)."""

import dataclasses
from typing import Any

from jaxtyping import Array
from typing_extensions import override

from attention_variants.checks import check_choice
from attention_variants.engines.fused_softmax import IMPLEMENTATIONS, fused_softmax, uses_cudnn, without_kernel
from attention_variants.families.every_key import EveryKeyVariant
from attention_variants.interface import AttentionVariant


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullAttention(EveryKeyVariant):
    """Exact scaled dot-product attention, blockwise, with memory linear in length.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j,   j <= i where causal

    Time grows with length^2. Blocks above the causal diagonal are skipped, so a long causal call executes little more
    than half of length^2 pairs.

    Attributes:
      block_size: tokens per block of the engine; affects speed only, not the function.
      implementation: "xla" is the block engine; "cudnn" is cuDNN's fused kernel, and an error if a call does not fit
        it; "auto" is the kernel if the device is a CUDA device and the call fits (16-bit). The function is the same,
        but the kernel has no second derivative.

    References:
      Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762, equation 1. Blockwise with online softmax as
      in Dao et al. 2022, arXiv:2205.14135. No dropout on the weights.
    """

    implementation: str = "auto"

    family = "softmax, every key"
    paper = "Vaswani et al. 2017, arXiv:1706.03762"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("implementation", self.implementation, IMPLEMENTATIONS)

    @property
    @override
    def portable(self) -> AttentionVariant:
        return without_kernel(self)

    @override
    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        call = {"causal": causal}
        if uses_cudnn(self.implementation, query, key, value, key_mask=key_mask, bias=bias, **call):
            return fused_softmax(query, key, value, **call)
        options = {"key_mask": key_mask, "bias": bias, "controls": controls}
        return super()._attend(query, key, value, causal=causal, **options)
