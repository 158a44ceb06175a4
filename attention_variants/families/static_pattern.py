"""Softmax attention over a pattern that is fixed before any content is seen: what such variants share.

A variant states the pattern twice: as `pattern`, spelled out from the paper's definition, and as `block_pattern`, in
pieces that let the block engine skip blocks. The laws check one against the other.
"""

import abc
import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array
from typing_extensions import override

from attention_variants.arrays import KeyMask, dense_logits, masked_softmax
from attention_variants.engines.block_softmax import BlockPlan, block_softmax, make_plan
from attention_variants.engines.cached_softmax import Reach, attend_cached
from attention_variants.families.key_value_caches import RollingCache, empty_pair
from attention_variants.interface import AttentionVariant, Cost, HeadSizes
from attention_variants.patterns import Pattern


class Given(NamedTuple):
    """The other arguments of a call; see `AttentionVariant.__call__`."""

    key_mask: KeyMask | None
    bias: Any
    controls: Any  # of the keys, where those of each token differ


@dataclasses.dataclass(frozen=True, kw_only=True)
class StaticPatternVariant(AttentionVariant):
    """Softmax attention over a static pattern. A subclass defines `pattern`, `block_pattern` and perhaps the sizes."""

    supports_bias = True
    normalised = True

    @abc.abstractmethod
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> Pattern:
        """Returns the pattern in pieces that let the engine skip blocks; must not depend on the lengths if causal."""

    def engine_block(self, query_length: int, key_length: int) -> int:
        """Returns the approximate number of queries and keys per block."""
        return 512

    def cache_size(self, max_length: int) -> int:
        """Returns how many of the newest keys later queries may still see."""
        return max_length

    def weigh(self, logits: Array, mask: Array, controls: Any) -> Array:
        """Turns logits [batch, num_heads, query, key] into weights; `mask` broadcasts to them. Default: softmax."""
        return masked_softmax(logits, mask)

    def plan(self, query_length: int, key_length: int, causal: bool) -> BlockPlan:
        """Returns how the engine cuts a call into blocks."""
        pattern = self.block_pattern(query_length, key_length, causal)
        return make_plan(pattern, query_length, key_length, self.engine_block(query_length, key_length))

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        return Cost(
            executed_flops=heads.pair_flops * self.plan(query_length, key_length, causal).executed_pairs(),
            ideal_flops=heads.pair_flops * _permitted_pairs(self, query_length, key_length, causal),
            cache_bytes=heads.token_bytes * self.cache_size(key_length),
        )

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any:
        key, value = empty_pair(batch, self.cache_size(max_length), heads, dtype)
        return RollingCache(key, value, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        plan = self.plan(query.shape[1], key.shape[1], causal)
        return self.attend_from(plan, query, key, value, causal, Given(key_mask, bias, controls))

    def attend_from(self, plan: BlockPlan, query: Array, key: Array, value: Array, causal: bool, given: Given) -> Array:
        """Returns the output of queries at the positions that a plan gives, by the block engine."""
        return block_softmax(plan, query, key, value, key_mask=given.key_mask, bias=given.bias)[0]

    def plan_from(self, first_query: int, query_length: int, key_length: int, causal: bool) -> BlockPlan:
        """Returns how the engine cuts up queries from position `first_query` on, among all keys."""
        pattern = self.block_pattern(key_length, key_length, causal)
        return make_plan(pattern, query_length, key_length, self.engine_block(query_length, key_length), first_query)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        return self.weigh(dense_logits(query, key, bias), self.permitted(query, key, causal, key_mask), controls)

    def permitted(self, query: Array, key: Array, causal: bool, key_mask: Any) -> Array:
        """Returns the pattern without masked keys, bool [1 or batch, 1, query_length, key_length]; for definitions."""
        mask = jnp.asarray(self.pattern(query.shape[1], key.shape[1], causal))[None, None]
        return mask if key_mask is None else mask & key_mask[:, None, None, :]

    def _extend(
        self, cache: Any, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, Any]:
        size, new = cache.key.shape[1], key.shape[1]
        keys = jnp.concatenate([cache.key, key.astype(cache.key.dtype)], axis=1)
        values = jnp.concatenate([cache.value, value.astype(cache.value.dtype)], axis=1)
        key_positions = cache.length - size + jnp.arange(size + new)
        # Causal rows do not depend on the length, so one row count serves for every cache.
        pattern = self.block_pattern(size + new, size + new, True)
        where = cache.length + jnp.arange(new), key_positions, pattern.visible, Reach(0, size)
        out = self._attend_cached(query, keys, values, where, bias=bias, controls=controls)
        return out, RollingCache(keys[:, new:], values[:, new:], cache.length + new, cache.max_length)

    def _attend_cached(
        self, query: Array, key: Array, value: Array, where: tuple[Any, ...], *, bias: Any, controls: Any
    ) -> Array:
        """`where` holds the positions of queries and of keys, the rule for which are visible, and the reach."""
        weigh = functools.partial(self.weigh, controls=controls)
        return attend_cached(query, key, value, *where, bias=bias, weigh=weigh)


@functools.lru_cache(maxsize=1024)
def _permitted_pairs(variant: StaticPatternVariant, query_length: int, key_length: int, causal: bool) -> int:
    return variant.block_pattern(query_length, key_length, causal).count(query_length, key_length)
