"""Linformer attention: keys and values are projected along the length, to a fixed number of rows."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, dense_logits, repeat_heads
from attention_variants.checks import check_choice, check_integer
from attention_variants.families.bidirectional import BidirectionalVariant
from attention_variants.interface import Cost, HeadSizes

_SHARING = ("none", "headwise", "key_value")


class Projections(NamedTuple):
    """How much every token adds to each row; `heads` is num_kv_heads, or 1 where the heads share this."""

    key: Float[Array, "1 length heads rank"]  # E
    value: Float[Array, "1 length heads rank"]  # F


class LengthProjections(nnx.Module):
    """x [batch, length, model_dim] -> the first `length` columns of E and F, whatever x holds."""

    def __init__(self, max_length: int, heads: int, rank: int, tied: bool, *, rngs: nnx.Rngs):
        # A row of E K then has the size of a key if all max_length tokens add to it.
        draw = nnx.initializers.normal(max_length**-0.5)
        self.key = nnx.Param(draw(rngs.params(), (max_length, heads, rank)))
        self.value = None if tied else nnx.Param(draw(rngs.params(), (max_length, heads, rank)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> Projections:
        """Returns E and F for as many tokens as x has."""
        length, max_length = x.shape[1], self.key.shape[0]
        if length > max_length:
            raise ValueError(f"these projections were made for max_length {max_length}; got {length} tokens.")
        key = self.key[...][None, :length]
        return Projections(key, key if self.value is None else self.value[...][None, :length])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinformerAttention(BidirectionalVariant):
    """Softmax attention over `rank` learned mixtures of all keys, read from `rank` mixtures of all values.

    ::

        output = softmax(Q (E K)^T / sqrt(head_dim)) (F V),   E, F: [rank, length], learned

    E and F belong to positions: they are made for `max_length` tokens, and a shorter sequence uses their first columns.
    Masked keys and values are zeroed before they are projected. The weights of single keys may be negative and need not
    sum to 1. With rank = length and E = F = 1 this is full attention.

    Attributes:
      rank: projected length; the paper's k.
      max_length: tokens that E and F are made for.
      sharing: "none" (E and F for every key-value head), "headwise" (for all heads of a layer together) or "key_value"
        (headwise, and E = F).

    References:
      Wang et al. 2020, "Linformer: Self-attention with linear complexity", arXiv:2006.04768, equation 7 and section 4
      (sharing; sharing over layers is left out). Entries are drawn with variance 1 / max_length.
    """

    rank: int = 64
    max_length: int = 4096
    sharing: str = "headwise"

    normalised = False
    claims_growth = True
    controls_type = Projections
    family = "low rank"
    cost_order = "length * rank"
    state_order = "none: bidirectional only"
    paper = "Wang et al. 2020, arXiv:2006.04768"
    size_field = "rank"
    examples = {16: "rank=4,max_length=16", 128: "rank=32,max_length=128"}

    def __post_init__(self) -> None:
        check_integer("rank", self.rank, 1)
        check_integer("max_length", self.max_length, 1)
        check_choice("sharing", self.sharing, _SHARING)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the projections E and F."""
        num_maps = heads.num_kv_heads if self.sharing == "none" else 1
        return LengthProjections(self.max_length, num_maps, self.rank, self.sharing == "key_value", rngs=rngs)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Ideal is the cheaper of this and of all pairs."""
        project = 2 * key_length * self.rank * heads.num_kv_heads * (heads.head_dim + heads.value_dim)
        executed = project + heads.pair_flops * query_length * self.rank
        return Cost(executed, min(executed, heads.pair_flops * query_length * key_length), cache_bytes=0)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        dtype, (batch, length, num_heads, head_dim) = accumulation_dtype(query.dtype), query.shape
        rows = _rows(controls, key)
        keys = jnp.einsum("nhr,bnhd->bhrd", rows.key, key.astype(dtype))
        values = jnp.einsum("nhr,bnhd->bhrd", rows.value, value.astype(dtype))
        query = query.astype(dtype).reshape(batch, length, key.shape[2], -1, head_dim) / math.sqrt(head_dim)
        weights = jax.nn.softmax(jnp.einsum("bnhgd,bhrd->bhgnr", query, keys), axis=-1)
        return jnp.einsum("bhgnr,bhrd->bnhgd", weights, values).reshape(batch, length, num_heads, -1)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        rows = _rows(controls, key)
        project_keys, project_values = (
            jnp.moveaxis(repeat_heads(row[None], query.shape[2])[0], 0, 1).astype(accumulation_dtype(query.dtype))
            for row in rows
        )
        if key_mask is not None:
            project_values = jnp.where(key_mask[:, None, :, None], project_values, 0.0)
        # Q (E K)^T = (Q K^T) E^T: products first, mixed afterwards.
        logits = jnp.matmul(dense_logits(query, key), project_keys[None], precision="highest")
        mixed = jnp.swapaxes(jnp.broadcast_to(project_values, (len(query), *project_values.shape[-3:])), -1, -2)
        return jnp.matmul(jax.nn.softmax(logits, axis=-1), mixed, precision="highest")

    def _check(
        self, query: Any, key: Any, value: Any, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> None:
        super()._check(query, key, value, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        length, num_kv_heads = key.shape[1:3]
        for leaf in controls:
            if leaf.shape[:2] != (1, length) or leaf.shape[2] not in (1, num_kv_heads):
                expected = f"[1, length {length}, 1 or num_kv_heads {num_kv_heads}, rank]"
                raise ValueError(f"`controls` must hold projections {expected}; got {leaf.shape}.")


def _rows(controls: Projections, key: Array) -> Projections:
    """Returns E and F as [length, num_kv_heads, rank]."""
    (length, num_kv_heads), dtype = key.shape[1:3], accumulation_dtype(key.dtype)
    wide = (jnp.broadcast_to(leaf[0].astype(dtype), (length, num_kv_heads, leaf.shape[3])) for leaf in controls)
    return Projections(*wide)
