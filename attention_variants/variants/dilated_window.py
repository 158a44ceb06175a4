"""Dilated-window attention: a sliding window with gaps."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from typing_extensions import override

from attention_variants import patterns
from attention_variants.biases.moved import MovedBias
from attention_variants.checks import LARGEST_INTEGER, check_integer
from attention_variants.engines.block_softmax import BlockPlan, block_softmax, make_plan
from attention_variants.engines.blocks import block_of_size
from attention_variants.families.static_pattern import StaticPatternVariant


@dataclasses.dataclass(frozen=True, kw_only=True)
class DilatedWindowAttention(StaticPatternVariant):
    """Softmax attention over `window_size` keys, every `dilation`-th one, the query's own included.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j = i - n * dilation,   0 <= n < window_size        (-window_size < 2 n <= window_size where not causal)

    A token sees only tokens of its own residue mod `dilation`. After sorting by residue, each residue is one run, and
    the pattern is a plain window within it: the block engine then visits window_size keys per query, not the whole
    span. Dilation 1 is sliding-window attention.

    Attributes:
      window_size: keys visible, the query's own included.
      dilation: distance between them.

    References:
      Beltagy et al. 2020, "Longformer", arXiv:2004.05150, section 3.1. There, heads of one layer may differ in
      dilation; here, all heads share it, and layers may differ.
    """

    window_size: int = 64
    dilation: int = 4

    family = "softmax, static pattern"
    cost_order = "length * window_size"
    state_order = "window_size * dilation * (head_dim + value_dim)"
    paper = "Beltagy et al. 2020, arXiv:2004.05150"
    size_field = "window_size"
    examples = {16: "window_size=4,dilation=2", 128: "window_size=32,dilation=2"}
    claims_growth = True

    def __post_init__(self) -> None:
        check_integer("window_size", self.window_size, 1)
        check_integer("dilation", self.dilation, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the keys at multiples of `dilation` away, as many as the window has."""
        steps, rest = np.divmod(np.arange(query_length)[:, None] - np.arange(key_length)[None, :], self.dilation)
        first = 0 if causal else -((self.window_size - 1) // 2)
        return (rest == 0) & (steps >= first) & (steps < first + self.window_size)

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        """Used in decoding, where tokens are not sorted."""
        steps = patterns.window(self.window_size, causal)
        assert steps.before is not None and steps.after is not None
        before, after = (min(side * self.dilation, LARGEST_INTEGER) for side in (steps.before, steps.after))
        span = patterns.Band(before=before, after=after)
        return patterns.AllOf((span, patterns.EveryNth(self.dilation)))

    def plan(self, query_length: int, key_length: int, causal: bool) -> BlockPlan:
        """Returns how the engine cuts the sorted tokens up."""
        residues, run = self._runs(query_length, key_length)
        same_run = patterns.Blockwise(patterns.Band(before=0, after=0), run, run)
        pattern = patterns.AllOf((patterns.window(self.window_size, causal), same_run))
        return make_plan(pattern, residues * run, residues * run, block_of_size(self.window_size))

    def cache_size(self, max_length: int) -> int:
        """Returns the span of the window: what a later query can still see."""
        return min((self.window_size - 1) * self.dilation + 1, max_length)

    def _runs(self, query_length: int, key_length: int) -> tuple[int, int]:
        """Returns the number of residues and the tokens of each, the same for queries and keys."""
        length = max(query_length, key_length)
        residues = min(self.dilation, length)
        return residues, -(-length // residues)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        query_length, key_length = query.shape[1], key.shape[1]
        residues, run = self._runs(query_length, key_length)
        if key_mask is None and not causal and key_length < residues * run:
            key_mask = jnp.ones(key.shape[:2], bool)  # hides the padding of a run; causal queries never see it
        if key_mask is not None:
            key_mask = _sort(key_mask, residues, run)
        if bias is not None:

            def position(index: Array) -> Array:
                return index % run * residues + index // run

            bias = MovedBias(bias, position, position)
        plan = self.plan(query_length, key_length, causal)
        query, key, value = (_sort(array, residues, run) for array in (query, key, value))
        return _unsort(block_softmax(plan, query, key, value, key_mask=key_mask, bias=bias)[0], residues, query_length)


def _sort(array: Array, residues: int, run: int) -> Array:
    """[batch, length, ...] -> [batch, residues * run, ...]: tokens by residue mod `residues`, padded with 0."""
    batch, length, *rest = array.shape
    array = jnp.pad(array, ((0, 0), (0, residues * run - length), *((0, 0) for _ in rest)))
    return array.reshape(batch, run, residues, *rest).swapaxes(1, 2).reshape(batch, residues * run, *rest)


def _unsort(array: Array, residues: int, length: int) -> Array:
    """The inverse of `_sort`, with padding removed."""
    batch, padded, *rest = array.shape
    array = array.reshape(batch, residues, padded // residues, *rest).swapaxes(1, 2)
    return array.reshape(batch, padded, *rest)[:, :length]
