"""In-context regression: learn a linear function from examples in the row, and apply it."""

import dataclasses
import functools
import math
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Float, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import Batch, Task, check_size

_GRID = 256  # components are multiples of 1 / 256, so that products and sums are exact in any order
_TOLERANCE = 0.1
_QUANTILES = 48  # of each chi-squared distribution: the floor to three digits


@dataclasses.dataclass(frozen=True, kw_only=True)
class InContextRegression(Task):
    """Linear regression in context.

    With `num_pairs=3, dim=2`; x(...) is a position with a vector, y one with a number::

        x(0.3,-1.2) y0.71 x(-0.5,0.1) y-0.34 x(1.4,0.9) y0.50 x(0.2,-0.7)
                                                                     0.43   <- target

    Each row draws its own weights w and num_pairs + 1 vectors x, all components normal with mean 0 and variance 1
    (rounded to 1/256); y = w . x / sqrt(dim), whose variance is 1. There are dim + 1 channels: x fills the first dim of
    its position, y the last one of the next, and the rest is 0. The target is the y of the last x, and an answer is
    right within `tolerance`. The target follows exactly from dim linearly independent examples; num_pairs must be above
    dim so that rounded examples almost always include them. The evidence is every earlier position.

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
        if self.num_pairs <= self.dim:
            raise ValueError(f"`num_pairs` must be above `dim` = {self.dim}; got {self.num_pairs}.")
        if self.dim > 512:
            raise ValueError(f"`dim` must be at most 512; got {self.dim}.")

    @property
    @override
    def vocab_size(self) -> int:
        return 1

    @property
    @override
    def input_length(self) -> int:
        """Two positions for each example, and one for the last x."""
        return 2 * self.num_pairs + 1

    @property
    @override
    def input_channels(self) -> int:
        """The components of x, and y."""
        return self.dim + 1

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
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

    @override
    def solve(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Fits by least squares."""
        inputs = np.asarray(batch.inputs, np.float64)
        x, y = inputs[:, ::2, : self.dim], inputs[:, 1::2, self.dim]
        fits = [np.linalg.lstsq(vectors[:-1], numbers, rcond=None)[0] for vectors, numbers in zip(x, y, strict=True)]
        return np.einsum("bd,bd->b", np.stack(fits), x[:, -1])[:, None]

    @override
    def floors(self) -> dict[str, float]:
        """Answering 0, and s mean(y_i x_i) . x over the examples, with the s that minimises the mean squared error."""
        averaging = _averaging_floor(self.num_pairs, self.dim)
        return {"always answer 0": _within(np.ones(1), self.dim), "average the examples": averaging}

    @override
    def loss_floors(self) -> dict[str, float]:
        """The variance of y; that of the error of averaging.

        With A = mean(x_i x_i^T) the error is x . (1 - s A) w / sqrt(dim), whose variance is tr E[(1 - s A)^2] / dim =
        1 - 2 s + s^2 / best with best = num_pairs / (num_pairs + dim + 1), least at s = best.
        """
        return {"always answer 0": 1.0, "average the examples": 1 - _best_scale(self.num_pairs, self.dim)}

    @override
    def at_length(self, length: int) -> Self:
        """As many examples as make a row of at least `length` positions."""
        return dataclasses.replace(self, num_pairs=length // 2)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Vectors and numbers, alternating; the last vector is the query."""
        described = []
        for position, channels in enumerate(batch.inputs[row].tolist()):
            vector = f"x({','.join(f'{component:.1f}' for component in channels[:-1])})"
            described.append((f"y{channels[-1]:.2f}", "value") if position % 2 else (vector, "key"))
        return [*described[:-1], (described[-1][0], "query")]


def _best_scale(num_pairs: int, dim: int) -> float:
    return num_pairs / (num_pairs + dim + 1)


@functools.cache
def _averaging_floor(num_pairs: int, dim: int) -> float:
    """Returns the accuracy of averaging, over a grid of quantiles.

    Given x and the examples, the error is normal, with standard deviation |(1 - s A) x| / sqrt(dim). With axes turned
    so that x lies along the first, the examples' first components u and the others V, all normal, give A x = |x|
    (|u|^2, V^T u) / num_pairs, where |u|^2 and |V^T u|^2 / |u|^2 are chi-squared and independent.
    """
    quantile = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    along = 2 * scipy.special.gammaincinv(num_pairs / 2, quantile)[:, None] * _best_scale(num_pairs, dim) / num_pairs
    others = 2 * scipy.special.gammaincinv((dim - 1) / 2, quantile) if dim > 1 else np.zeros(1)
    across = along * _best_scale(num_pairs, dim) / num_pairs * others
    return _within(np.sqrt((1 - along) ** 2 + across).ravel(), dim)


def _within(scale: Float[np.ndarray, " n"], dim: int) -> float:
    """Returns how often an error with deviation r times any of `scale` is tolerated, where r = |x| / sqrt(dim)."""
    edges = np.linspace(0, 1 + 10 / math.sqrt(dim), 2001)
    radius = (edges[1:] + edges[:-1]) / 2
    density = np.exp((dim - 1) * np.log(radius) - dim * (radius**2 - 1) / 2)
    within = scipy.special.erf(_TOLERANCE / (np.outer(scale, radius) * math.sqrt(2))).mean(axis=0)
    return float(np.average(within, weights=density))
