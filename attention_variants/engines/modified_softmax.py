"""Attention to every key by other weights than a softmax of the logits: what such variants share."""

import dataclasses
from typing import Any

import numpy as np

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.engines.pattern_attention import PatternAttention
from attention_variants.interface import AttentionVariant


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModifiedSoftmaxAttention(PatternAttention):
    """Attention over all keys, where causal over those before. A subclass overrides `_attend` and `weigh`, or more.

    Attributes:
      block_size: tokens per block of the engine: speed only, the function is the same.
    """

    block_size: int = 512

    normalised = False
    family = "modified softmax"
    cost_order = "length^2"
    state_order = "length * head_dim"

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

    def _check(
        self, query: Any, key: Any, value: Any, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> None:
        super()._check(query, key, value, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        if controls is None and type(self).make_controls is not AttentionVariant.make_controls:
            raise ValueError(f"{type(self).__name__} needs the `controls` that its make_controls gives; got None.")
