"""Gated DeltaNet: the delta rule in a memory that decays."""

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


class WriteAndDecay(nnx.Module):
    """x -> write strength m sigmoid(W x) and log decay -rate * softplus(W' x + bias), per key-value head."""

    def __init__(self, model_dim: int, num_kv_heads: int, max_strength: float, *, rngs: nnx.Rngs):
        self.max_strength = max_strength
        self.strength = nnx.Linear(model_dim, num_kv_heads, use_bias=False, rngs=rngs)
        self.step = nnx.Linear(model_dim, num_kv_heads, use_bias=False, rngs=rngs)
        self.step_bias = Undecayed(draw_step_bias(rngs.params(), (num_kv_heads,)))
        self.log_rate = Undecayed(draw_log_rate(rngs.params(), (num_kv_heads,)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> DeltaControls:
        """Returns write strengths and decays, as logs."""
        step = jax.nn.softplus(self.step(x) + self.step_bias[None, None])
        strength = self.max_strength * jax.nn.sigmoid(self.strength(x))
        return DeltaControls(strength, -jnp.exp(self.log_rate[None, None]) * step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedDeltaAttention(DeltaRuleVariant):
    """The delta rule with one learned decay per head and token.

    ::

        S_t      = alpha_t S_(t-1) + beta_t f(key_t) (value_t - alpha_t S_(t-1)^T f(key_t))^T
        output_t = S_t^T f(query_t),    f(x) = silu(x) / |silu(x)|
        alpha_t  = exp(-a softplus(W x_t + b)),    beta_t = m sigmoid(W' x_t)

    The decay clears the whole memory, the delta rule one key at a time. alpha = 1 is `delta`. No scale is applied.

    Attributes:
      chunk_size: tokens per chunk; affects speed only, not the function.
      max_strength: m, the largest beta: above 1 the step may have negative eigenvalues (Grazzi et al.
        2024, arXiv:2411.12537).

    References:
      Yang et al. 2024, "Gated Delta Networks: Improving Mamba2 with Delta Rule", arXiv:2412.06464, equation 10 and
      section 3.4. alpha as in Mamba-2 (Dao and Gu 2024, arXiv:2405.21060): initially, a is from 1 to 16 and softplus(b)
      from 0.001 to 0.1. The published layer convolves query, key and value, takes SiLU of value as well, normalises
      each head and gates it by SiLU: `paper_layer`. alpha and beta are per key-value head, and 1e-6 under the root of
      the norm keeps a zero key at zero.
    """

    paper = "Yang et al. 2024, arXiv:2412.06464"
    paper_layer = LayerOptions(qkv_conv=4, value_silu=True, output_gate="silu", output_norm="head")

    @override
    def decay_shape(self, num_kv_heads: int, head_dim: int) -> tuple[int, ...]:
        return (num_kv_heads,)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the module that makes write strengths and decays."""
        return WriteAndDecay(model_dim, heads.num_kv_heads, self.max_strength, rngs=rngs)
