"""Hedgehog: linear attention with learned feature maps that end in a softmax."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.families.recurrent import Recurrence, RecurrentVariant, dense_products
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.parameters import Undecayed

_SMALLEST_FEATURE = 1e-6  # keeps rows normalised where a query and all keys put their weight on different features


class HedgehogControls(NamedTuple):
    """The feature maps, the same at every token."""

    query_map: Float[Array, "1 1 num_heads head_dim head_dim"]
    key_map: Float[Array, "1 1 num_kv_heads head_dim head_dim"]


class FeatureMaps(nnx.Module):
    """x -> the feature maps of queries and keys, the same for every x; initially the identity."""

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int):
        self.query_map, self.key_map = (
            Undecayed(jnp.tile(jnp.eye(head_dim), (heads, 1, 1))) for heads in (num_heads, num_kv_heads)
        )

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> HedgehogControls:
        """Returns both."""
        return HedgehogControls(self.query_map[...][None, None], self.key_map[...][None, None])


@dataclasses.dataclass(frozen=True, kw_only=True)
class HedgehogAttention(RecurrentVariant):
    """Normalised linear attention with a learned, spiky feature map per head.

    ::

        output_i = sum_j f_q(query_i) . f_k(key_j) value_j / sum_j f_q(query_i) . f_k(key_j)
        f(x) = [softmax(W x), softmax(-W x)] + 1e-6,   W = 1 at first

    Attributes:
      chunk_size: tokens per chunk; affects speed only, not the function.

    References:
      Zhang et al. 2024, "The Hedgehog & the Porcupine", arXiv:2402.04347, section 4. A softmax over the features of a
      token replaces the plain exp of the paper's equation, which overflows, and W has no bias. The maps are trained
      along with the model, not distilled from softmax weights. The 1e-6 is ours: it keeps rows normalised.
    """

    controls_type = HedgehogControls
    cost_order = "length * (chunk_size + head_dim) * head_dim"
    state_order = "2 * head_dim * value_dim"
    paper = "Zhang et al. 2024, arXiv:2402.04347"
    paper_layer = LayerOptions(qk_norm=True)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> HedgehogControls."""
        return FeatureMaps(heads.num_heads, heads.num_kv_heads, heads.head_dim)

    def key_dim(self, head_dim: int) -> int:
        """Returns the number of features: a softmax of each sign."""
        return 2 * head_dim

    def feature_flops(self, query_length: int, key_length: int, heads: HeadSizes) -> int:
        """Returns the FLOPs of the products W x."""
        return 2 * heads.head_dim**2 * (query_length * heads.num_heads + key_length * heads.num_kv_heads)

    @override
    def recurrence(self, query: Array, key: Array, controls: HedgehogControls, positions: Array) -> Recurrence:

        def features(x: Array, maps: Array) -> Array:
            return _spikes(jnp.einsum("blhd,hed->blhe", x, maps[0, 0]))

        return Recurrence(features(query, controls.query_map), features(key, controls.key_map))

    @override
    def kernel(self, query: Array, key: Array, controls: HedgehogControls) -> Array:
        query, key = (
            _spikes((maps[0, 0] @ x[..., None])[..., 0])
            for x, maps in ((query, controls.query_map), (key, controls.key_map))
        )
        return dense_products(query, key)


def _spikes(x: Array) -> Array:
    return jnp.concatenate([jax.nn.softmax(x), jax.nn.softmax(-x)], axis=-1) + _SMALLEST_FEATURE
