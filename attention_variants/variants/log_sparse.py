"""Log-sparse attention: keys at distances 1, 2, 4, 8 ... and, if wanted, a small window."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.engines import diagonal_softmax as engine
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import Cost, HeadSizes
from attention_variants.patterns.matrices import near_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogSparseAttention(StaticPatternVariant):
    """Softmax attention over exponentially spaced keys: about log2(length) of them for every query.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j = i - 2^n, n = 0, 1, 2 ..., and 0 <= i - j < window_size        (|i - j| = 2^n where not causal)

    Any earlier token is reached in at most log2(length) layers. Every query sees the same distances, so keys are
    shifted by one distance at a time and multiplied elementwise; pairs are wasted only at the ends. A window should be
    small, because each of its keys is one more distance. Decoding keeps every key, because each is seen again.
    `window_size >= length` is full causal attention.

    Attributes:
      window_size: keys visible around the query (if causal: before it), its own included; 1 is the query's own only.

    References:
      Li et al. 2019, "Enhancing the locality and breaking the memory bottleneck of Transformer on time series
      forecasting", arXiv:1907.00235, section 4.2: LogSparse attention, with its local attention where window_size > 1
      (the paper's window is O(log length)). Distances count from the query; the paper resumes them beyond the window,
      and public code counts them from the window's oldest key. With window_size=4, query 40 sees 8, 24, 32 and 36 to 40
      here, and 5, 21, 29, 33 and 35 to 40 there. Its restart attention and its convolutions of query and key are left
      out (`short_conv` convolves the layer's input). The non-causal form is our mirror image.
    """

    window_size: int = 1

    family = "softmax, static pattern"
    cost_order = "length * (log(length) + window_size)"
    state_order = "length * (head_dim + value_dim)"
    paper = "Li et al. 2019, arXiv:1907.00235"
    size_field = "window_size"
    examples = {128: "window_size=4"}
    claims_growth = True

    def __post_init__(self) -> None:
        check_integer("window_size", self.window_size, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the window, and the distances in turn."""
        query_position, key_position = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
        seen = near_keys(query_length, key_length, self.window_size, causal)
        distance = 1
        while distance < max(query_length, key_length):
            seen |= np.abs(query_position - key_position) == distance
            distance *= 2
        return seen & (key_position <= query_position) if causal else seen

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        """Used in decoding, where the cache holds all keys."""
        union = patterns.AnyOf((patterns.window(self.window_size, causal), patterns.PowersOfTwo()))
        return patterns.AllOf((patterns.causal_or_full(causal), union))

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        distances = self._distances(query_length, key_length, causal)
        return Cost(
            executed_flops=heads.pair_flops * engine.executed_pairs(distances, query_length),
            ideal_flops=heads.pair_flops * engine.count_pairs(distances, query_length, key_length),
            cache_bytes=heads.token_bytes * key_length,
        )

    def _distances(self, query_length: int, key_length: int, causal: bool) -> tuple[int, ...]:
        """Returns the distances query - key that occur."""
        window = patterns.window(self.window_size, causal)
        assert window.before is not None and window.after is not None
        found = {0, *range(-min(window.after, key_length - 1), min(window.before, query_length - 1) + 1)}
        found |= {2**n for n in range((query_length - 1).bit_length())}
        if not causal:
            found |= {-(2**n) for n in range((key_length - 1).bit_length())}
        return tuple(sorted(found))

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        distances = self._distances(query.shape[1], key.shape[1], causal)
        return engine.diagonal_softmax(distances, query, key, value, key_mask=key_mask, bias=bias)
