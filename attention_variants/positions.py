"""Where a token stands: none, sinusoidal, learned and rotary position encodings.

An encoding acts in one of two places: `add` at the model's input, or `rotate` on the queries and keys of every layer.
Positions are absolute, an int array [length] or [batch, length], so that decoding and packed rows need no special case.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from attention_variants import specs
from attention_variants.checks import check_number
from attention_variants.interface import accumulation_dtype

Positions = Int[Array, " length"] | Int[Array, "batch length"]
Stream = Float[Array, "batch length model_dim"]
Heads = Float[Array, "batch length num_heads head_dim"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Position:
    """A position encoding; a frozen set of hyperparameters that holds no arrays."""

    def make_table(self, model_dim: int, max_length: int, *, rngs: nnx.Rngs) -> nnx.Module | None:
        """Returns the learned part, drawn from `rngs.params()`, or None where there is none."""
        return None

    def add(self, x: Stream, positions: Positions, table: nnx.Module | None = None) -> Stream:
        """Adds the encoding to the model's input x [batch, length, model_dim]; `table` is from `make_table`."""
        return x

    def rotate(self, x: Heads, positions: Positions) -> Heads:
        """Applies the encoding to queries or keys [batch, length, num_heads, head_dim]."""
        return x


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPosition(Position):
    """No encoding: order is known only through masks and recurrences."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SinusoidalPosition(Position):
    """Fixed sines and cosines, added at the input.

        x_p[2i] += sin(p * base^(-2i / model_dim)),  x_p[2i + 1] += cos(p * base^(-2i / model_dim))

    References:
      Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762, section 3.5.
    """

    base: float = 10_000.0

    def __post_init__(self) -> None:
        check_number("base", self.base, 1.0, 1e9)

    def add(self, x: Stream, positions: Positions, table: nnx.Module | None = None) -> Stream:
        """Adds the sines and cosines of `positions`."""
        angles = _angles(positions, x.shape[2], self.base, accumulation_dtype(x.dtype))
        encoding = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        return x + encoding.reshape(*angles.shape[:2], x.shape[2]).astype(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedPosition(Position):
    """One learned vector per position, added at the input; there is none past the table's length.

    References:
      Gehring et al. 2017, "Convolutional Sequence to Sequence Learning", arXiv:1705.03122, section 3.1.
    """

    def make_table(self, model_dim: int, max_length: int, *, rngs: nnx.Rngs) -> nnx.Embed:
        """Returns `max_length` vectors of size `model_dim`."""
        return nnx.Embed(max_length, model_dim, embedding_init=nnx.initializers.normal(0.02), rngs=rngs)

    def add(self, x: Stream, positions: Positions, table: nnx.Module | None = None) -> Stream:
        """Adds table[positions]; a position past the table raises, or gives NaN where it is traced."""
        if not isinstance(table, nnx.Embed):
            raise ValueError(f"learned positions need the `table` from make_table; got {type(table).__name__}.")
        size = table.num_embeddings
        known = not isinstance(positions, Tracer)
        if x.shape[1] > size or (known and (np.max(positions) >= size or np.min(positions) < 0)):
            last = int(np.max(positions)) if known else x.shape[1] - 1
            raise ValueError(f"learned positions were made for {size} tokens, 0 to {size - 1}; got position {last}.")
        inside = (positions >= 0) & (positions < size)
        vectors = jnp.where(inside[..., None], table(jnp.where(inside, positions, 0)), jnp.nan)
        return x + vectors.reshape(-1, *x.shape[1:]).astype(x.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RotaryPosition(Position):
    """RoPE: rotates coordinate pairs of queries and keys, so that their product depends on the distance alone.

        (x_i, x_(i + head_dim/2)) -> rotated by p * base^(-2i / head_dim),  i < head_dim / 2

    References:
      Su et al. 2021, "RoFormer", arXiv:2104.09864, equation 34. We pair coordinate i with i + head_dim / 2 ("rotate
      half") where the paper pairs neighbours: the same up to a fixed permutation of coordinates.
    """

    base: float = 10_000.0

    def __post_init__(self) -> None:
        check_number("base", self.base, 1.0, 1e9)

    def rotate(self, x: Heads, positions: Positions) -> Heads:
        """Turns each pair by its angle, in float32 whatever the dtype of x."""
        dtype = accumulation_dtype(x.dtype)
        angles = _angles(positions, x.shape[3], self.base, dtype)[:, :, None, :]
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        first, second = jnp.split(x.astype(dtype), 2, axis=-1)
        return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


POSITIONS: dict[str, type[Position]] = {
    "none": NoPosition,
    "sinusoidal": SinusoidalPosition,
    "learned": LearnedPosition,
    "rope": RotaryPosition,
}


def make_position(spec: str) -> Position:
    """Builds a position encoding from its name or a spec string such as `rope:base=500000`.

    Raises:
      SpecError: unknown name or field, or a value of the wrong type or out of range; one line, nearest choices first.
    """
    return specs.build(spec, POSITIONS, "position encoding")


def _angles(positions: Positions, dim: int, base: float, dtype: jnp.dtype) -> Array:
    """Returns positions * frequencies, [1 or batch, length, dim / 2]."""
    if dim % 2:
        raise ValueError(f"rotary and sinusoidal positions need an even dimension; got {dim}.")
    frequencies = base ** (-np.arange(0, dim, 2) / dim)
    positions = jnp.atleast_2d(jnp.asarray(positions))
    return positions[:, :, None].astype(dtype) * jnp.asarray(frequencies, dtype)[None, None, :]
