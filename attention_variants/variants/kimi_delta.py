"""Kimi Delta Attention: the delta rule in a memory whose channels decay separately."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.families.decay_initialisers import draw_log_rate, draw_step_bias
from attention_variants.families.delta_rule import DeltaControls, DeltaRuleVariant
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.parameters import Undecayed


class WriteAndChannelDecay(nnx.Module):
    """x -> write strength m sigmoid(W x) per key-value head, log decay -rate softplus(W_2 W_1 x + bias) per channel."""

    def __init__(self, model_dim: int, num_kv_heads: int, head_dim: int, max_strength: float, *, rngs: nnx.Rngs):
        self.max_strength = max_strength
        shape = num_kv_heads, head_dim
        self.strength = nnx.Linear(model_dim, num_kv_heads, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(model_dim, head_dim, use_bias=False, rngs=rngs)
        self.up = nnx.LinearGeneral(head_dim, shape, use_bias=False, rngs=rngs)
        self.step_bias = Undecayed(draw_step_bias(rngs.params(), shape))
        self.log_rate = Undecayed(draw_log_rate(rngs.params(), (num_kv_heads, 1)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> DeltaControls:
        """Returns write strengths and decays, as logs."""
        step = jax.nn.softplus(self.up(self.down(x)) + self.step_bias[None, None])
        strength = self.max_strength * jax.nn.sigmoid(self.strength(x))
        return DeltaControls(strength, -jnp.exp(self.log_rate[None, None]) * step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KimiDeltaAttention(DeltaRuleVariant):
    """The delta rule with a learned decay per key channel and token.

    ::

        S_t      = (I - beta_t f(key_t) f(key_t)^T) Diag(alpha_t) S_(t-1) + beta_t f(key_t) value_t^T
        output_t = S_t^T f(query_t),    f(x) = silu(x) / |silu(x)|
        alpha_t  = exp(-a softplus(W_2 W_1 x_t + b)) per channel,    beta_t = m sigmoid(W x_t)

    If all channels decay equally, it is `gated_delta`. No scale is applied.

    Attributes:
      chunk_size: tokens per chunk; affects speed only, not the function, and is fastest at a power of two.
      max_strength: m, the largest beta: above 1 the step may have negative eigenvalues (Grazzi et al.
        2024, arXiv:2411.12537).

    References:
      Kimi Team 2025, "Kimi Linear: An Expressive, Efficient Attention Architecture", arXiv:2510.26692, equation 1 and
      the parametrisation of its section 4; W_1 maps to head_dim. a, one per head, and b are initialised as in Mamba-2
      (Dao and Gu 2024, arXiv:2405.21060). The published layer convolves query, key and value, takes SiLU of value as
      well, normalises each head and gates it by a sigmoid of rank head_dim: `paper_layer`. alpha and beta are per
      key-value head, and 1e-6 under the root of the norm keeps a zero key at zero.
    """

    chunk_size: int = 32

    paper = "Kimi Team 2025, arXiv:2510.26692"
    paper_layer = LayerOptions(
        qkv_conv=4, value_silu=True, output_gate="sigmoid", gate_low_rank=True, output_norm="head"
    )

    @override
    def decay_shape(self, num_kv_heads: int, head_dim: int) -> tuple[int, ...]:
        return (num_kv_heads, head_dim)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the module that makes write strengths and decays."""
        return WriteAndChannelDecay(model_dim, heads.num_kv_heads, heads.head_dim, self.max_strength, rngs=rngs)
