"""Performer: softmax attention estimated with positive orthogonal random features."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from typing_extensions import override

from attention_variants.arrays import repeat_heads
from attention_variants.checks import check_integer
from attention_variants.families.recurrent import Recurrence, RecurrentVariant
from attention_variants.interface import HeadSizes

# Quotients of two features, which occur in gradients, and sums over many tokens stay within float32's exp(88).
_LARGEST_EXPONENT = 30.0  # of a key's feature: only a key close to a long w_r itself would exceed it
_SMALLEST_FEATURE = math.exp(-40)  # keeps rows normalised where all features of all keys underflow


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerformerAttention(RecurrentVariant):
    """FAVOR+: an unbiased estimate of the softmax kernel, in linear time; fixed by `seed`.

    ::

        output_i = sum_j f(q_i) . f(k_j) value_j / sum_j f(q_i) . f(k_j),   q, k = query, key / head_dim^(1/4)
        f(x)_r = exp(w_r . x - |x|^2 / 2),   E[f(q) . f(k)] / num_features = exp(q . k)

    The w_r have Gaussian lengths and directions, and are orthogonal in blocks of head_dim. A query's largest exponent
    is subtracted from all of its exponents, which cancels in the division. Keys need no such stabiliser, which would
    have to look ahead at later keys: f(k)_r is at most exp(|w_r|^2 / 2), and rarely near it. Keys so long that all of
    their features are below the floor get equal weights: at 10 times the length of standard normal keys, this is most
    of them.

    Attributes:
      num_features: random features; the error shrinks like num_features^(-1/2).
      seed: fixes the draws; every head and layer shares them.
      chunk_size: tokens per chunk; affects speed only, not the function.

    References:
      Choromanski et al. 2021, "Rethinking Attention with Performers", arXiv:2009.14794, lemma 1, equation 7 and
      theorem 2. We do not redraw the w_r during training. Features of keys are clipped at exp(30) and raised by
      exp(-40), whereas the paper's code subtracts the largest exponent of all keys and raises all features by 1e-6.
    """

    num_features: int = 256
    seed: int = 0

    cost_order = "length * (chunk_size + head_dim) * num_features"
    state_order = "num_features * value_dim"
    paper = "Choromanski et al. 2021, arXiv:2009.14794"
    size_field = "num_features"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("num_features", self.num_features, 1, 2**16)
        check_integer("seed", self.seed, 0, 2**32 - 1)

    def key_dim(self, head_dim: int) -> int:
        """Returns the number of random features."""
        return self.num_features

    def feature_flops(self, query_length: int, key_length: int, heads: HeadSizes) -> int:
        """Returns the FLOPs of the products w . x."""
        tokens = query_length * heads.num_heads + key_length * heads.num_kv_heads
        return 2 * self.num_features * heads.head_dim * tokens

    @override
    def recurrence(self, query: Array, key: Array, controls: Any, positions: Array) -> Recurrence:
        head_dim = query.shape[3]
        directions = jnp.asarray(_draw(self.num_features, head_dim, self.seed), query.dtype)
        query, key = query * head_dim**-0.25, key * head_dim**-0.25
        exponents = jnp.einsum("blhd,md->blhm", query, directions)
        exponents = exponents - jax.lax.stop_gradient(exponents.max(-1, keepdims=True))
        key_exponents = jnp.einsum("blhd,md->blhm", key, directions) - (key**2).sum(-1, keepdims=True) / 2
        return Recurrence(jnp.exp(exponents), _of_key(key_exponents))

    @override
    def kernel(self, query: Array, key: Array, controls: Any) -> Array:
        directions = _draw(self.num_features, query.shape[3], self.seed).astype(query.dtype)
        query, key = (array * query.shape[3] ** -0.25 for array in (query, repeat_heads(key, query.shape[2])))
        # Scaling a row changes nothing; with this scale its largest feature is 1, however long the query.
        longest = jax.lax.stop_gradient(jnp.matmul(query, directions.T, precision="highest").max(-1))

        def feature(total: Array, direction: Array) -> tuple[Array, None]:
            of_query = jnp.matmul(query, direction, precision="highest") - longest
            of_key = jnp.matmul(key, direction, precision="highest") - jnp.square(key).sum(-1) / 2
            of_query, of_key = of_query.swapaxes(1, 2), of_key.swapaxes(1, 2)
            return total + jnp.exp(of_query)[..., None] * _of_key(of_key)[:, :, None], None

        batch, query_length, num_heads, _ = query.shape
        nothing = jnp.zeros((batch, num_heads, query_length, key.shape[1]), query.dtype)
        return jax.lax.scan(feature, nothing, jnp.asarray(directions))[0]


def _of_key(exponent: Array) -> Array:
    return jnp.exp(jnp.minimum(exponent, _LARGEST_EXPONENT)) + _SMALLEST_FEATURE


@functools.lru_cache(maxsize=64)
def _draw(num_features: int, head_dim: int, seed: int) -> np.ndarray:
    """Returns w [num_features, head_dim]: rows of random orthogonal matrices, with the lengths of Gaussian vectors."""
    # RandomState, unlike Generator, promises the same stream in every NumPy version.
    random, blocks = np.random.RandomState(seed), []
    for _ in range(-(-num_features // head_dim)):
        orthogonal, upper = np.linalg.qr(random.standard_normal((head_dim, head_dim)))
        # With the signs of the diagonal moved over, every orthogonal matrix is equally likely.
        blocks.append((orthogonal * np.sign(np.diag(upper))).T)
    lengths = np.linalg.norm(random.standard_normal((num_features, head_dim)), axis=1, keepdims=True)
    return (np.concatenate(blocks)[:num_features] * lengths).astype(np.float32)
