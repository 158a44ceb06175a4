"""Attention as a linear recurrence: what such variants share.

A variant is written twice: as `recurrence`, the features, decays and bonus that the engine runs on, and as `kernel`,
its weights spelled out from the paper's definition. The laws check one against the other.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, repeat_heads
from attention_variants.checks import check_integer
from attention_variants.engines import linear_recurrence as engine
from attention_variants.interface import BYTES_PER_SCALAR, AttentionVariant, Cost, HeadSizes
from attention_variants.patterns.matrices import every_key


class Recurrence(NamedTuple):
    """What the engine runs on; see `linear_recurrence`."""

    query: Float[Array, "batch query_length num_heads key_dim"]  # features, scaled
    key: Float[Array, "batch key_length num_kv_heads key_dim"]  # features, times the write strength if there is one
    log_decay: Float[Array, "#batch #key_length num_kv_heads *key_dim"] | None = None
    bonus: Float[Array, "#batch #key_length num_kv_heads key_dim"] | None = None


class MemoryCache(NamedTuple):
    """The running state of a variant that is not normalised; constant in length."""

    memory: Float[Array, "batch num_kv_heads key_dim value_dim"]  # sum of decayed feature(key) value^T
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


class NormalisedCache(NamedTuple):
    """The running state of a normalised variant; constant in length."""

    memory: Float[Array, "batch num_kv_heads key_dim value_dim"]  # sum of decayed feature(key) value^T
    normaliser: Float[Array, "batch num_kv_heads key_dim"]  # sum of decayed feature(key)
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentVariant(AttentionVariant):
    """Causal attention through a running state; where nothing decays, also bidirectional, as one sum over all keys.

    A subclass defines `recurrence` and `kernel`, and optionally `key_dim`, `feature_flops` and `make_controls`. One
    whose state decays extends `DecayingRecurrentVariant`.
    """

    chunk_size: int = 128

    decays_per_channel = False  # whether `recurrence` returns a log decay per channel of the key
    family = "linear recurrence"
    claims_growth = True

    def __post_init__(self) -> None:
        check_integer("chunk_size", self.chunk_size, 1)

    @abc.abstractmethod
    def recurrence(self, query: Array, key: Array, controls: Any, positions: Int[Array, " length"]) -> Recurrence:
        """Returns what the engine runs on.

        Args:
          query: [batch, query_length, num_heads, head_dim], in float32 (float64 for such inputs), like all arrays here.
          key: [batch, key_length, num_kv_heads, head_dim]; masked keys are 0, and their features will be zeroed.
          controls: from `make_controls`.
          positions: [key_length], of the keys and, except in cross-attention, of the queries.
        """

    @abc.abstractmethod
    def kernel(self, query: Array, key: Array, controls: Any) -> Array:
        """Returns the weights [batch, num_heads, query_length, key_length] before masks and normalisation.

        The definition, O(length^2). It shares no code with `recurrence` except elementwise helpers; arguments as there.
        Pairs outside the pattern may hold any finite number.
        """

    def key_dim(self, head_dim: int) -> int:
        """Returns the number of features."""
        return head_dim

    def feature_flops(self, query_length: int, key_length: int, heads: HeadSizes) -> int:
        """Returns the FLOPs of the matrix products in `recurrence`, for one sequence."""
        return 0

    @property
    @override
    def rotation_is_relative(self) -> bool:
        return False  # features are computed channel by channel

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True, or the lower triangle where causal."""
        return every_key(query_length, key_length, causal)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Ideal is the cheaper of the permitted pairs and the token-by-token recurrence."""
        features, wide = self.feature_flops(query_length, key_length, heads), self._of_features(heads)
        summed = engine.summed_flops(query_length, key_length, *wide, normalise=self.normalised)
        if causal:
            executed = engine.chunked_flops(
                query_length,
                *wide,
                chunk_size=self.chunk_size,
                normalise=self.normalised,
                decays_per_channel=self.decays_per_channel,
            )
            pairs = query_length * (query_length + 1) // 2
        else:
            executed, pairs = summed, query_length * key_length
        cache_bytes = BYTES_PER_SCALAR * wide.num_kv_heads * wide.head_dim * (wide.value_dim + self.normalised)
        return Cost(features + executed, features + min(summed, wide.pair_flops * pairs), cache_bytes)

    def _of_features(self, heads: HeadSizes) -> HeadSizes:
        """Returns the sizes with the number of features as head_dim."""
        return heads._replace(head_dim=self.key_dim(heads.head_dim))

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any:
        """The state is float32 whatever `dtype`."""
        wide = self._of_features(heads)
        memory, normaliser = engine.empty_state(batch, *wide[1:], dtype, normalise=self.normalised)
        counters = jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32)
        return MemoryCache(memory, *counters) if normaliser is None else NormalisedCache(memory, normaliser, *counters)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        recurrence = self.features(query, key, key_mask, controls, jnp.arange(key.shape[1]))
        if not causal:
            return engine.linear_sum(recurrence.query, recurrence.key, value, normalise=self.normalised)
        return self.recur(recurrence, value)[0]

    def features(self, query: Array, key: Array, key_mask: Any, controls: Any, positions: Array) -> Recurrence:
        """Returns `recurrence` in the dtype of the state; features of masked keys are 0."""
        recurrence = self.recurrence(*_widened(query, key, controls), positions)
        if key_mask is None:
            return recurrence
        return recurrence._replace(key=jnp.where(key_mask[:, :, None, None], recurrence.key, 0.0))

    def recur(self, recurrence: Recurrence, value: Array, **state: Any) -> tuple[Array, Any]:
        """Runs the engine; `state` and `return_state` as in `linear_recurrence`."""
        return engine.linear_recurrence(
            recurrence.query,
            recurrence.key,
            value,
            log_decay=recurrence.log_decay,
            bonus=recurrence.bonus,
            normalise=self.normalised,
            chunk_size=self.chunk_size,
            **state,
        )

    def _extend(
        self, cache: Any, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, Any]:
        positions = cache.length + jnp.arange(key.shape[1])
        recurrence = self.features(query, key, None, controls, positions)
        state = engine.LinearState(cache.memory, cache.normaliser if self.normalised else None)
        out, state = self.recur(recurrence, value, state=state, return_state=True)
        assert state is not None
        kept = {"normaliser": state.normaliser} if self.normalised else {}
        return out, cache._replace(memory=state.memory, length=cache.length + key.shape[1], **kept)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        kernel = self.kernel(*_widened(query, key, controls))
        mask = jnp.asarray(self.pattern(query.shape[1], key.shape[1], causal))[None, None]
        if key_mask is not None:
            mask = mask & key_mask[:, None, None, :]
        kernel = jnp.where(mask, kernel, 0.0)
        if not self.normalised:
            return kernel
        total = kernel.sum(-1, keepdims=True)
        return kernel / jnp.where(total == 0, 1.0, total)


def dense_products(query: Array, key: Array) -> Float[Array, "batch num_heads query_length key_length"]:
    """Returns query . key for all pairs; for definitions."""
    return jnp.einsum("bqhd,bkhd->bhqk", query, repeat_heads(key, query.shape[2]), precision="highest")


def dense_decays(
    decay: Float[Array, "batch length num_heads *channels"],
) -> Float[Array, "batch num_heads length length *channels"]:
    """Returns what is left of token j's write at token i, the product of the decays of j+1 .. i; for definitions."""

    def row(left: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        decay, position = now
        left = (left * decay[:, None]).at[:, position].set(1.0)
        return left, left

    nothing = jnp.zeros((decay.shape[0], decay.shape[1], *decay.shape[2:]), decay.dtype)
    _, rows = jax.lax.scan(row, nothing, (jnp.moveaxis(decay, 1, 0), jnp.arange(decay.shape[1])))
    return jnp.moveaxis(rows, (0, 1, 2, 3), (2, 0, 3, 1))


def _widened(query: Array, key: Array, controls: Any) -> tuple[Array, Array, Any]:
    """Returns all in the dtype of the state."""
    dtype = accumulation_dtype(query.dtype)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), (query, key, controls))
