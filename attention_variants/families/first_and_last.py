"""Decoding in bounded memory: the first tokens, and a rolling buffer of the last ones."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from attention_variants.engines.cached_softmax import Reach, attend_cached
from attention_variants.families.key_value_caches import empty_pair
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import HeadSizes


class FirstAndLastCache(NamedTuple):
    """The first keys and values and the last ones; constant in length."""

    first_key: Float[Array, "batch first num_kv_heads head_dim"]  # slot s holds position s
    first_value: Float[Array, "batch first num_kv_heads value_dim"]
    last_key: Float[Array, "batch last num_kv_heads head_dim"]  # slot s holds position length - last + s
    last_value: Float[Array, "batch last num_kv_heads value_dim"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstAndLastVariant(StaticPatternVariant):
    """Softmax attention over a static pattern that causally shows the first `num_first` and last `num_last` keys."""

    @property
    @abc.abstractmethod
    def num_first(self) -> int:
        """Number of first keys that every later query sees."""

    @property
    @abc.abstractmethod
    def num_last(self) -> int:
        """Number of keys that a query sees at its own position and before."""

    def cache_size(self, max_length: int) -> int:
        """Returns how many tokens the cache holds."""
        return min(self.num_first + self.num_last, max_length)

    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any:
        """Returns an empty `FirstAndLastCache`; see `AttentionVariant`."""
        num_first = min(self.num_first, max_length)
        num_last = self.cache_size(max_length) - num_first
        first = empty_pair(batch, num_first, heads, dtype)
        last = empty_pair(batch, num_last, heads, dtype)
        return FirstAndLastCache(*first, *last, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))

    def _extend(
        self, cache: Any, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, Any]:
        key, value = key.astype(cache.last_key.dtype), value.astype(cache.last_value.dtype)
        first, last, new = cache.first_key.shape[1], cache.last_key.shape[1], key.shape[1]
        first_key, first_value = (
            _fill(held, arriving, cache.length)
            for held, arriving in ((cache.first_key, key), (cache.first_value, value))
        )
        before, after = jnp.arange(first), cache.length - last + jnp.arange(last + new)
        positions = [
            jnp.where(before < cache.length + new, before, -1),
            jnp.where(after >= first, after, -1),  # keys among the first are not seen twice
        ]
        keys, values = (
            jnp.concatenate([held, arriving], axis=1)
            for held, arriving in ((cache.last_key, key), (cache.last_value, value))
        )
        out = attend_cached(
            query,
            jnp.concatenate([first_key, keys], axis=1),
            jnp.concatenate([first_value, values], axis=1),
            cache.length + jnp.arange(new),
            jnp.concatenate(positions),
            self.block_pattern(new, new, True).visible,  # causal rows do not depend on the lengths
            Reach(first, last),
            bias=bias,
        )
        counters = cache.length + new, cache.max_length
        return out, FirstAndLastCache(first_key, first_value, keys[:, new:], values[:, new:], *counters)


def _fill(first: Array, new: Array, length: Array) -> Array:
    """Returns the first tokens, updated with those that arrive from position `length` on."""
    arriving = jnp.arange(first.shape[1]) - length
    within = (arriving >= 0) & (arriving < new.shape[1])
    return jnp.where(within[None, :, None, None], new[:, arriving.clip(0, new.shape[1] - 1)], first)
