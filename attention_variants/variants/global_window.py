"""Global-window attention: a sliding window, and a few tokens that see and are seen by all."""

import dataclasses

import numpy as np
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.engines.blocks import block_of_size
from attention_variants.families.first_and_last import FirstAndLastVariant
from attention_variants.patterns.matrices import near_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class GlobalWindowAttention(FirstAndLastVariant):
    """Softmax attention over a window and the first `num_global` tokens, which themselves see every key.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j in window(i), or j < num_global, or i < num_global;   j <= i where causal

    If not causal, the window lies around the query (window_size // 2 keys before it), and two layers can carry anything
    from any token to any other through the global ones. If causal, a global token sees only what came before it, which
    leaves a window and the first tokens. `window_size >= length` is full causal attention.

    Attributes:
      window_size: keys visible around the query (if causal: before it), its own included.
      num_global: first tokens that every query sees and that, if not causal, see every key.

    References:
      Beltagy et al. 2020, "Longformer", arXiv:2004.05150, section 3.1. There, a task chooses its global tokens, which
      have their own projections; here, they are the first ones, and all tokens share the projections. No dilation. The
      causal form is our restriction.
    """

    window_size: int = 64
    num_global: int = 16

    family = "softmax, static pattern"
    cost_order = "length * (window_size + num_global)"
    state_order = "(window_size + num_global) * (head_dim + value_dim)"
    paper = "Beltagy et al. 2020, arXiv:2004.05150"
    size_field = "window_size"
    examples = {16: "window_size=4,num_global=2", 128: "window_size=32,num_global=8"}
    claims_growth = True

    def __post_init__(self) -> None:
        check_integer("window_size", self.window_size, 1)
        check_integer("num_global", self.num_global, 0)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the window, the columns and the rows of the global tokens."""
        query_position, key_position = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
        seen = near_keys(query_length, key_length, self.window_size, causal)
        seen |= (key_position < self.num_global) | (query_position < self.num_global)
        return seen & (key_position <= query_position) if causal else seen

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        seen, see = patterns.FirstKeys(self.num_global), patterns.FirstQueries(self.num_global)
        union = patterns.AnyOf((patterns.window(self.window_size, causal), seen, see))
        return patterns.AllOf((patterns.causal_or_full(causal), union))

    def engine_block(self, query_length: int, key_length: int) -> int:
        """Returns a block about as long as the window."""
        return block_of_size(self.window_size)

    @property
    @override
    def num_first(self) -> int:
        return self.num_global

    @property
    @override
    def num_last(self) -> int:
        return self.window_size
