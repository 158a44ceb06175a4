"""DeltaProduct and Gated DeltaProduct: several steps of the delta rule at every token."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.checks import check_integer
from attention_variants.families.decay_initialisers import draw_log_rate, draw_step_bias
from attention_variants.families.delta_rule import DeltaRuleVariant, Writes
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.parameters import Undecayed


class ProductControls(NamedTuple):
    """The learned inputs of a token's steps; the first step writes the key and the value of the call."""

    write_strength: Float[Array, "batch length num_kv_heads num_steps"]
    further_keys: Float[Array, "batch length num_kv_heads further_steps head_dim"] | None  # None: one step
    further_values: Float[Array, "batch length num_kv_heads further_steps value_dim"] | None
    log_decay: Float[Array, "batch length num_kv_heads"] | None = None  # <= 0; None: nothing decays


class Steps(nnx.Module):
    """x -> write strengths m sigmoid(W x), keys and values of further steps, and for a gated rule the log decay.

    The decay is exp(-rate * softplus(W' x + bias)) per key-value head.
    """

    def __init__(
        self, model_dim: int, heads: HeadSizes, num_steps: int, max_strength: float, gated: bool, *, rngs: nnx.Rngs
    ):
        kv_heads, further = heads.num_kv_heads, num_steps - 1
        self.max_strength, self.gated, self.further = max_strength, gated, further
        self.strength = nnx.LinearGeneral(model_dim, (kv_heads, num_steps), use_bias=False, rngs=rngs)
        if further:
            key, value = (kv_heads, further, heads.head_dim), (kv_heads, further, heads.value_dim)
            self.keys = nnx.LinearGeneral(model_dim, key, use_bias=False, rngs=rngs)
            self.values = nnx.LinearGeneral(model_dim, value, use_bias=False, rngs=rngs)
        if gated:
            self.step = nnx.Linear(model_dim, kv_heads, use_bias=False, rngs=rngs)
            self.step_bias = Undecayed(draw_step_bias(rngs.params(), (kv_heads,)))
            self.log_rate = Undecayed(draw_log_rate(rngs.params(), (kv_heads,)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> ProductControls:
        """Returns the controls of all tokens."""
        log_decay = None
        if self.gated:
            step = jax.nn.softplus(self.step(x) + self.step_bias[None, None])
            log_decay = -jnp.exp(self.log_rate[None, None]) * step
        strength = self.max_strength * jax.nn.sigmoid(self.strength(x))
        if not self.further:
            return ProductControls(strength, None, None, log_decay)
        return ProductControls(strength, self.keys(x), self.values(x), log_decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeltaProductAttention(DeltaRuleVariant):
    """The delta rule with several steps per token: a product of as many reflections acts on the memory.

    ::

        S        = S_(t-1),   then for j = 1 .. n:   S <- S + beta_tj f(key_tj) (value_tj - S^T f(key_tj))^T,   S_t = S
        output_t = S_t^T f(query_t),    f(x) = silu(x) / |silu(x)|,    beta_t = m sigmoid(W x_t)

    key_t1 and value_t1 are the key and the value of the call; the others are separate maps of x_t. One step, n = 1, is
    `delta`. With m = 2, one step may reflect the memory, and n steps may apply a product of n reflections. The memory
    is read once per token, after its last step. No scale is applied.

    Attributes:
      num_steps: n.
      chunk_size: tokens per chunk; affects speed only, not the function. A chunk has n * chunk_size steps.
      max_strength: m, the largest beta: at 2 a step may reflect; up to 1 it only fades.

    References:
      Siems et al. 2025, "DeltaProduct: Improving State-Tracking in Linear RNNs via Householder Products",
      arXiv:2502.10297, section 3. The published layer convolves query, keys and values, takes SiLU of values and
      normalises each head: `paper_layer`. beta is per key-value head and step; 1e-6 under the root of the norm keeps
      a zero key at zero.
    """

    num_steps: int = 2
    chunk_size: int = 32
    max_strength: float = 2.0

    controls_type = ProductControls
    cost_order = "length * num_steps * (num_steps * chunk_size + head_dim) * head_dim"
    paper = "Siems et al. 2025, arXiv:2502.10297"
    paper_layer = LayerOptions(qkv_conv=4, value_silu=True, output_norm="head")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("num_steps", self.num_steps, 1)

    @property
    @override
    def writes_per_token(self) -> int:
        return self.num_steps

    @override
    def control_shapes(self, num_kv_heads: int, head_dim: int) -> dict[str, tuple[int, ...] | None]:
        further = (num_kv_heads, self.num_steps - 1, head_dim) if self.num_steps > 1 else None
        shapes = super().control_shapes(num_kv_heads, head_dim)
        return shapes | {"write_strength": (num_kv_heads, self.num_steps), "further_keys": further}

    @override
    def writes(self, key: Array, controls: ProductControls) -> Writes:
        strength = controls.write_strength.swapaxes(2, 3)
        return Writes(_side_by_side(key, controls.further_keys), strength.reshape(key.shape[0], -1, key.shape[2]))

    @override
    def _dense_values(self, value: Array, controls: ProductControls) -> Array:
        further = (*value.shape[:3], self.num_steps - 1, value.shape[3]) if self.num_steps > 1 else None
        got = None if controls.further_values is None else controls.further_values.shape
        if got != further:
            raise ValueError(
                f"`controls.further_values` of {type(self).__name__} must have the shape {further}; got {got}."
            )
        return _side_by_side(value, controls.further_values)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the module that makes strengths, further keys and values, and the decay if there is one."""
        gated = self.decay_shape(heads.num_kv_heads, heads.head_dim) is not None
        return Steps(model_dim, heads, self.num_steps, self.max_strength, gated, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedDeltaProductAttention(DeltaProductAttention):
    """DeltaProduct in a memory that decays once per token.

    ::

        S        = alpha_t S_(t-1),   then the n steps of `delta_product`
        alpha_t  = exp(-a softplus(W' x_t + b))

    One step, n = 1, is `gated_delta`; alpha = 1 is `delta_product`.

    Attributes:
      num_steps: n.
      chunk_size: tokens per chunk; affects speed only, not the function. A chunk has n * chunk_size steps.
      max_strength: m, the largest beta: at 2 a step may reflect; up to 1 it only fades.

    References:
      Siems et al. 2025, arXiv:2502.10297, section 3; alpha is that of Yang et al. 2024, arXiv:2412.06464, and a and b
      are initialised as there. We differ as in `delta_product`.
    """

    paper_layer = LayerOptions(qkv_conv=4, value_silu=True, output_gate="silu", output_norm="head")

    @override
    def decay_shape(self, num_kv_heads: int, head_dim: int) -> tuple[int, ...]:
        return (num_kv_heads,)


def _side_by_side(
    first: Float[Array, "batch length num_kv_heads dim"],
    further: Float[Array, "batch length num_kv_heads further_steps dim"] | None,
) -> Float[Array, "batch writes num_kv_heads dim"]:
    """Returns the rows of all steps, those of a token in succession."""
    if further is None:
        return first
    steps = jnp.concatenate([first[:, :, None], further.swapaxes(2, 3).astype(first.dtype)], axis=2)
    return steps.reshape(first.shape[0], -1, *first.shape[2:])
