"""Differential attention: the difference of two softmaxes, which cancels what both attend to."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, dense_logits, masked_softmax
from attention_variants.checks import check_number
from attention_variants.engines.block_softmax import block_softmax
from attention_variants.engines.cached_softmax import attend_cached
from attention_variants.families.modified_softmax import ModifiedSoftmaxVariant
from attention_variants.interface import Cost
from attention_variants.parameters import Undecayed


class DifferentialControls(NamedTuple):
    """How much of the second softmax is taken off, the same at every token."""

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class DifferentialAttention(ModifiedSoftmaxVariant):
    """One softmax attention minus a learned share of another.

    ::

        output_i  = sum_j (w1_ij - lambda w2_ij) value_j,   lambda = exp(a_1 . b_1) - exp(a_2 . b_2) + initial_share
        wn_ij     = softmax_j(queryn_i . keyn_j / sqrt(dim_n)),   n = 1, 2

    query1 and key1 are the first half of the channels, query2 and key2 the second, one fewer where head_dim is odd.
    RoPE turns each half by itself, so that both have the same frequencies. Rows sum to 1 - lambda. It needs
    head_dim >= 2.

    Attributes:
      initial_share: lambda at the beginning, about.
      block_size: tokens per block of the engine: speed only, the function is the same.

    References:
      Ye et al. 2024, "Differential Transformer", arXiv:2410.05258, equations 1 and 2. The paper lets initial_share grow
      with depth, 0.8 - 0.6 exp(-0.3 (layer - 1)), and finds a constant 0.8 as good; a and b are shared by the heads of
      a layer there and are per head here. The published layer normalises each head's output and multiplies it by 1 -
      initial_share: `layer=paper` of `MultiHeadAttention`.
    """

    initial_share: float = 0.8

    controls_type = DifferentialControls
    rotated_parts = 2
    paper = "Ye et al. 2024, arXiv:2410.05258"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("initial_share", self.initial_share, 0.0, 1.0)

    def make_controls(
        self, model_dim: int, num_heads: int, num_kv_heads: int, head_dim: int, *, rngs: nnx.Rngs
    ) -> nnx.Module:
        """Returns x -> DifferentialControls."""
        return Share(num_heads, -(-head_dim // 2), self.initial_share, rngs=rngs)

    @override
    def cost(
        self, query_length: int, key_length: int, num_heads: int, num_kv_heads: int, head_dim: int, causal: bool
    ) -> Cost:
        """The logits of full attention, and the outputs twice."""
        full = super().cost(query_length, key_length, num_heads, num_kv_heads, head_dim, causal)
        return full._replace(executed_flops=full.executed_flops * 3 // 2, ideal_flops=full.ideal_flops * 3 // 2)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        plan = self.plan(query.shape[1], key.shape[1], causal)

        def attend(query: Array, key: Array) -> Array:
            return block_softmax(plan, query, key, value, key_mask=key_mask, bias=bias)[0]

        return _difference(attend, query, key, controls)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        mask = self.permitted(query, key, causal, key_mask)
        half = -(-query.shape[3] // 2)
        first = masked_softmax(dense_logits(query[..., :half], key[..., :half], bias), mask)
        second = masked_softmax(dense_logits(query[..., half:], key[..., half:], bias), mask)
        return first - controls.share.astype(first.dtype).reshape(1, -1, 1, 1) * second

    def _attend_cached(
        self, query: Array, key: Array, value: Array, where: tuple[Any, Any, Any], *, bias: Any, controls: Any
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
