"""Top-k attention: every query attends to the keys that it matches best."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int
from typing_extensions import override

from attention_variants import patterns
from attention_variants.arrays import dense_logits, masked_softmax
from attention_variants.checks import check_integer
from attention_variants.engines.gathered_softmax import gathered_pairs, gathered_softmax
from attention_variants.engines.top_k import best_of_rows, of_size_one, scoring_flops, top_candidates
from attention_variants.families.key_value_caches import PositionedCache, append, empty_cache
from attention_variants.interface import AttentionVariant, Cost, HeadSizes
from attention_variants.patterns.matrices import every_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopKAttention(AttentionVariant):
    """Softmax attention over the `num_keys` keys whose product with the query is largest.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over the num_keys largest query_i . key_j,   j <= i where causal

    Each query and head chooses exactly; ties go to the earlier key. Every pair is scored, so time grows with length^2;
    queries are scored one strip at a time, so memory does not. Gradients reach the chosen keys only; the choice has
    none. `num_keys >= length` is full attention.

    Attributes:
      num_keys: keys that a query attends to.

    References:
      Gupta et al. 2021, "Memory-efficient Transformers via Top-k Attention", arXiv:2106.06899, section 2; Zhao et al.
      2019, "Explicit Sparse Transformer", arXiv:1912.11637, section 3.
    """

    num_keys: int = 32

    family = "softmax, chosen by content"
    cost_order = "length^2"
    state_order = "length * (head_dim + value_dim)"
    paper = "Gupta et al. 2021, arXiv:2106.06899"
    size_field = "num_keys"
    examples = {16: "num_keys=4", 128: "num_keys=8"}

    def __post_init__(self) -> None:
        check_integer("num_keys", self.num_keys, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True, or the lower triangle where causal: any of these keys may be chosen."""
        return every_key(query_length, key_length, causal)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Ideal scores the permitted pairs and reads the values of the chosen ones."""
        candidates = np.arange(1, query_length + 1) if causal else np.full(query_length, key_length)
        pairs, chosen = int(candidates.sum()), int(np.minimum(candidates, self.num_keys).sum())
        scored = scoring_flops(query_length, key_length, heads.num_heads, heads.head_dim)
        return Cost(
            executed_flops=scored + heads.pair_flops * gathered_pairs(query_length, min(self.num_keys, key_length)),
            ideal_flops=2 * heads.num_heads * (pairs * heads.head_dim + chosen * heads.value_dim),
            cache_bytes=heads.token_bytes * key_length,
        )

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> PositionedCache:
        return empty_cache(batch, max_length, heads, dtype)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        return self.read(query, key, value, causal, key_mask)

    def read(
        self, query: Array, key: Array, value: Array, causal: bool, key_mask: Any, first: int | Int[Array, ""] = 0
    ) -> Array:
        """Returns the output of queries from position `first` on, among all keys."""
        visible = patterns.causal_or_full(causal).visible
        chosen = top_candidates(query, key, self.num_keys, visible, candidate_mask=key_mask, first_position=first)
        return gathered_softmax(query, key, value, chosen)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        logits = dense_logits(query, key)
        permitted = jnp.asarray(self.pattern(query.shape[1], key.shape[1], causal))[None, None]
        if key_mask is not None:
            permitted = permitted & key_mask[:, None, None, :]
        scores = lax.stop_gradient(dense_logits(of_size_one(query), key))
        return masked_softmax(logits, best_of_rows(scores, permitted, self.num_keys))

    def _extend(
        self, cache: PositionedCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, PositionedCache]:
        first, cache = cache.length, append(cache, key, value)
        return self.read(query, cache.key, cache.value, True, None, first), cache
