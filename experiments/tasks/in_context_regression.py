"""In-context regression: learn a linear function from examples in the row, and apply it."""

import dataclasses
import math
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from experiments.tasks.base import Batch, Task, check_size

_GRID = 256  # components are multiples of 1 / 256, so that products and sums are exact, in whatever order
_TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class InContextRegression(Task):
    """Linear regression in context.

    With `num_pairs=3, dim=2`; x(...) is a position with a vector, y one with a number::

        x(0.3,-1.2) y0.71 x(-0.5,0.1) y-0.34 x(1.4,0.9) y0.50 x(0.2,-0.7)
                                                                     0.43   <- target

    Each row draws its own weights w and num_pairs + 1 vectors x, all components normal with mean 0 and variance 1
    (rounded to 1/256); y = w . x / sqrt(dim), so that its variance is 1. There are dim + 1 channels: x stands in the
    first dim of its position, y in the last one of the next, and the rest is 0. Asked for is the y of the last x,
    right within `tolerance`. It follows exactly from any dim examples, and num_pairs may not be fewer; evidence is
    every position before.

    References:
      Garg et al. 2022, "What can Transformers learn in-context?", arXiv:2208.01066, whose y is not divided by
      sqrt(dim).
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "in-context regression: apply the linear function that a row's examples follow"
    tolerance: ClassVar[float | None] = _TOLERANCE

    num_pairs: int = 16  # examples per row
    dim: int = 8  # components of x

    def __post_init__(self) -> None:
        check_size("dim", self.dim, 1)
        check_size("num_pairs", self.num_pairs, 1)
        if self.num_pairs < self.dim:
            raise ValueError(f"`num_pairs` must be at least `dim` = {self.dim}; got {self.num_pairs}.")
        if self.dim > 512:
            raise ValueError(f"`dim` must be at most 512; got {self.dim}.")

    @property
    def vocab_size(self) -> int:
        """1: targets are numbers."""
        return 1

    @property
    def input_length(self) -> int:
        """Two positions for each example, and one for the last x."""
        return 2 * self.num_pairs + 1

    @property
    def input_channels(self) -> int:
        """The components of x, and y."""
        return self.dim + 1

    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        """Draws rows."""
        normal = jax.random.normal(rng, (batch_size, self.num_pairs + 2, self.dim), jnp.float32)
        whole = jnp.round(normal * _GRID).astype(jnp.int32)
        weights, vectors = whole[:, :1], whole[:, 1:]
        numbers = (weights * vectors).sum(axis=2).astype(jnp.float32) * (_GRID**-2 * self.dim**-0.5)
        x = jnp.pad(vectors.astype(jnp.float32) / _GRID, ((0, 0), (0, 0), (0, 1)))
        y = jnp.pad(numbers[..., None], ((0, 0), (0, 0), (self.dim, 0)))
        inputs = jnp.stack([x, y], axis=2).reshape(batch_size, -1, self.input_channels)[:, :-1]
        shape, last = (batch_size, 1), self.input_length - 1
        return Batch(
            inputs=inputs,
            targets=numbers[:, -1:],
            positions=jnp.full(shape, last, jnp.int32),
            weights=jnp.ones(shape, jnp.float32),
            evidence=jnp.broadcast_to(jnp.arange(last, dtype=jnp.int32), (*shape, last)),
            slices={"distance": jnp.ones(shape, jnp.int32)},
        )

    def solve(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Fits by least squares."""
        inputs = np.asarray(batch.inputs, np.float64)
        x, y = inputs[:, ::2, : self.dim], inputs[:, 1::2, self.dim]
        fits = [np.linalg.lstsq(vectors[:-1], numbers, rcond=None)[0] for vectors, numbers in zip(x, y, strict=True)]
        return np.einsum("bd,bd->b", np.stack(fits), x[:, -1])[:, None]

    def floors(self) -> dict[str, float]:
        """Given x, y is normal with variance r^2 = |x|^2 / dim: the mean of erf(tolerance / (r sqrt(2))) over r."""
        edges = np.linspace(0, 1 + 10 / math.sqrt(self.dim), 10_001)
        radius = (edges[1:] + edges[:-1]) / 2
        density = np.exp((self.dim - 1) * np.log(radius) - self.dim * (radius**2 - 1) / 2)
        within = [math.erf(_TOLERANCE / (r * math.sqrt(2))) for r in radius.tolist()]
        return {"always answer 0": float(np.average(within, weights=density))}

    def loss_floors(self) -> dict[str, float]:
        """The variance of y."""
        return {"always answer 0": 1.0}

    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """1, no bound: whoever misses an example may do with the others."""
        return np.ones(np.shape(batch.targets))

    def at_length(self, length: int) -> Self:
        """As many examples as fill a row of at least `length` positions."""
        return dataclasses.replace(self, num_pairs=length // 2)

    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Vectors and numbers in turn; the last vector is the question."""
        described = []
        for position, channels in enumerate(batch.inputs[row].tolist()):
            vector = f"x({','.join(f'{component:.1f}' for component in channels[:-1])})"
            described.append((f"y{channels[-1]:.2f}", "value") if position % 2 else (vector, "key"))
        return [*described[:-1], (described[-1][0], "query")]
