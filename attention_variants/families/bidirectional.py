"""What variants that mix whole sequences at once share: no causal form, and so nothing to decode."""

import dataclasses
from typing import Any, NoReturn

import numpy as np

from attention_variants.interface import AttentionVariant, HeadSizes
from attention_variants.patterns.matrices import every_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class BidirectionalVariant(AttentionVariant):
    """Self-attention in which every output depends on every key, through a summary of the whole sequence."""

    supports_causal = False
    supports_cross = False

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True."""
        return every_key(query_length, key_length, causal=False)

    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> NoReturn:
        """Raises NotImplementedError: a summary of the whole sequence cannot be decoded token by token."""
        raise NotImplementedError(f"{type(self).__name__} is bidirectional only: it has no cache to decode with.")

    def _extend(self, cache: Any, query: Any, key: Any, value: Any, *, bias: Any, controls: Any) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} is bidirectional only: it cannot be extended.")
