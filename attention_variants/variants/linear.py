"""Linear attention: the softmax replaced by a product of feature maps."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from typing_extensions import override

from attention_variants.checks import check_choice
from attention_variants.families.recurrent import Recurrence, RecurrentVariant, dense_products

# Every feature has a smallest value, which keeps the normaliser away from 0 / 0 where all features underflow.
FEATURE_MAPS: dict[str, Callable[[Array], Array]] = {
    # elu(x) + 1 cancels to exactly 0 for x below -17 in float32; exp(x) does not.
    "elu": lambda x: jnp.where(x >= 0, x + 1, jnp.exp(jnp.minimum(x, 0))) + 1e-6,
    "relu": lambda x: jax.nn.relu(x) + 1e-3,
    "softplus": lambda x: jax.nn.softplus(x) + 1e-6,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearAttention(RecurrentVariant):
    """Normalised linear attention.

    ::

        output_i = sum_j f(query_i) . f(key_j) value_j / sum_j f(query_i) . f(key_j),   j <= i where causal
        f(x) = elu(x) + 1 + 1e-6

    Causal calls run in chunks; decoding is the recurrence on a state of head_dim x value_dim per head. No scale is
    applied to the query.

    Attributes:
      feature_map: "elu" (the paper's elu(x) + 1), "relu" (plus 1e-3, as in Performer's kernel) or "softplus".
      chunk_size: tokens per chunk; affects speed only, not the function.

    References:
      Katharopoulos et al. 2020, "Transformers are RNNs", arXiv:2006.16236, equations 5, 7 and 9 to 12. The 1e-6 is
      ours: it keeps rows normalised where all features underflow.
    """

    feature_map: str = "elu"

    cost_order = "length * (chunk_size + head_dim) * head_dim"
    state_order = "head_dim * value_dim"
    paper = "Katharopoulos et al. 2020, arXiv:2006.16236"
    examples = {128: "chunk_size=32"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("feature_map", self.feature_map, FEATURE_MAPS)

    @override
    def recurrence(self, query: Array, key: Array, controls: Any, positions: Array) -> Recurrence:
        feature_map = FEATURE_MAPS[self.feature_map]
        return Recurrence(feature_map(query), feature_map(key))

    @override
    def kernel(self, query: Array, key: Array, controls: Any) -> Array:
        feature_map = FEATURE_MAPS[self.feature_map]
        return dense_products(feature_map(query), feature_map(key))
