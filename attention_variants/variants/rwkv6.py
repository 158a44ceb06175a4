"""RWKV-6: every token sets how its channels forget, and a token's own key has a separate weight."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.arrays import repeat_heads
from attention_variants.checks import check_integer
from attention_variants.families.decaying_recurrent import DecayingRecurrentVariant
from attention_variants.families.recurrent import Recurrence, dense_decays
from attention_variants.interface import HeadSizes


class Rwkv6Controls(NamedTuple):
    """Decays and bonus."""

    log_decay: Float[Array, "batch length num_kv_heads head_dim"]  # log w
    bonus: Float[Array, "1 1 num_kv_heads head_dim"]  # u


class TokenDecay(nnx.Module):
    """x -> log w = -exp(w_0 + tanh(x A) B), and the bonus u."""

    def __init__(self, model_dim: int, num_kv_heads: int, head_dim: int, decay_rank: int, *, rngs: nnx.Rngs):
        self.shape, width = (num_kv_heads, head_dim), num_kv_heads * head_dim
        self.down = nnx.Linear(model_dim, decay_rank, use_bias=False, rngs=rngs)
        small = nnx.initializers.normal(0.01)
        self.up = nnx.Linear(decay_rank, width, use_bias=False, kernel_init=small, rngs=rngs)
        ramp = jnp.linspace(0.0, 1.0, width)
        self.base = nnx.Param(-6 + 5 * ramp**0.7)  # the first channel keeps 0.998 of the past, the last one 0.69
        self.bonus = nnx.Param(1 - ramp)

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> Rwkv6Controls:
        """Returns decays, as logs, and the bonus."""
        log_rate = self.base[...][None, None] + self.up(jnp.tanh(self.down(x)))
        log_decay = -jnp.exp(log_rate).reshape(*x.shape[:2], *self.shape)
        return Rwkv6Controls(log_decay, self.bonus[...].reshape(1, 1, *self.shape))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rwkv6Attention(DecayingRecurrentVariant):
    """Unnormalised linear attention with data-dependent decays per channel and a bonus for the own key; causal only.

    ::

        output_t = (S_(t-1) + Diag(u) key_t value_t^T)^T query_t,   S_t = Diag(w_t) S_(t-1) + key_t value_t^T
        w_t = exp(-exp(w_0 + tanh(x_t A) B))

    The state is read before it decays, so that the key of the token before is still whole. No scale is applied.

    Attributes:
      decay_rank: rank of A B.
      chunk_size: tokens per chunk: speed only, the function is the same; fastest at a power of two.

    References:
      Peng et al. 2024, "Eagle and Finch", arXiv:2404.05892, section 4.2 (Finch). Its token shift is left to the model's
      short convolution; group norm and gate are the model's. At first w_0 and u are ramps over all channels, without
      the paper's dependence on the layer.
    """

    decay_rank: int = 64
    chunk_size: int = 64

    decays_per_channel = True
    controls_type = Rwkv6Controls
    paper = "Peng et al. 2024, arXiv:2404.05892"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("decay_rank", self.decay_rank, 1)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> Rwkv6Controls."""
        return TokenDecay(model_dim, heads.num_kv_heads, heads.head_dim, self.decay_rank, rngs=rngs)

    @override
    def recurrence(self, query: Array, key: Array, controls: Rwkv6Controls, positions: Array) -> Recurrence:
        return Recurrence(query, key, *controls)

    @override
    def kernel(self, query: Array, key: Array, controls: Rwkv6Controls) -> Array:
        key, decay, bonus = (
            repeat_heads(array, query.shape[2]) for array in (key, jnp.exp(controls.log_decay), controls.bonus)
        )
        # What the token before has left of a key, and for the own key the bonus.
        left = jnp.pad(dense_decays(decay), ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))[:, :, :-1]
        own = jnp.eye(key.shape[1], dtype=bool)[None, None, ..., None]
        left = jnp.where(own, bonus[:, 0, :, None, None], left)
        return jnp.einsum("bihd,bjhd,bhijd->bhij", query, key, left, precision="highest")
