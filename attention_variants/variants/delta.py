"""DeltaNet: linear attention that replaces what is stored under a key instead of adding to it."""

import dataclasses

import jax
from flax import nnx
from jaxtyping import Array, Float

from attention_variants.families.delta_rule import DeltaControls, DeltaRuleVariant
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions


class WriteStrength(nnx.Module):
    """x -> max_strength * sigmoid(linear(x)): how much of what is stored under a key is replaced."""

    def __init__(self, model_dim: int, num_kv_heads: int, max_strength: float, *, rngs: nnx.Rngs):
        self.max_strength = max_strength
        self.linear = nnx.Linear(model_dim, num_kv_heads, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> DeltaControls:
        """Returns the write strengths."""
        return DeltaControls(self.max_strength * jax.nn.sigmoid(self.linear(x)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeltaAttention(DeltaRuleVariant):
    """Linear attention whose memory is written by the delta rule.

    ::

        S_t      = S_(t-1) + beta_t f(key_t) (value_t - S_(t-1)^T f(key_t))^T
        output_t = S_t^T f(query_t),    f(x) = silu(x) / |silu(x)|,    beta_t = m sigmoid(W x_t)

    This is one step of gradient descent on |S^T key_t - value_t|^2 / 2 with learning rate beta_t: at beta_t = 1, the
    memory then answers key_t with value_t. With orthogonal keys, it is an associative memory that overwrites. No scale
    is applied.

    Attributes:
      chunk_size: tokens per chunk; affects speed only, not the function.
      max_strength: m, the largest beta. The step keeps 1 - beta of what is stored under the key: above 1, that
        eigenvalue may be negative, and at 2 the step may reflect, which is needed to track swaps.

    References:
      Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over Sequence Length", arXiv:2406.06484,
      sections 2.2 and 3.3; the rule is that of Schlag et al. 2021, arXiv:2102.11174. max_strength = 2 is from Grazzi et
      al. 2024, "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues", arXiv:2411.12537. The published
      layer convolves query, key and value, takes SiLU of value as well and normalises each head: `paper_layer`. beta is
      per key-value head; 1e-6 under the root of the norm keeps a zero key at zero.
    """

    paper = "Yang et al. 2024, arXiv:2406.06484"
    paper_layer = LayerOptions(qkv_conv=4, value_silu=True, output_norm="head")

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the module that makes the write strengths."""
        return WriteStrength(model_dim, heads.num_kv_heads, self.max_strength, rngs=rngs)
