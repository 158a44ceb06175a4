"""Adding: the sum of two marked numbers, far apart in a long row of others."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import Batch, FixedLength, check_size

_TOLERANCE = 0.04


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adding(FixedLength):
    """The adding problem.

    With `length=8`; a number and, below it, its mark::

        0.42 0.91 0.07 0.55 0.83 0.30 0.64 0.19
           0    1    0    0    0    1    0    0
                                           1.21   <- target

    Channel 0 holds numbers uniform over [0, 1); channel 1 marks one place in each half, both uniform: one among the
    first length // 2, and one among the others but the last. This differs from the published problem: the last place is
    never marked, because the sum is read there. The evidence is the two marked places. An answer counts as right within
    `tolerance`; the best guess for a number that has not been seen is 1/2.

    References:
      Hochreiter and Schmidhuber 1997, "Long short-term memory", with their tolerance; Arjovsky et al. 2016,
      arXiv:1511.06464, with their range and halves, where answering 1 has a mean squared error of 1/6.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "adding: the sum of two marked numbers"
    slice_labels: ClassVar[Mapping[str, str]] = {
        "distance": "tokens back to the second number",
        "first_distance": "tokens back to the first number",
    }
    tolerance: ClassVar[float | None] = _TOLERANCE

    length: int = 64  # numbers per row

    def __post_init__(self) -> None:
        check_size("length", self.length, 3)

    @property
    @override
    def vocab_size(self) -> int:
        return 1

    @property
    @override
    def input_channels(self) -> int:
        """A number and its mark."""
        return 2

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        number_rng, first_rng, second_rng = jax.random.split(rng, 3)
        # Multiples of 2^-23: a sum of two is exact.
        numbers = jax.random.uniform(number_rng, (batch_size, self.length), jnp.float32)
        shape, half = (batch_size, 1), self.length // 2
        first = jax.random.randint(first_rng, shape, 0, half, jnp.int32)
        second = jax.random.randint(second_rng, shape, half, self.length - 1, jnp.int32)
        column = jnp.arange(self.length, dtype=jnp.int32)[None]
        marks = (column == first) | (column == second)
        return Batch(
            inputs=jnp.stack([numbers, marks.astype(jnp.float32)], axis=-1),
            targets=jnp.take_along_axis(numbers, first, axis=1) + jnp.take_along_axis(numbers, second, axis=1),
            positions=jnp.full(shape, self.length - 1, jnp.int32),
            weights=jnp.ones(shape, jnp.float32),
            evidence=jnp.stack([first, second], axis=-1),
            slices={"distance": self.length - 1 - second, "first_distance": self.length - 1 - first},
        )

    @override
    def solve(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Adds up the marked numbers."""
        inputs = np.asarray(batch.inputs)
        return np.where(inputs[..., 1] == 1, inputs[..., 0], 0).sum(axis=1, keepdims=True)

    @override
    def floors(self) -> dict[str, float]:
        """The sum has the density 1 - |sum - 1|."""
        return {"always answer 1": 2 * _TOLERANCE - _TOLERANCE**2}

    @override
    def loss_floors(self) -> dict[str, float]:
        """The variance of the sum."""
        return {"always answer 1": 1 / 6}

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """With one of the two numbers seen, the sum is uniform over an interval of length 1."""
        return np.full(np.shape(batch.targets), 2 * _TOLERANCE)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The marked numbers among the others; the last one is never marked."""
        roles = ["value" if mark else "filler" for mark in batch.inputs[row, :, 1]]
        return [(f"{number:.2f}", role) for number, role in zip(batch.inputs[row, :, 0], roles, strict=True)]
