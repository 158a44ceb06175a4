"""Softmax attention over a pattern that is fixed before any content is seen: what such variants share.

A variant gives the pattern twice: `pattern`, spelled out from the paper's definition, and `block_pattern`, in the
pieces that the block engine can skip by. The laws hold one against the other.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from attention_variants.engines.block_softmax import BlockPlan, block_softmax, make_plan
from attention_variants.interface import AttentionVariant, Cost, accumulation_dtype, dense_logits, masked_softmax
from attention_variants.patterns import Pattern

_DECODED_AT_ONCE = 256  # queries per strip of `attend_cached`, to keep memory linear in a long prefill


class KeyValueCache(NamedTuple):
    """The last keys and values, newest last; slot s holds position length - size + s, nothing where that is < 0."""

    key: Float[Array, "batch size num_kv_heads head_dim"]
    value: Float[Array, "batch size num_kv_heads head_dim"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatternAttention(AttentionVariant):
    """Softmax attention over a static pattern. A subclass gives `pattern`, `block_pattern` and perhaps the sizes."""

    supports_bias = True
    normalised = True

    @abc.abstractmethod
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> Pattern:
        """Returns the pattern in pieces that the engine can skip by; must not depend on the lengths where causal."""

    def engine_block(self, query_length: int, key_length: int) -> int:
        """Returns about how many queries and keys a block should have."""
        return 512

    def cache_size(self, max_length: int) -> int:
        """Returns how many of the newest keys later queries may still see."""
        return max_length

    def weigh(self, logits: Array, mask: Array, controls: Any) -> Array:
        """Turns logits [batch, num_heads, query, key] into weights; `mask` broadcasts to them. Here by softmax."""
        return masked_softmax(logits, mask)

    def plan(self, query_length: int, key_length: int, causal: bool) -> BlockPlan:
        """Returns how the engine cuts a call up."""
        pattern = self.block_pattern(query_length, key_length, causal)
        return make_plan(pattern, query_length, key_length, self.engine_block(query_length, key_length))

    def cost(
        self, query_length: int, key_length: int, num_heads: int, num_kv_heads: int, head_dim: int, causal: bool
    ) -> Cost:
        """See `AttentionVariant`."""
        return Cost(
            executed_flops=self.plan(query_length, key_length, causal).executed_flops(num_heads, head_dim),
            ideal_flops=4 * num_heads * head_dim * _permitted_pairs(self, query_length, key_length, causal),
            cache_bytes=2 * 4 * self.cache_size(key_length) * num_kv_heads * head_dim,
        )

    def init_cache(self, batch: int, max_length: int, num_kv_heads: int, head_dim: int, dtype: Any) -> Any:
        """See `AttentionVariant`."""
        empty = jnp.zeros((batch, self.cache_size(max_length), num_kv_heads, head_dim), dtype)
        return KeyValueCache(empty, empty, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        plan = self.plan(query.shape[1], key.shape[1], causal)
        return block_softmax(plan, query, key, value, key_mask=key_mask, bias=bias)[0]

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        mask = jnp.asarray(self.pattern(query.shape[1], key.shape[1], causal))[None, None]
        if key_mask is not None:
            mask = mask & key_mask[:, None, None, :]
        return self.weigh(dense_logits(query, key, bias), mask, controls)

    def _extend(
        self, cache: Any, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, Any]:
        size, new = cache.key.shape[1], key.shape[1]
        keys = jnp.concatenate([cache.key, key.astype(cache.key.dtype)], axis=1)
        values = jnp.concatenate([cache.value, value.astype(cache.value.dtype)], axis=1)
        key_positions = cache.length - size + jnp.arange(size + new)
        # Causal rows do not depend on the length, so one row count serves for every cache.
        pattern = self.block_pattern(size + new, size + new, True)
        where = cache.length + jnp.arange(new), key_positions, pattern.visible
        out = self._attend_cached(query, keys, values, where, bias=bias, controls=controls)
        return out, KeyValueCache(keys[:, new:], values[:, new:], cache.length + new, cache.max_length)

    def _attend_cached(
        self, query: Array, key: Array, value: Array, where: tuple[Any, Any, Any], *, bias: Any, controls: Any
    ) -> Array:
        """`where` are the positions of queries and of keys, and the rule that says which are visible."""
        weigh = functools.partial(self.weigh, controls=controls)
        return attend_cached(query, key, value, *where, bias=bias, weigh=weigh)


def attend_cached(
    query: Float[Array, "batch new num_heads head_dim"],
    key: Float[Array, "batch slots num_kv_heads head_dim"],
    value: Float[Array, "batch slots num_kv_heads value_dim"],
    query_positions: Int[Array, " new"],
    key_positions: Int[Array, " slots"],
    visible: Callable[[Any, Any], Any],
    bias: Any = None,
    weigh: Callable[[Array, Array], Array] = masked_softmax,
) -> Float[Array, "batch new num_heads value_dim"]:
    """Attention of new queries over cached keys, strip by strip; slots at negative positions are empty.

    `weigh` turns (logits [batch, num_heads, query, key], mask) into weights.
    """
    batch, new, num_heads, head_dim = query.shape
    num_kv_heads = key.shape[2]
    dtype = accumulation_dtype(query.dtype)
    grouped = query.astype(dtype).reshape(batch, new, num_kv_heads, num_heads // num_kv_heads, head_dim)

    def strip(queries: Array, positions: Array) -> Array:
        logits = jnp.einsum("bqhgd,bkhd->bhgqk", queries, key.astype(dtype)) / math.sqrt(head_dim)
        if bias is not None:
            block = bias.block(positions, key_positions).astype(dtype)
            logits = logits + block.reshape(-1, *logits.shape[1:])
        mask = visible(positions[:, None], key_positions[None, :]) & (key_positions >= 0)[None, :]
        weights = weigh(logits.reshape(batch, num_heads, *mask.shape), mask[None, None]).reshape(logits.shape)
        return jnp.einsum("bhgqk,bkhd->bqhgd", weights, value.astype(dtype))

    if new <= _DECODED_AT_ONCE:
        out = strip(grouped, query_positions)
    else:
        strips = -(-new // _DECODED_AT_ONCE)
        padding = strips * _DECODED_AT_ONCE - new
        grouped = jnp.pad(grouped, ((0, 0), (0, padding), (0, 0), (0, 0), (0, 0)))
        queries = jnp.moveaxis(grouped.reshape(batch, strips, _DECODED_AT_ONCE, *grouped.shape[2:]), 1, 0)
        positions = jnp.pad(query_positions, (0, padding)).reshape(strips, _DECODED_AT_ONCE)
        out = jnp.moveaxis(lax.map(lambda item: strip(*item), (queries, positions)), 0, 1)
        out = out.reshape(batch, -1, *out.shape[3:])[:, :new]
    return out.reshape(batch, new, num_heads, -1)


@functools.lru_cache(maxsize=1024)
def _permitted_pairs(variant: PatternAttention, query_length: int, key_length: int, causal: bool) -> int:
    return variant.block_pattern(query_length, key_length, causal).count(query_length, key_length)
