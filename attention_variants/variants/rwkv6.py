"""RWKV-6: every token sets how the channels decay, and a token's own key has a separate weight."""

import dataclasses
from typing import Any, NamedTuple

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
from attention_variants.parameters import Undecayed


class Rwkv6Controls(NamedTuple):
    """Decays and bonus."""

    log_decay: Float[Array, "batch length num_kv_heads head_dim"]  # log w
    bonus: Float[Array, "1 1 num_kv_heads head_dim"]  # u


class TokenDecay(nnx.Module):
    """x -> log w = -exp(w_0 + tanh(x A) B), and the bonus u; initially A = 0."""

    def __init__(self, model_dim: int, num_kv_heads: int, head_dim: int, decay_rank: int, *, rngs: nnx.Rngs):
        self.shape, width = (num_kv_heads, head_dim), num_kv_heads * head_dim
        zeros = nnx.initializers.zeros_init()
        self.down = nnx.Linear(model_dim, decay_rank, use_bias=False, kernel_init=zeros, rngs=rngs)
        self.up = nnx.Linear(decay_rank, width, use_bias=False, kernel_init=_small, rngs=rngs)
        ramp, zigzag = jnp.linspace(0.0, 1.0, width), (jnp.arange(1, width + 1) % 3 - 1) / 10
        self.base = Undecayed(-6 + 5 * ramp**2)  # the first channel keeps 0.998 of the past, the last one 0.69
        self.bonus = Undecayed(1 - ramp + zigzag)

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> Rwkv6Controls:
        """Returns decays, as logs, and the bonus."""
        log_rate = self.base[...][None, None] + self.up(jnp.tanh(self.down(x)))
        log_decay = -jnp.exp(log_rate).reshape(*x.shape[:2], *self.shape)
        return Rwkv6Controls(log_decay, self.bonus[...].reshape(1, 1, *self.shape))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rwkv6Attention(DecayingRecurrentVariant):
    """Unnormalised linear attention with data-dependent channel decays and a bonus for a token's own key; causal only.

    ::

        output_t = (S_(t-1) + Diag(u) key_t value_t^T)^T query_t,   S_t = Diag(w_t) S_(t-1) + key_t value_t^T
        w_t = exp(-exp(w_0 + tanh(x_t A) B))

    The state is read before it decays, so that the previous token's key has not decayed yet. No scale is applied.

    Attributes:
      decay_rank: rank of A B.
      chunk_size: tokens per chunk; affects speed only, not the function, and is fastest at a power of two.

    References:
      Peng et al. 2024, "Eagle and Finch", arXiv:2404.05892, section 4.2 (Finch). Initially A = 0, B is uniform in
      +-0.01, and w_0 = -6 + 5 r^2 and u = 1 - r + z, for a ramp r from 0 to 1 over all channels n and z = 0.1 ((n + 1)
      mod 3 - 1): the last layer of the published code (github.com/BlinkDL/RWKV-LM, `RWKV_Tmix_x060`), where r^2 is
      r^(0.7 + 1.3 l) and 1 - r is l (1 - r) in the layer at share l of the depth. The published layer shifts tokens
      before query, key, value, decay and gate, normalises each head and gates by SiLU: `paper_layer`.
    """

    decay_rank: int = 64
    chunk_size: int = 64

    decays_per_channel = True
    controls_type = Rwkv6Controls
    paper = "Peng et al. 2024, arXiv:2404.05892"
    paper_layer = LayerOptions(token_shift="ddlerp", output_gate="silu", output_norm="group")

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
        # What is left of a key at the token before; for a token's own key, the bonus.
        left = jnp.pad(dense_decays(decay), ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))[:, :, :-1]
        own = jnp.eye(key.shape[1], dtype=bool)[None, None, ..., None]
        left = jnp.where(own, bonus[:, 0, :, None, None], left)
        return jnp.einsum("bihd,bjhd,bhijd->bhij", query, key, left, precision="highest")


def _small(rng: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.uniform(rng, shape, dtype, minval=-0.01, maxval=0.01)
