"""State-space duality: the selective state space of Mamba-2, read as attention."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.families.decay_initialisers import draw_log_rate, draw_step_bias
from attention_variants.families.decaying_recurrent import DecayingRecurrentVariant
from attention_variants.families.recurrent import Recurrence, dense_decays, dense_products
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.parameters import Undecayed


class StateSpaceControls(NamedTuple):
    """The discretised state space."""

    log_decay: Float[Array, "batch length num_kv_heads"]  # -delta exp(A_log)
    write_strength: Float[Array, "batch length num_kv_heads"]  # delta


class Discretisation(nnx.Module):
    """x -> step sizes delta = softplus(x W + b), and what a state with rates exp(A_log) keeps over each."""

    def __init__(self, model_dim: int, num_kv_heads: int, *, rngs: nnx.Rngs):
        self.step = nnx.Linear(model_dim, num_kv_heads, use_bias=False, rngs=rngs)
        self.step_bias = Undecayed(draw_step_bias(rngs.params(), (num_kv_heads,)))
        self.log_rate = Undecayed(draw_log_rate(rngs.params(), (num_kv_heads,)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> StateSpaceControls:
        """Returns decays and write strengths."""
        delta = jax.nn.softplus(self.step(x) + self.step_bias[...][None, None])
        return StateSpaceControls(-delta * jnp.exp(self.log_rate[...])[None, None], delta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateSpaceAttention(DecayingRecurrentVariant):
    """A state-space model with a data-dependent step size per head; causal only.

    ::

        S_t = exp(-delta_t a) S_(t-1) + delta_t key_t value_t^T,   output_t = S_t^T query_t
        delta_t = softplus(x_t w + b),   a = exp(A_log) > 0

    In the paper's letters, key is B, query is C and value is X. Initially, b gives steps of 0.001 to 0.1, spread evenly
    in log scale, and a is between 1 and 16. No scale is applied to the query.

    Attributes:
      chunk_size: tokens per chunk; affects speed only, not the function.

    References:
      Dao and Gu 2024, "Transformers are SSMs", arXiv:2405.21060, sections 5 and 7. The published layer convolves x, B
      and C and takes SiLU of them, adds D x, gates by SiLU and normalises over all channels, with one B and C for all
      heads and an inner width of twice the model's: `paper_layer`. Here, each key-value head has its own B, and the
      query heads that share it share its steps.
    """

    chunk_size: int = 64

    controls_type = StateSpaceControls
    paper = "Dao and Gu 2024, arXiv:2405.21060"
    paper_layer = LayerOptions(
        qk_shared=True,
        value_expansion=2.0,
        qkv_conv=4,
        conv_silu=True,
        skip=1,
        output_gate="silu",
        output_norm="all",
        norm_after_gate=True,
    )

    @property
    @override
    def rotation_is_relative(self) -> bool:
        return True

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> StateSpaceControls."""
        return Discretisation(model_dim, heads.num_kv_heads, rngs=rngs)

    @override
    def recurrence(self, query: Array, key: Array, controls: StateSpaceControls, positions: Array) -> Recurrence:
        return Recurrence(query, key * controls.write_strength[..., None], controls.log_decay)

    @override
    def kernel(self, query: Array, key: Array, controls: StateSpaceControls) -> Array:
        group = query.shape[2] // key.shape[2]
        decay = jnp.repeat(jnp.exp(controls.log_decay), group, axis=2)
        delta = jnp.repeat(controls.write_strength, group, axis=2)
        return dense_products(query, key) * dense_decays(decay) * jnp.moveaxis(delta, 1, 2)[:, :, None, :]
