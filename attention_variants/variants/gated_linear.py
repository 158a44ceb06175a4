"""Gated linear attention: every channel of the key forgets at a rate that the token sets."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.arrays import repeat_heads
from attention_variants.checks import check_integer
from attention_variants.families.decaying_recurrent import DecayingRecurrentVariant
from attention_variants.families.recurrent import Recurrence, dense_decays
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions

_TEMPERATURE = 16  # tau: a fresh gate keeps 2^(-1/16) = 0.96 of the past


class GatedLinearControls(NamedTuple):
    """The forget gates."""

    log_decay: Float[Array, "batch length num_kv_heads head_dim"]


class ForgetGate(nnx.Module):
    """x -> log sigmoid(x down up + b) / 16."""

    def __init__(self, model_dim: int, num_kv_heads: int, head_dim: int, gate_rank: int, *, rngs: nnx.Rngs):
        self.shape = num_kv_heads, head_dim
        self.down = nnx.Linear(model_dim, gate_rank, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(gate_rank, num_kv_heads * head_dim, rngs=rngs)

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> GatedLinearControls:
        """Returns the gates, as logs."""
        logits = self.up(self.down(x)).reshape(*x.shape[:2], *self.shape)
        return GatedLinearControls(jax.nn.log_sigmoid(logits) / _TEMPERATURE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedLinearAttention(DecayingRecurrentVariant):
    """Unnormalised linear attention with a data-dependent forget gate per channel of the key; causal only.

    ::

        S_t = Diag(alpha_t) S_(t-1) + key_t value_t^T,   output_t = S_t^T query_t / sqrt(head_dim)
        alpha_t = sigmoid(x_t W_1 W_2 + b)^(1/16)

    Attributes:
      gate_rank: rank of W_1 W_2.
      chunk_size: tokens per chunk; affects speed only, not the function, and is fastest at a power of two.

    References:
      Yang et al. 2024, "Gated Linear Attention Transformers", arXiv:2312.06635, sections 4.1 and 4.4. The published
      layer halves the width of queries and keys, normalises each head and gates it by SiLU: `paper_layer`. The scale,
      which its equations lack, is ours. We halve a chunk down to single tokens, whereas the paper has sub-chunks.
    """

    gate_rank: int = 16
    chunk_size: int = 64

    decays_per_channel = True
    controls_type = GatedLinearControls
    paper = "Yang et al. 2024, arXiv:2312.06635"
    paper_layer = LayerOptions(key_expansion=0.5, output_gate="silu", output_norm="head")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("gate_rank", self.gate_rank, 1)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> GatedLinearControls."""
        return ForgetGate(model_dim, heads.num_kv_heads, heads.head_dim, self.gate_rank, rngs=rngs)

    @override
    def recurrence(self, query: Array, key: Array, controls: GatedLinearControls, positions: Array) -> Recurrence:
        return Recurrence(query / math.sqrt(query.shape[3]), key, controls.log_decay)

    @override
    def kernel(self, query: Array, key: Array, controls: GatedLinearControls) -> Array:
        key, alpha = (repeat_heads(array, query.shape[2]) for array in (key, jnp.exp(controls.log_decay)))
        products = jnp.einsum("bihd,bjhd,bhijd->bhij", query, key, dense_decays(alpha), precision="highest")
        return products / math.sqrt(query.shape[3])
