"""Retention: linear attention that forgets at a fixed rate per head."""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.families.decaying_recurrent import DecayingRecurrentVariant
from attention_variants.families.recurrent import Recurrence, dense_products
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions


class RetentionControls(NamedTuple):
    """The decays of the heads; not learned."""

    log_decay: Float[Array, "1 1 num_kv_heads"]  # log gamma_h


class RetentionRates(nnx.Module):
    """x -> the rates of the heads, the same for every x; holds no parameters."""

    def __init__(self, num_kv_heads: int):
        self.num_kv_heads = num_kv_heads

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> RetentionControls:
        """Returns log(1 - 2^(-5 - h)), exact also where gamma itself would round to 1."""
        log_decay = np.log1p(-(2.0 ** (-5 - np.arange(self.num_kv_heads))))
        return RetentionControls(jnp.asarray(log_decay, jnp.float32)[None, None])


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetentionAttention(DecayingRecurrentVariant):
    """Unnormalised linear attention with a fixed decay per head; causal only.

    ::

        output_i = sum_(j <= i) gamma_h^(i - j) (query_i . key_j / sqrt(head_dim)) value_j
        gamma_h = 1 - 2^(-5 - h),   h = 0, 1, ... num_kv_heads - 1

    Attributes:
      chunk_size: tokens per chunk; affects speed only, not the function.

    References:
      Sun et al. 2023, "Retentive Network", arXiv:2307.08621, equations 5 to 8. The published layer rotates query and
      key by xPos, normalises each head (so that some scalings cancel) and gates it by SiLU: `paper_layer` and
      `paper_position`, with RoPE in place of xPos. Query heads that share a key-value head share its rate.
    """

    controls_type = RetentionControls
    paper = "Sun et al. 2023, arXiv:2307.08621"
    paper_layer = LayerOptions(output_gate="silu", output_norm="head")
    paper_position = "rope"

    @property
    @override
    def rotation_is_relative(self) -> bool:
        return True

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> RetentionControls, without parameters."""
        return RetentionRates(heads.num_kv_heads)

    @override
    def recurrence(self, query: Array, key: Array, controls: RetentionControls, positions: Array) -> Recurrence:
        return Recurrence(query / math.sqrt(query.shape[3]), key, controls.log_decay)

    @override
    def kernel(self, query: Array, key: Array, controls: RetentionControls) -> Array:
        gamma = jnp.repeat(jnp.exp(controls.log_decay[0, 0]), query.shape[2] // key.shape[2])
        positions = jnp.arange(key.shape[1], dtype=query.dtype)
        distance = (positions[:, None] - positions[None, :])[None, None]
        # The own key is handled separately: the derivative of 0^0 would be NaN.
        left = jnp.where(distance > 0, gamma[None, :, None, None] ** jnp.maximum(distance, 1), 1.0)
        return dense_products(query, key) / math.sqrt(query.shape[3]) * left
