"""cosFormer: linear attention that weights nearby keys more, by the cosine of their distance."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from typing_extensions import override

from attention_variants.checks import check_integer
from attention_variants.families.recurrent import Recurrence, RecurrentVariant, dense_products
from attention_variants.interface import HeadSizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosformerAttention(RecurrentVariant):
    """Normalised linear attention with ReLU features and a cosine of the distance.

    ::

        output_i = sum_j w_ij value_j / sum_j w_ij,   w_ij = f(query_i) . f(key_j) cos(pi/2 (i - j) / horizon)
        f(x) = relu(x) + 1e-3

    By cos(a - b) = cos(a) cos(b) + sin(a) sin(b), this is a product of 2 head_dim features, none of them negative.

    At lengths far below the horizon the cosine is nearly 1 and this is almost `linear:feature_map=relu`: a key a
    quarter of the horizon back still has 0.92 of its weight. Choose a horizon just above the longest sequence.

    Attributes:
      horizon: the distance at which weights reach 0; no sequence may be longer, and no cache holds more tokens.
      chunk_size: tokens per chunk; affects speed only, not the function.

    References:
      Qin et al. 2022, "cosFormer: Rethinking Softmax in Attention", arXiv:2202.08791, section 3. The paper's M is the
      length of the input; our horizon is fixed, so that a row does not depend on what follows. The 1e-3 is ours: it
      keeps rows normalised where relu leaves nothing. Cross-attention, for which the paper uses the positions of both
      sequences, is left out.
    """

    horizon: int = 512

    supports_cross = False
    cost_order = "length * (chunk_size + head_dim) * head_dim"
    state_order = "2 * head_dim * value_dim"
    paper = "Qin et al. 2022, arXiv:2202.08791"
    examples = {16: "horizon=16", 128: "horizon=128"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("horizon", self.horizon, 1)

    def key_dim(self, head_dim: int) -> int:
        """Returns the number of features: a cosine and a sine of each coordinate."""
        return 2 * head_dim

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any:
        """The cache holds at most `horizon` tokens."""
        return super()._init_cache(batch, min(max_length, self.horizon), heads, dtype)

    @override
    def recurrence(self, query: Array, key: Array, controls: Any, positions: Array) -> Recurrence:
        angles = (np.pi / 2 / self.horizon) * positions.astype(query.dtype)[None, :, None, None]

        def features(x: Array) -> Array:
            return jnp.concatenate([_rectified(x) * jnp.cos(angles), _rectified(x) * jnp.sin(angles)], axis=-1)

        return Recurrence(features(query), features(key))

    @override
    def kernel(self, query: Array, key: Array, controls: Any) -> Array:
        positions = jnp.arange(key.shape[1])
        distance = (positions[:, None] - positions[None, :]).astype(query.dtype)
        cosine = jnp.cos(np.pi / 2 * distance / self.horizon)
        return dense_products(_rectified(query), _rectified(key)) * cosine[None, None]

    def _check(self, query: Any, key: Any, value: Any, **options: Any) -> None:
        super()._check(query, key, value, **options)
        if key.shape[1] > self.horizon:
            raise ValueError(f"CosformerAttention sees at most `horizon` {self.horizon} tokens; got {key.shape[1]}.")


def _rectified(x: Array) -> Array:
    return jax.nn.relu(x) + 1e-3
