"""Linear attention: the softmax replaced by a product of feature maps."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from attention_variants.checks import check_choice, check_integer
from attention_variants.engines import linear_recurrence as engine
from attention_variants.interface import AttentionVariant, Cost, accumulation_dtype, repeat_heads

# Every feature has a smallest value: it keeps the normaliser away from 0 / 0 where all of them underflow.
FEATURE_MAPS: dict[str, Callable[[Array], Array]] = {
    # elu(x) + 1 cancels to exactly 0 for x below -17 in float32; exp(x) does not.
    "elu": lambda x: jnp.where(x >= 0, x + 1, jnp.exp(jnp.minimum(x, 0))) + 1e-6,
    "relu": lambda x: jax.nn.relu(x) + 1e-3,
    "softplus": lambda x: jax.nn.softplus(x) + 1e-6,
}


class LinearCache(NamedTuple):
    """The running sums; constant in length."""

    memory: Float[Array, "batch num_kv_heads head_dim head_dim"]  # sum of feature(key) value^T
    normaliser: Float[Array, "batch num_kv_heads head_dim"]  # sum of feature(key)
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearAttention(AttentionVariant):
    """Normalised linear attention.

    ::

        output_i = sum_j f(query_i) . f(key_j) value_j / sum_j f(query_i) . f(key_j),   j <= i where causal
        f(x) = elu(x) + 1 + 1e-6

    Causal calls run in chunks; decoding is the recurrence on a state of head_dim x head_dim per head. No scale is
    applied to the query.

    Attributes:
      feature_map: "elu" (the paper's elu(x) + 1), "relu" (plus 1e-3, as in Performer's kernel) or "softplus".
      chunk_size: tokens per chunk: speed only, the function is the same.

    References:
      Katharopoulos et al. 2020, "Transformers are RNNs", arXiv:2006.16236, equations 5, 7 and 9 to 12. The 1e-6 is
      ours: it keeps rows normalised where all features underflow.
    """

    feature_map: str = "elu"
    chunk_size: int = 128

    family = "linear recurrence"
    cost_order = "length * (chunk_size + head_dim) * head_dim"
    state_order = "head_dim^2"
    paper = "Katharopoulos et al. 2020, arXiv:2006.16236"
    subquadratic = True

    def __post_init__(self) -> None:
        check_choice("feature_map", self.feature_map, FEATURE_MAPS)
        check_integer("chunk_size", self.chunk_size, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True, or the lower triangle where causal."""
        everything = np.ones((query_length, key_length), bool)
        return np.tril(everything) if causal else everything

    def cost(
        self, query_length: int, key_length: int, num_heads: int, num_kv_heads: int, head_dim: int, causal: bool
    ) -> Cost:
        """See `AttentionVariant`. Ideal is the cheaper of the permitted pairs and the token-by-token recurrence."""
        summed = engine.summed_flops(query_length, key_length, num_heads, num_kv_heads, head_dim, normalise=True)
        if causal:
            executed = engine.chunked_flops(query_length, num_heads, num_kv_heads, head_dim, self.chunk_size, True)
            pairs = query_length * (query_length + 1) // 2
        else:
            executed, pairs = summed, query_length * key_length
        ideal = min(summed, 4 * num_heads * head_dim * pairs)
        return Cost(executed, ideal, cache_bytes=4 * num_kv_heads * head_dim * (head_dim + 1))

    def init_cache(self, batch: int, max_length: int, num_kv_heads: int, head_dim: int, dtype: Any) -> LinearCache:
        """See `AttentionVariant`; the state is float32 whatever `dtype`."""
        state = engine.empty_state(batch, num_kv_heads, head_dim, head_dim, dtype)
        return LinearCache(*state, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))

    def _features(self, x: Array) -> Array:
        return FEATURE_MAPS[self.feature_map](x.astype(accumulation_dtype(x.dtype)))

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        query, key = self._features(query), self._features(key)
        if key_mask is not None:
            key = jnp.where(key_mask[:, :, None, None], key, 0.0)
        if not causal:
            return engine.linear_sum(query, key, value, normalise=True)
        return engine.linear_recurrence(query, key, value, normalise=True, chunk_size=self.chunk_size)[0]

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        query, key = self._features(query), repeat_heads(self._features(key), query.shape[2])
        products = jnp.einsum("bqhd,bkhd->bhqk", query, key, precision="highest")
        mask = jnp.asarray(self.pattern(query.shape[1], key.shape[1], causal))[None, None]
        if key_mask is not None:
            mask = mask & key_mask[:, None, None, :]
        products = jnp.where(mask, products, 0.0)
        total = products.sum(-1, keepdims=True)
        return products / jnp.where(total == 0, 1.0, total)

    def _extend(
        self, cache: LinearCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, LinearCache]:
        out, state = engine.linear_recurrence(
            self._features(query),
            self._features(key),
            value,
            normalise=True,
            chunk_size=self.chunk_size,
            state=engine.LinearState(cache.memory, cache.normaliser),
            return_state=True,
        )
        assert state is not None
        return out, LinearCache(*state, cache.length + key.shape[1], cache.max_length)
