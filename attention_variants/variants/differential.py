"""Differential attention: the difference of two softmaxes, which cancels what both attend to."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, dense_logits, masked_softmax
from attention_variants.checks import check_number
from attention_variants.engines.block_softmax import BlockPlan, block_softmax
from attention_variants.engines.cached_softmax import attend_cached
from attention_variants.families.modified_softmax import ModifiedSoftmaxVariant
from attention_variants.families.static_pattern import Given
from attention_variants.interface import Cost, HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.parameters import Undecayed


class DifferentialControls(NamedTuple):
    """How much of the second softmax is subtracted, the same at every token."""

    share: Float[Array, "1 1 num_heads"]  # lambda


class Share(nnx.Module):
    """x -> lambda = exp(a_1 . b_1) - exp(a_2 . b_2) + initial_share per query head, whatever x."""

    def __init__(self, num_heads: int, dim: int, initial_share: float, *, rngs: nnx.Rngs):
        self.initial_share = initial_share
        self.vectors = Undecayed(nnx.initializers.normal(0.1)(rngs.params(), (2, 2, num_heads, dim)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> DifferentialControls:
        """Returns lambda."""
        a, b = self.vectors[...]
        grown, shrunk = jnp.exp((a * b).sum(-1))
        return DifferentialControls((grown - shrunk + self.initial_share)[None, None])


_DEFAULT_SHARE = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class DifferentialAttention(ModifiedSoftmaxVariant):
    """One softmax attention minus a learned share of another.

    ::

        output_i  = sum_j (w1_ij - lambda w2_ij) value_j,   lambda = exp(a_1 . b_1) - exp(a_2 . b_2) + initial_share
        wn_ij     = softmax_j(queryn_i . keyn_j / sqrt(dim_n)),   n = 1, 2

    query1 and key1 are the first half of the channels, query2 and key2 the second, with one channel fewer if head_dim
    is odd. RoPE rotates each half separately, so that both have the same frequencies. Rows sum to 1 - lambda. head_dim
    must be at least 2.

    Attributes:
      initial_share: the approximate lambda at initialisation; at most 0.999.
      block_size: tokens per block of the engine; affects speed only, not the function.

    References:
      Ye et al. 2024, "Differential Transformer", arXiv:2410.05258, equations 1 and 2. The paper lets initial_share grow
      with depth, 0.8 - 0.6 exp(-0.3 (layer - 1)), as `at_depth` does, and finds a constant 0.8 as good; there the heads
      of a layer share a and b, here they are per head. Its norm of each head's output and the factor 1 - initial_share
      after it are in `paper_layer`.
    """

    initial_share: float = _DEFAULT_SHARE

    controls_type = DifferentialControls
    rotated_parts = 2
    paper = "Ye et al. 2024, arXiv:2410.05258"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("initial_share", self.initial_share, 0.0, 0.999)  # `paper_layer` scales by what is left

    @property
    @override
    def paper_layer(self) -> LayerOptions:
        return LayerOptions(output_norm="head", output_scale=1 - self.initial_share)

    @override
    def at_depth(self, depth: int) -> "DifferentialAttention":
        share = 0.8 - 0.6 * math.exp(-0.3 * depth)
        return dataclasses.replace(self, initial_share=share) if self.initial_share == _DEFAULT_SHARE else self

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> DifferentialControls."""
        return Share(heads.num_heads, -(-heads.head_dim // 2), self.initial_share, rngs=rngs)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """The logits of full attention, and the outputs twice."""
        lengths, twice = (query_length, key_length), heads._replace(value_dim=2 * heads.value_dim)
        held = super().cost(*lengths, heads, causal).cache_bytes
        return super().cost(*lengths, twice, causal)._replace(cache_bytes=held)

    @override
    def attend_from(self, plan: BlockPlan, query: Array, key: Array, value: Array, causal: bool, given: Given) -> Array:
        def attend(query: Array, key: Array) -> Array:
            return block_softmax(plan, query, key, value, key_mask=given.key_mask, bias=given.bias)[0]

        return _difference(attend, query, key, given.controls)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        mask = self.permitted(query, key, causal, key_mask)
        half = -(-query.shape[3] // 2)
        first = masked_softmax(dense_logits(query[..., :half], key[..., :half], bias), mask)
        second = masked_softmax(dense_logits(query[..., half:], key[..., half:], bias), mask)
        return first - controls.share.astype(first.dtype).reshape(1, -1, 1, 1) * second

    def _attend_cached(
        self, query: Array, key: Array, value: Array, where: tuple[Any, ...], *, bias: Any, controls: Any
    ) -> Array:
        def attend(query: Array, key: Array) -> Array:
            return attend_cached(query, key, value, *where, bias=bias)

        return _difference(attend, query, key, controls)

    def _check(
        self, query: Any, key: Any, value: Any, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> None:
        super()._check(query, key, value, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        if query.shape[3] < 2:
            raise ValueError(f"DifferentialAttention halves head_dim, which must be >= 2; got {query.shape[3]}.")


def _difference(
    attend: Callable[[Array, Array], Array], query: Array, key: Array, controls: DifferentialControls
) -> Array:
    """Returns attend(query1, key1) - lambda * attend(query2, key2)."""
    share = controls.share.astype(accumulation_dtype(query.dtype))[..., None]
    first, second = zip(*(jnp.array_split(array, 2, axis=-1) for array in (query, key)), strict=True)
    return attend(*first) - share * attend(*second)
