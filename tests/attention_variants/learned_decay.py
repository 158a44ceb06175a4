"""A variant with controls that lives in the tests: linear attention whose decay is learned from the tokens."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from attention_variants.arrays import repeat_heads
from attention_variants.checks import check_integer
from attention_variants.engines import linear_recurrence as engine
from attention_variants.interface import BYTES_PER_SCALAR, AttentionVariant, Cost, HeadSizes


class DecayCache(NamedTuple):
    """The running state; constant in length."""

    memory: Float[Array, "batch num_kv_heads head_dim value_dim"]  # sum of decayed key value^T
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


class DecayGate(nnx.Module):
    """x [batch, length, model_dim] -> log decay [batch, length, num_kv_heads], below 0."""

    def __init__(self, model_dim: int, num_kv_heads: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(model_dim, num_kv_heads, rngs=rngs)

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> Float[Array, "batch length num_kv_heads"]:
        return jax.nn.log_sigmoid(self.linear(x))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedDecayAttention(AttentionVariant):
    """S_t = decay_t S_(t-1) + key_t value_t^T, read by output_t = query_t S_t; not normalised, causal only.

    Attributes:
      chunk_size: tokens per chunk: affects speed only, not the function.
    """

    chunk_size: int = 128

    supports_bidirectional = False
    supports_cross = False
    normalised = False
    claims_growth = True
    controls_type = jax.Array
    family = "linear recurrence"
    cost_order = "length * (chunk_size + head_dim) * head_dim"
    state_order = "head_dim * value_dim"
    paper = "none: an example"

    def __post_init__(self) -> None:
        check_integer("chunk_size", self.chunk_size, 1)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        return DecayGate(model_dim, heads.num_kv_heads, rngs=rngs)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        return np.tril(np.ones((query_length, key_length), bool))

    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        executed = engine.chunked_flops(query_length, *heads, chunk_size=self.chunk_size, normalise=False)
        recurrent = engine.summed_flops(query_length, key_length, *heads, normalise=False)
        pairs = heads.pair_flops * (query_length * (query_length + 1) // 2)
        held = BYTES_PER_SCALAR * heads.num_kv_heads * heads.head_dim * heads.value_dim
        return Cost(executed, min(recurrent, pairs), cache_bytes=held)

    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> DecayCache:
        memory = engine.empty_state(batch, *heads[1:], dtype).memory
        return DecayCache(memory, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        return engine.linear_recurrence(query, key, value, log_decay=controls, chunk_size=self.chunk_size)[0]

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        products = jnp.einsum("bqhd,bkhd->bhqk", query, repeat_heads(key, query.shape[2]), precision="highest")
        decay = jnp.moveaxis(repeat_heads(jnp.exp(controls)[..., None], query.shape[2])[..., 0], 1, 0)

        def row(left: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
            """What is left of every key at the next token, whose own key is still whole."""
            left = (left * step[0][..., None]).at[..., step[1]].set(1.0)
            return left, left

        nothing = jnp.zeros_like(products[:, :, 0])
        _, left = jax.lax.scan(row, nothing, (decay.astype(nothing.dtype), jnp.arange(key.shape[1])))
        return products * jnp.moveaxis(left, 0, 2)

    def _extend(
        self, cache: DecayCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, DecayCache]:
        normaliser = jnp.zeros(cache.memory.shape[:3], cache.memory.dtype)
        out, state = engine.linear_recurrence(
            query,
            key,
            value,
            log_decay=controls,
            chunk_size=self.chunk_size,
            state=engine.LinearState(cache.memory, normaliser),
            return_state=True,
        )
        return out, DecayCache(state.memory, cache.length + key.shape[1], cache.max_length)
