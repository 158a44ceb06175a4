"""Attention to every key, block by block: what full attention and its relatives share."""

import dataclasses

import numpy as np
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.patterns.matrices import every_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class EveryKeyVariant(StaticPatternVariant):
    """Attention over all keys or, where causal, over those up to the query's own.

    Attributes:
      block_size: tokens per block of the engine; affects speed only, not the function.
    """

    block_size: int = 512

    cost_order = "length^2"
    state_order = "length * (head_dim + value_dim)"

    def __post_init__(self) -> None:
        check_integer("block_size", self.block_size, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True, or the lower triangle where causal."""
        return every_key(query_length, key_length, causal)

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        return patterns.causal_or_full(causal)

    @override
    def engine_block(self, query_length: int, key_length: int) -> int:
        return self.block_size
