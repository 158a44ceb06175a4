"""Taylor linear attention (Based): the exponential truncated after its square."""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.checks import check_integer
from attention_variants.families.recurrent import Recurrence, RecurrentVariant, dense_products
from attention_variants.interface import HeadSizes


class TaylorControls(NamedTuple):
    """The down-projections, the same at every token."""

    query_map: Float[Array, "1 1 num_heads head_dim feature_dim"]
    key_map: Float[Array, "1 1 num_kv_heads head_dim feature_dim"]


class DownProjections(nnx.Module):
    """x -> the down-projections of queries and keys, the same for every x."""

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int, feature_dim: int, *, rngs: nnx.Rngs):
        initialise = nnx.initializers.lecun_normal(batch_axis=0)
        self.query_map = nnx.Param(initialise(rngs.params(), (num_heads, head_dim, feature_dim)))
        self.key_map = nnx.Param(initialise(rngs.params(), (num_kv_heads, head_dim, feature_dim)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> TaylorControls:
        """Returns both."""
        return TaylorControls(self.query_map[...][None, None], self.key_map[...][None, None])


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaylorAttention(RecurrentVariant):
    """Normalised linear attention whose kernel is the second-order Taylor polynomial of exp.

    ::

        output_i = sum_j t(q_i . k_j / sqrt(feature_dim)) value_j / sum_j t(...),   t(x) = 1 + x + x^2 / 2
        q, k = query W_q, key W_k, one learned projection per head

    t is at least 1/2, so rows can be normalised as they are. Its feature map holds each product of two coordinates
    once: 1 + f + f (f + 1) / 2 features for feature_dim f.

    Range: computed through features, t has the rounding error of its largest terms, up to
    1e-7 (|q| |k|)^2 / feature_dim, which must stay far below 1/2. At |q| |k| / sqrt(feature_dim) = 300, with q and k
    orthogonal, outputs are off by about 1e-3.

    Attributes:
      feature_dim: width f of q and k; 0: head_dim, with queries and keys as they are, without projections.
      chunk_size: tokens per chunk; affects speed only, not the function.

    References:
      Arora et al. 2024, "Simple linear attention language models balance the recall-throughput tradeoff",
      arXiv:2402.18668, section 4. The paper projects x directly to feature_dim; here the projections follow those to
      head_dim that all variants share, so that only these two are extra. The feature map of the paper's code holds
      products twice, f^2 of them.
    """

    feature_dim: int = 16

    controls_type = TaylorControls
    cost_order = "length * (chunk_size + head_dim) * feature_dim^2"
    state_order = "feature_dim^2 * value_dim"
    paper = "Arora et al. 2024, arXiv:2402.18668"
    size_field = "feature_dim"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("feature_dim", self.feature_dim, 0, 2**10)

    @property
    def has_controls(self) -> bool:
        """Whether there are projections."""
        return self.feature_dim > 0

    @property
    @override
    def rotation_is_relative(self) -> bool:
        return self.feature_dim == 0  # otherwise the learned projections depend on a key's direction

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module | None:
        """Returns x -> TaylorControls."""
        if not self.has_controls:
            return None
        sizes = heads.num_heads, heads.num_kv_heads, heads.head_dim
        return DownProjections(*sizes, self.feature_dim, rngs=rngs)

    def key_dim(self, head_dim: int) -> int:
        """Returns the number of monomials of degree 0 to 2."""
        width = self.feature_dim or head_dim
        return 1 + width + width * (width + 1) // 2

    def feature_flops(self, query_length: int, key_length: int, heads: HeadSizes) -> int:
        """Returns the FLOPs of the projections."""
        tokens = query_length * heads.num_heads + key_length * heads.num_kv_heads
        return 2 * heads.head_dim * self.feature_dim * tokens

    @override
    def recurrence(self, query: Array, key: Array, controls: TaylorControls | None, positions: Array) -> Recurrence:
        query, key = _projected(query, key, controls)
        scale = query.shape[3] ** -0.25
        return Recurrence(_monomials(query * scale), _monomials(key * scale))

    @override
    def kernel(self, query: Array, key: Array, controls: TaylorControls | None) -> Array:
        query, key = _projected(query, key, controls)
        x = dense_products(query, key) / math.sqrt(query.shape[3])
        return 1 + x + x**2 / 2


def _projected(query: Array, key: Array, controls: TaylorControls | None) -> tuple[Array, Array]:
    if controls is None:
        return query, key

    def project(x: Array, maps: Array) -> Array:
        return jnp.einsum("blhd,hdf->blhf", x, maps[0, 0])

    return project(query, controls.query_map), project(key, controls.key_map)


def _monomials(x: Float[Array, "*rows width"]) -> Float[Array, "*rows key_dim"]:
    """Returns features m(x) with m(x) . m(y) = 1 + x . y + (x . y)^2 / 2."""
    first, second = np.triu_indices(x.shape[-1])
    weights = jnp.asarray(np.where(first == second, np.sqrt(0.5), 1.0), x.dtype)
    squares = x[..., first] * x[..., second] * weights.reshape(*(1,) * (x.ndim - 1), -1)
    return jnp.concatenate([jnp.ones_like(x[..., :1]), x, squares], axis=-1)
