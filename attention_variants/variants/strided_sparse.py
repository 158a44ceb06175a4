"""Strided sparse attention: a local window and every stride-th key before it."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.engines.block_softmax import BlockPlan, block_softmax, make_plan, merge
from attention_variants.engines.blocks import block_of_size
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import Cost, HeadSizes

_COLUMN_BLOCK = 32  # keys of one column per block: bounds the memory of all columns together


@dataclasses.dataclass(frozen=True, kw_only=True)
class StridedSparseAttention(StaticPatternVariant):
    """Softmax attention over the last `stride` keys and every stride-th key before them.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j <= i with i - j < stride or (i - j) mod stride = 0        (|i - j| where not causal)

    The window goes through the block engine. The column of position i holds the positions with the same residue mod
    stride: reshaped to [stride, length / stride], columns are short dense sequences. Window and column are joined by
    their normalisers. With the stride fixed, cost grows like length * (stride + length / stride): linearly until the
    columns are as long as the stride (length near stride^2), quadratically with a small constant far beyond.

    Attributes:
      stride: size of the window, the query's own key included, and distance between the keys of a column. The paper
        takes it near sqrt(length).

    References:
      Child et al. 2019, "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509, section 4.3, strided
      pattern. There, heads alternate between the two parts or one merged head sees both; here, every head is merged,
      and the window leaves its last key, at distance stride, to the column. The non-causal form is our mirror image.
    """

    stride: int = 256

    supports_bias = False
    claims_growth = True
    family = "softmax, static pattern"
    cost_order = "length * (stride + length / stride)"
    state_order = "length * (head_dim + value_dim)"
    paper = "Child et al. 2019, arXiv:1904.10509"
    size_field = "stride"
    examples = {16: "stride=4", 128: "stride=16"}

    def __post_init__(self) -> None:
        check_integer("stride", self.stride, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the union of window and columns."""
        distance = np.arange(query_length)[:, None] - np.arange(key_length)[None, :]
        seen = (np.abs(distance) < self.stride) | (distance % self.stride == 0)
        return seen & (distance >= 0) if causal else seen

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        """Used in decoding, where a column cannot be reshaped."""
        union = patterns.AnyOf((self._window(causal), patterns.EveryNth(self.stride)))
        return patterns.AllOf((patterns.causal_or_full(causal), union))

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        window, columns = self._plans(query_length, key_length, causal)
        executed = window.executed_pairs()
        if columns is not None:
            executed += self.stride * columns.executed_pairs()
        pairs = window.pattern.count(query_length, key_length)
        for residue in range(min(self.stride, query_length)):  # queries see the keys of their column except their own
            queries, keys = (len(range(residue, length, self.stride)) for length in (query_length, key_length))
            pairs += queries * (queries - 1) // 2 if causal else queries * keys - min(queries, keys)
        return Cost(heads.pair_flops * executed, heads.pair_flops * pairs, heads.token_bytes * key_length)

    def _window(self, causal: bool) -> patterns.Band:
        return patterns.Band(before=self.stride - 1, after=0 if causal else self.stride - 1)

    def _plans(self, query_length: int, key_length: int, causal: bool) -> tuple[BlockPlan, BlockPlan | None]:
        """Returns the plans of the window and of one column; None where a column holds no key but the query's own."""
        window = make_plan(self._window(causal), query_length, key_length, block_of_size(self.stride))
        rows, columns = -(-query_length // self.stride), -(-key_length // self.stride)
        if max(rows, columns) == 1:
            return window, None
        earlier, later = patterns.Band(before=None, after=-1), patterns.Band(before=-1, after=None)
        other = earlier if causal else patterns.AnyOf((earlier, later))
        return window, make_plan(other, rows, columns, _COLUMN_BLOCK)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        window, columns = self._plans(query.shape[1], key.shape[1], causal)
        near = block_softmax(window, query, key, value, key_mask=key_mask)
        if columns is None:
            return near[0]
        key_length = key.shape[1]
        if key_mask is None and not causal and key_length % self.stride:
            key_mask = jnp.ones(key.shape[:2], bool)  # hides the padding of a column; causal queries never see it
        if key_mask is not None:
            key_mask = self._to_columns(key_mask)
        out, log_normaliser = block_softmax(
            columns, *(self._to_columns(array) for array in (query, key, value)), key_mask=key_mask
        )
        batch, query_length, num_heads, _ = query.shape
        out = self._from_columns(out, batch)[:, :query_length]
        log_normaliser = self._from_columns(jnp.moveaxis(log_normaliser, 1, 2), batch)[:, :query_length]
        return merge(near, (out, jnp.moveaxis(log_normaliser, 1, 2)))[0]

    def _to_columns(self, array: Array) -> Array:
        """[batch, length, ...] -> [batch * stride, ceil(length / stride), ...], padded with 0."""
        batch, length, *rest = array.shape
        array = jnp.pad(array, ((0, 0), (0, -length % self.stride), *((0, 0) for _ in rest)))
        array = array.reshape(batch, -1, self.stride, *rest).swapaxes(1, 2)
        return array.reshape(batch * self.stride, -1, *rest)

    def _from_columns(self, array: Array, batch: int) -> Array:
        """The inverse of `_to_columns`, with padding left in."""
        array = array.reshape(batch, self.stride, *array.shape[1:]).swapaxes(1, 2)
        return array.reshape(batch, -1, *array.shape[3:])
