"""The same rows in one pass, as in training, and how far decoding is from it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from experiments.decoding.decoder import Decoded
from experiments.model.transformer import Model


class DifferentError(ValueError):
    """Decoding gives other logits than the parallel pass; the message is one line."""


class Difference(NamedTuple):
    """How far decoded logits are from those of the parallel pass."""

    largest: float  # of all differences; NaN where a logit is NaN
    scale: float  # the largest logit of the parallel pass, at least 1
    row: int  # where it is
    place: int

    @property
    def relative(self) -> float:
        """The largest difference over the largest logit."""
        return self.largest / self.scale


class Parallel:
    """A model's pass over whole rows; it compiles once for each shape."""

    def __init__(self, model: Model):
        """Takes the model's parameters as they are."""
        graph, self._state = nnx.split(model)

        def run(state: Any, tokens: Array, context: Array | None) -> Array:
            everywhere = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
            return nnx.merge(graph, state)(tokens, everywhere, context=context)

        self._run = jax.jit(run)

    def __call__(
        self, tokens: Int[Array, "batch length"], context: Array | None = None
    ) -> Float[Array, "batch length vocab"]:
        """Returns the logits at every token; the positions are 0, 1, 2 ... as in decoding."""
        return self._run(self._state, tokens, context)

    def check(self, decoded: Decoded, tolerance: float, context: Array | None = None) -> Difference:
        """Returns how far decoding is from the pass over the tokens that it read.

        Raises:
          DifferentError: it is further than `tolerance` times the largest logit.
        """
        found = difference(decoded.logits, self(decoded.tokens, context))
        if not found.relative <= tolerance:  # so that NaN is refused
            raise DifferentError(
                f"decoding is not the parallel pass: logits differ by up to {found.largest:.3g}, {found.relative:.2g} "
                f"of the largest, at position {found.place} of row {found.row}; the tolerance is {tolerance:g}."
            )
        return found


def difference(decoded: Float[Array, "batch length vocab"], parallel: Float[Array, "batch length vocab"]) -> Difference:
    """Compares logits; the first NaN is the largest difference of all."""
    one, other = np.asarray(decoded, np.float64), np.asarray(parallel, np.float64)
    apart = np.abs(one - other).max(axis=2)
    row, place = np.unravel_index(np.argmax(apart), apart.shape)
    return Difference(float(apart[row, place]), max(1.0, float(np.abs(other).max())), int(row), int(place))
