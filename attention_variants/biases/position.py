"""What positions may add to attention logits: ALiBi's slopes and T5's table, evaluated block by block."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants.interface import Bias
from attention_variants.parameters import Undecayed


class PositionBias(nnx.Module):
    """One layer's bias: called with the direction and the positions of the tokens, it gives what a variant takes."""

    def __call__(self, causal: bool, positions: Int[Array, " length"] | None = None) -> Bias:
        """Returns the bias; token i is at positions[i] or, without `positions`, at i."""
        raise NotImplementedError


class AlibiSlopes(PositionBias):
    """-slope_h * |i - j|; no parameters."""

    def __init__(self, num_heads: int):
        self.num_heads = num_heads

    @override
    def __call__(self, causal: bool, positions: Int[Array, " length"] | None = None) -> Bias:
        return AlibiBias(jnp.asarray(alibi_slopes(self.num_heads), jnp.float32), _as_leaf(positions))


class RelativeTable(PositionBias):
    """table[bucket(i - j), h]; learned."""

    def __init__(self, num_heads: int, num_buckets: int, max_distance: int):
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.table = Undecayed(jnp.zeros((num_buckets, num_heads)))

    @override
    def __call__(self, causal: bool, positions: Int[Array, " length"] | None = None) -> Bias:
        return RelativeBias(self.table[...], _as_leaf(positions), self.max_distance, causal)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AlibiBias:
    """What ALiBi adds to the logits of one call."""

    # Any, because JAX also builds pytrees of placeholders; floating, because every leaf of a bias has a gradient.
    slopes: Any  # [num_heads]
    positions: Any  # [length], or None

    def block(self, query_positions: Int[Array, " query"], key_positions: Int[Array, " key"]) -> Array:
        """Returns -slope * distance, [num_heads, query, key]."""
        distance = jnp.abs(_distance(self.positions, query_positions, key_positions))
        return -self.slopes[:, None, None] * distance[None].astype(self.slopes.dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelativeBias:
    """What T5's table adds to the logits of one call."""

    table: Any  # [num_buckets, num_heads]
    positions: Any  # [length], or None
    max_distance: int = dataclasses.field(metadata={"static": True})
    causal: bool = dataclasses.field(metadata={"static": True})

    def block(self, query_positions: Int[Array, " query"], key_positions: Int[Array, " key"]) -> Array:
        """Returns the learned biases, [num_heads, query, key]."""
        distance = _distance(self.positions, query_positions, key_positions)
        num_buckets = self.table.shape[0] if self.causal else self.table.shape[0] // 2
        buckets = jnp.asarray(relative_buckets(num_buckets, self.max_distance))
        near = buckets[jnp.minimum(jnp.abs(distance), self.max_distance)]
        # If causal, keys after the query are not seen; otherwise they use the second half of the table.
        return jnp.moveaxis(self.table[near if self.causal else near + num_buckets * (distance < 0)], -1, 0)


def alibi_slopes(num_heads: int) -> Float[np.ndarray, " num_heads"]:
    """Returns the paper's slopes: 2^(-8 h / n) for h = 1..n if n is a power of two.

    Otherwise those of the power of two below, then every other one of the power of two above.
    """
    below = 2 ** (num_heads.bit_length() - 1)
    slopes = 2.0 ** (-8 * np.arange(1, below + 1) / below)
    more = 2.0 ** (-8 * np.arange(1, 2 * below + 1, 2) / (2 * below))
    return np.concatenate([slopes, more])[:num_heads]


def relative_buckets(num_buckets: int, max_distance: int) -> Int[np.ndarray, " distances"]:
    """Returns the bucket of every distance from 0 to `max_distance`: half of them exact, the others logarithmic."""
    exact = num_buckets // 2
    steps = np.arange(1, num_buckets - exact)
    # Where each logarithmic bucket begins; the tolerance keeps whole numbers whole.
    borders = np.ceil(exact * (max_distance / exact) ** (steps / (num_buckets - exact)) - 1e-9)
    distances = np.arange(max_distance + 1)
    return np.where(distances < exact, distances, exact + np.searchsorted(borders, distances, side="right"))


def _as_leaf(positions: Int[Array, " length"] | None) -> Float[Array, " length"] | None:
    return None if positions is None else positions.astype(jnp.float32)  # exact below 2^24


def _distance(positions: Array | None, query_positions: Array, key_positions: Array) -> Array:
    """Returns query - key [query, key], computed from the tokens' `positions` if these are given."""
    if positions is not None:
        places = lax.stop_gradient(positions).astype(jnp.int32)
        query_positions, key_positions = places[query_positions], places[key_positions]
    return query_positions[:, None] - key_positions[None, :]
