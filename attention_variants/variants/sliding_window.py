"""Sliding-window attention: every query sees the keys close to it."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_choice, check_integer
from attention_variants.engines.blocks import block_of_size
from attention_variants.engines.fused_softmax import IMPLEMENTATIONS, fused_softmax, uses_cudnn, without_kernel
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import AttentionVariant
from attention_variants.patterns.matrices import near_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlidingWindowAttention(StaticPatternVariant):
    """Softmax attention over `window_size` keys, the query's own included.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j,   i - window_size < j <= i

    If not causal, the window lies around the query: window_size // 2 keys before it and (window_size - 1) // 2 after
    it. In cross-attention, positions of queries and keys are aligned. Depth widens the reach: two layers see about
    2 * window_size back. `window_size >= length` is full causal attention.

    Attributes:
      window_size: keys visible, the query's own included. (Other conventions: `patterns.window_from_*`.)
      implementation: "xla" is the block engine; "cudnn" is cuDNN's fused kernel, and an error if a call does not fit
        it; "auto" is the kernel if the device is a CUDA device and the call fits (16-bit, causal). The function
        is the same, but the kernel has no second derivative.

    References:
      Beltagy et al. 2020, "Longformer", arXiv:2004.05150, section 3.1; Child et al. 2019, arXiv:1904.10509. No dilation
      and no global tokens here.
    """

    window_size: int = 64
    implementation: str = "auto"

    family = "softmax, static pattern"
    cost_order = "length * window_size"
    state_order = "window_size * (head_dim + value_dim)"
    paper = "Beltagy et al. 2020, arXiv:2004.05150"
    size_field = "window_size"
    examples = {16: "window_size=4", 128: "window_size=32"}
    claims_growth = True

    def __post_init__(self) -> None:
        check_integer("window_size", self.window_size, 1)
        check_choice("implementation", self.implementation, IMPLEMENTATIONS)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the band of visible keys."""
        return near_keys(query_length, key_length, self.window_size, causal)

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        return patterns.window(self.window_size, causal)

    def engine_block(self, query_length: int, key_length: int) -> int:
        """Returns a block about as long as the window: two blocks of keys then cover a block of queries."""
        return block_of_size(self.window_size)

    def cache_size(self, max_length: int) -> int:
        """Returns the window: what a later query can still see."""
        return min(self.window_size, max_length)

    @property
    @override
    def portable(self) -> AttentionVariant:
        return without_kernel(self)

    @override
    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        call: dict[str, Any] = {"causal": causal, "window_size": self.window_size}
        if uses_cudnn(self.implementation, query, key, value, key_mask=key_mask, bias=bias, **call):
            return fused_softmax(query, key, value, **call)
        options = {"key_mask": key_mask, "bias": bias, "controls": controls}
        return super()._attend(query, key, value, causal=causal, **options)
