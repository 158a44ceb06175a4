"""Forgetting attention: softmax attention with a forget gate."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, dense_logits, masked_softmax, repeat_heads
from attention_variants.biases.forget import forget_bias
from attention_variants.checks import check_number
from attention_variants.engines.block_softmax import BlockPlan, block_softmax
from attention_variants.engines.cached_softmax import attend_cached
from attention_variants.families.modified_softmax import ModifiedSoftmaxVariant
from attention_variants.families.static_pattern import Given
from attention_variants.interface import BYTES_PER_SCALAR, Cost, HeadSizes
from attention_variants.layer_options import LayerOptions


class ForgetControls(NamedTuple):
    """The forget gates."""

    log_gate: Float[Array, "batch length num_kv_heads"]  # log of what is left of the past when a token arrives


class ForgetGate(nnx.Module):
    """x -> log sigmoid(W x + b) per key-value head."""

    def __init__(self, model_dim: int, num_kv_heads: int, initial_gate: float, *, rngs: nnx.Rngs):
        start = nnx.initializers.constant(math.log(initial_gate / (1 - initial_gate)))
        self.linear = nnx.Linear(model_dim, num_kv_heads, bias_init=start, rngs=rngs)

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> ForgetControls:
        """Returns the gates, as logs."""
        return ForgetControls(jax.nn.log_sigmoid(self.linear(x)))


class ForgettingCache(NamedTuple):
    """The last keys, values and gates, newest last; slot s holds position length - size + s, or nothing if < 0."""

    key: Float[Array, "batch size num_kv_heads head_dim"]
    value: Float[Array, "batch size num_kv_heads value_dim"]
    log_gate: Float[Array, "batch size num_kv_heads"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgettingAttention(ModifiedSoftmaxVariant):
    """Softmax attention whose logits fall with every forget gate between key and query.

    ::

        output_i = sum_(j <= i) softmax_j(query_i . key_j / sqrt(head_dim) + sum_(j < t <= i) log f_t) value_j
        f_t      = sigmoid(W x_t + b)

    The tokens choose how the unnormalised weights decay, like ALiBi with learned, data-dependent slopes. f = 1 is full
    attention. No position encoding is needed. Causal only.

    Attributes:
      block_size: tokens per block of the engine; affects speed only, not the function.
      initial_gate: the gate at initialisation for an input of zeros; the gates of tokens scatter around it. With 0.5,
        as published, the weight of a key 32 tokens back is multiplied by about 2^-32, and a small model may never learn
        that the key is needed; with 0.98, by a half.

    References:
      Lin et al. 2025, "Forgetting Transformer: Softmax Attention with a Forget Gate", arXiv:2503.02130, section 3. We
      have one gate per key-value head, the paper one per head. Its plain layer is ours. Its Pro layer adds norms of
      query, key and output, an output gate and shifts of key and value; all but the shifts are layer options of
      `MultiHeadAttention`.
    """

    initial_gate: float = 0.5

    supports_bidirectional = False
    supports_cross = False
    normalised = True
    controls_type = ForgetControls
    paper = "Lin et al. 2025, arXiv:2503.02130"
    paper_layer = LayerOptions(qk_norm=True, output_gate="sigmoid", output_norm="head")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("initial_gate", self.initial_gate, 0.0, 1 - 2**-20, above_low=True)  # at 0 and 1 no gradient

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> ForgetControls."""
        return ForgetGate(model_dim, heads.num_kv_heads, self.initial_gate, rngs=rngs)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """The cache holds the gates too."""
        plain = super().cost(query_length, key_length, heads, causal)
        return plain._replace(cache_bytes=plain.cache_bytes + BYTES_PER_SCALAR * key_length * heads.num_kv_heads)

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> ForgettingCache:
        """The gates are float32 whatever `dtype`."""
        plain = super()._init_cache(batch, max_length, heads, dtype)
        gates = jnp.zeros((batch, max_length, heads.num_kv_heads), accumulation_dtype(dtype))
        return ForgettingCache(plain.key, plain.value, gates, plain.length, plain.max_length)

    @override
    def attend_from(self, plan: BlockPlan, query: Array, key: Array, value: Array, causal: bool, given: Given) -> Array:
        log_gate = given.controls.log_gate.astype(accumulation_dtype(query.dtype))
        bias = forget_bias(log_gate, query.shape[2] // key.shape[2], given.bias)
        return block_softmax(plan, query, key, value, key_mask=given.key_mask, bias=bias)[0]

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        logits = dense_logits(query, key, bias)
        log_gate = repeat_heads(controls.log_gate.astype(logits.dtype)[..., None], query.shape[2])[..., 0]
        positions = jnp.arange(key.shape[1])

        def row(faded: Array, token: tuple[Array, Array]) -> tuple[Array, Array]:
            """Fades every earlier key by the gate of a token, whose own key is still fresh."""
            log_gate, position = token
            faded = jnp.where(positions < position, faded + log_gate[..., None], 0.0)
            return faded, faded

        _, faded = lax.scan(row, jnp.zeros_like(logits[:, :, 0]), (jnp.moveaxis(log_gate, 1, 0), positions))
        mask = self.permitted(query, key, causal, key_mask)
        return masked_softmax(logits + jnp.moveaxis(faded, 0, 2), mask)

    def _extend(
        self, cache: ForgettingCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, ForgettingCache]:
        size, new = cache.key.shape[1], key.shape[1]
        held = cache.key, cache.value, cache.log_gate
        key, value, log_gate = (
            jnp.concatenate([old, added.astype(old.dtype)], axis=1)
            for old, added in zip(held, (key, value, controls.log_gate), strict=True)
        )
        first = cache.length - size
        bias = forget_bias(log_gate, query.shape[2] // key.shape[2], bias, first)
        positions = first + jnp.arange(size + new)
        visible = self.block_pattern(size + new, size + new, True).visible
        out = attend_cached(query, key, value, positions[size:], positions, visible, bias=bias)
        counters = cache.length + new, cache.max_length
        return out, ForgettingCache(key[:, new:], value[:, new:], log_gate[:, new:], *counters)
