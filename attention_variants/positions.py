"""Position encodings: none, sinusoidal, learned, rotary, ALiBi, T5 and randomized.

An encoding acts in one of three places: at the model's input (`add`), on the queries and keys of every layer
(`rotate`), or on the logits of every layer (the additive bias of `make_bias`). Positions are absolute, an int array
[length] or [batch, length], so that decoding and packed rows need no special case.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants import specs
from attention_variants.arrays import accumulation_dtype
from attention_variants.biases.position import AlibiSlopes, PositionBias, RelativeTable
from attention_variants.checks import check_choice, check_integer, check_number

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

    def rotate_parts(self, x: Heads, positions: Positions, num_parts: int) -> Heads:
        """Rotates each part of the coordinates separately; the parts are those of `jnp.array_split`."""
        if num_parts == 1:
            return self.rotate(x, positions)
        parts = jnp.array_split(x, num_parts, axis=-1)
        return jnp.concatenate([self.rotate(part, positions) for part in parts], axis=-1)

    def make_bias(self, num_heads: int, *, rngs: nnx.Rngs) -> PositionBias | None:
        """Returns what one layer adds to its logits, with learned parts drawn from `rngs.params()`, or None."""
        return None

    def acts_in_attention(self) -> bool:
        """Returns whether the encoding needs attention to act on: whether it rotates or biases."""
        kind = type(self)
        return kind.rotate is not Position.rotate or kind.make_bias is not Position.make_bias

    def acts_at_input(self) -> bool:
        """Returns whether the encoding is added to the model's input, or draws the positions of its tokens."""
        kind = type(self)
        return kind.add is not Position.add or kind.draw is not Position.draw

    def draw(self, length: int, rng: PRNGKeyArray | None = None) -> Int[Array, " length"]:
        """Returns the positions of a sequence: 0, 1, 2 ..., unless the encoding draws them with `rng`."""
        return jnp.arange(length)


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
    """One learned vector per position, added at the input, up to the table's length.

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

        (x_i, x_(i + n/2)) -> rotated by p * base^(-2i / n),  i < n / 2,  n = fraction * head_dim made even

    Attention that uses more than this product sees absolute positions: feature maps per coordinate, decays per channel
    and hashes. Each variant declares this in `rotation_is_relative`.

    References:
      Su et al. 2021, "RoFormer", arXiv:2104.09864, equation 34; rotating a fraction of the coordinates as in Black et
      al. 2022, "GPT-NeoX-20B", arXiv:2204.06745, section 2.1. We pair coordinate i with i + n / 2 ("rotate
      half") where the paper pairs neighbours: the same up to a fixed permutation of coordinates.
    """

    base: float = 10_000.0
    fraction: float = 1.0  # share of the coordinates that is rotated, from the first on; the others carry only content

    def __post_init__(self) -> None:
        check_number("base", self.base, 1.0, 1e9)
        check_number("fraction", self.fraction, 1e-6, 1.0)

    def rotate(self, x: Heads, positions: Positions) -> Heads:
        """Rotates each pair by its angle, in float32 whatever the dtype of x."""
        dtype, head_dim = accumulation_dtype(x.dtype), x.shape[3]
        rotated = head_dim if self.fraction == 1 else max(2, 2 * round(self.fraction * head_dim / 2))
        if rotated > head_dim:
            raise ValueError(f"rotary positions need a head_dim of at least 2; got {head_dim}.")
        angles = _angles(positions, rotated, self.base, dtype)[:, :, None, :]
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        turned, plain = x[..., :rotated].astype(dtype), x[..., rotated:]
        first, second = jnp.split(turned, 2, axis=-1)
        turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return jnp.concatenate([turned.astype(x.dtype), plain], axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlibiPosition(Position):
    """ALiBi: logits lose slope_h * |i - j|; nothing is learned, and nothing limits the length.

    References:
      Press et al. 2022, "Train Short, Test Long", arXiv:2108.12409, section 3. If not causal, distances count in both
      directions.
    """

    def make_bias(self, num_heads: int, *, rngs: nnx.Rngs) -> PositionBias:
        """Returns the slopes."""
        return AlibiSlopes(num_heads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativePosition(Position):
    """T5's relative bias: a learned number per head and bucket of the distance is added to the logits.

    Distances below half the number of buckets have one bucket each; larger ones share buckets of logarithmic width up
    to `max_distance`, beyond which all share one. If not causal, half of the buckets are for keys after the query.

    References:
      Raffel et al. 2020, "Exploring the Limits of Transfer Learning", arXiv:1910.10683, section 2.1. There, one table
      serves all layers; here, every layer has its own.
    """

    num_buckets: int = 32
    max_distance: int = 128

    def __post_init__(self) -> None:
        check_integer("num_buckets", self.num_buckets, 4)
        check_integer("max_distance", self.max_distance, self.num_buckets)

    def make_bias(self, num_heads: int, *, rngs: nnx.Rngs) -> PositionBias:
        """Returns the table, [num_buckets, num_heads], initially zero."""
        return RelativeTable(num_heads, self.num_buckets, self.max_distance)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomizedPosition(Position):
    """Another encoding at random positions: a sorted sample of those below `max_length`, drawn anew for every batch.

    A model trained this way has met every position below `max_length`, however short its sequences. Where nothing is
    drawn, as in decoding, positions are 0, 1, 2 ...

    References:
      Ruoss et al. 2023, "Randomized Positional Encodings Boost Length Generalization", arXiv:2305.16843, section 3. As
      in the paper, one draw serves the whole batch, and evaluation draws too. Ours serves all layers; theirs draws anew
      in every layer where the encoding acts in attention. With ALiBi and T5 theirs draws distances, the same for every
      query; ours are those between drawn positions, so that tokens equally far apart may differ.
    """

    encoding: str = "rope"  # spec of the encoding without its fields, such as "sinusoidal"
    max_length: int = 2048

    def __post_init__(self) -> None:
        inner = [name for name in POSITIONS if name not in ("none", "randomized")]
        check_choice("encoding", self.encoding, inner)
        check_integer("max_length", self.max_length, 1)

    def make_table(self, model_dim: int, max_length: int, *, rngs: nnx.Rngs) -> nnx.Module | None:
        """Returns the table of the encoding for all positions that may be drawn."""
        if max_length > self.max_length:
            raise ValueError(
                f"randomized positions need `max_length` >= {max_length}, the length; got {self.max_length}."
            )
        return self._inner().make_table(model_dim, self.max_length, rngs=rngs)

    @override
    def add(self, x: Stream, positions: Positions, table: nnx.Module | None = None) -> Stream:
        return self._inner().add(x, positions, table)

    @override
    def rotate(self, x: Heads, positions: Positions) -> Heads:
        return self._inner().rotate(x, positions)

    @override
    def make_bias(self, num_heads: int, *, rngs: nnx.Rngs) -> PositionBias | None:
        return self._inner().make_bias(num_heads, rngs=rngs)

    def draw(self, length: int, rng: PRNGKeyArray | None = None) -> Int[Array, " length"]:
        """Returns `length` distinct positions in ascending order."""
        if length > self.max_length:
            raise ValueError(f"randomized positions need `max_length` >= {length}, the length; got {self.max_length}.")
        if rng is None:
            return jnp.arange(length)
        return jnp.sort(jax.random.choice(rng, self.max_length, (length,), replace=False))

    @override
    def acts_in_attention(self) -> bool:
        return self._inner().acts_in_attention()

    def _inner(self) -> Position:
        return POSITIONS[self.encoding]()


POSITIONS: dict[str, type[Position]] = {
    "none": NoPosition,
    "sinusoidal": SinusoidalPosition,
    "learned": LearnedPosition,
    "rope": RotaryPosition,
    "alibi": AlibiPosition,
    "t5": RelativePosition,
    "randomized": RandomizedPosition,
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
