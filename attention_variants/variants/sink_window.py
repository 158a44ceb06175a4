"""Sink-window attention: a sliding window and the first few tokens, so that a stream can continue indefinitely."""

import dataclasses

import numpy as np
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.engines.blocks import block_of_size
from attention_variants.families.first_and_last import FirstAndLastVariant
from attention_variants.patterns.matrices import near_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinkWindowAttention(FirstAndLastVariant):
    """Softmax attention over the last `window_size` keys and the first `num_sinks`.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j <= i with i - j < window_size or j < num_sinks

    The softmax has to put its weight somewhere even where no key matters, and models learn to put it on the first
    tokens; a window that drops them breaks. Decoding keeps num_sinks + window_size keys, whatever the length. If not
    causal, the window lies around the query (window_size // 2 keys before it). `window_size >= length` is full causal
    attention.

    Attributes:
      window_size: keys visible around the query (if causal: before it), its own included.
      num_sinks: first tokens that every query sees.

    References:
      Xiao et al. 2024, "Efficient streaming language models with attention sinks", arXiv:2309.17453, section 3.2 (four
      sinks). There, positions are counted within the cache; here, every key keeps the position it was written at, so
      that decoding equals the parallel call. The non-causal form is our mirror image. The causal form is the same
      function as `global_window`.
    """

    window_size: int = 64
    num_sinks: int = 4

    family = "softmax, static pattern"
    cost_order = "length * (window_size + num_sinks)"
    state_order = "(window_size + num_sinks) * (head_dim + value_dim)"
    paper = "Xiao et al. 2024, arXiv:2309.17453"
    size_field = "window_size"
    examples = {16: "window_size=4,num_sinks=2", 128: "window_size=32,num_sinks=4"}
    claims_growth = True

    def __post_init__(self) -> None:
        check_integer("window_size", self.window_size, 1)
        check_integer("num_sinks", self.num_sinks, 0)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the window and the sinks."""
        query_position, key_position = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
        seen = near_keys(query_length, key_length, self.window_size, causal)
        seen |= key_position < self.num_sinks
        return seen & (key_position <= query_position) if causal else seen

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        near, sinks = patterns.window(self.window_size, causal), patterns.FirstKeys(self.num_sinks)
        return patterns.AllOf((patterns.causal_or_full(causal), patterns.AnyOf((near, sinks))))

    def engine_block(self, query_length: int, key_length: int) -> int:
        """Returns a block about as long as the window."""
        return block_of_size(self.window_size)

    @property
    @override
    def num_first(self) -> int:
        return self.num_sinks

    @property
    @override
    def num_last(self) -> int:
        return self.window_size
