"""Copying strings in which an n-gram occurs twice: what follows it the second time tells how a model copies."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import Batch, check_size
from experiments.tasks.sequences.copying import Transcription

_FLOOR_ROWS = 8192  # for the measured floor: to two digits


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuplicateNgram(Transcription):
    """Copying with an n-gram that occurs twice.

    With `length=14, size=2`; 5 2 stands at two places::

        5 2 7 3 5 2 8 | 5 2 7 3 5 2
                      5 2 7 3 5 2 8   <- targets

    Like `Copying`, except that `size` tokens of the prefix are overwritten by those of another place. The two places do
    not overlap, and all pairs of them are equally likely. A model that finds its place by the last few tokens cannot
    know, after the n-gram, which of its two successors is due: train on `copying`, and test here (`eval.shifted`) for
    one `size` after another.

    The evidence for each token is its place in the prefix; no bound is claimed, because some tokens are given away by
    the other occurrence. One floor is measured over a fixed large sample.

    References:
      Jelassi et al. 2024, "Repeat after me", arXiv:2402.01032, section 4 and their code, where the places may overlap.
    """

    summary: ClassVar[str] = "duplicate n-gram: repeat a prefix in which an n-gram occurs twice"

    size: int = 4  # tokens of the n-gram

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("size", self.size, 1)
        if self.length < 4 * self.size:
            raise ValueError(f"`length` must be at least 4 * `size` = {4 * self.size}; got {self.length}.")

    @override
    def _answer(self, prefix: Int[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
        return prefix

    @override
    def _sources(self, size: int) -> Int[np.ndarray, "tokens n"]:
        return np.arange(size)[:, None]

    @override
    def _draw_prefix(self, rng: PRNGKeyArray, batch_size: int) -> Int[Array, "batch tokens"]:
        token_rng, place_rng = jax.random.split(rng)
        prefix = super()._draw_prefix(token_rng, batch_size)
        # Two different places in a prefix in which each of the two n-grams counts as one token.
        places = jnp.sort(sampling.distinct(place_rng, batch_size, 2, self.length // 2 - 2 * self.size + 2), axis=1)
        first, second = places[:, :1], places[:, 1:] + self.size - 1
        offset = jnp.arange(prefix.shape[1], dtype=jnp.int32)[None] - second
        copied = jnp.take_along_axis(prefix, jnp.clip(first + offset, 0, prefix.shape[1] - 1), axis=1)
        return jnp.where((offset >= 0) & (offset < self.size), copied, prefix)

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Takes what stands before the middle, where the marker is."""
        return np.asarray(batch.inputs)[:, : self.length // 2]

    @override
    def floors(self) -> dict[str, float]:
        """As for copying, except that the most frequent token is counted in a sample."""
        return super().floors() | {"guess the prefix's most frequent token": _most_frequent(self)}

    @property
    @override
    def open_answers(self) -> int:
        """No bound: a token may be given away by its other occurrence."""
        return 1

    @override
    def stored(self) -> None:
        """No bound: what occurs twice has fewer bits."""


@functools.cache
def _most_frequent(task: DuplicateNgram) -> float:
    """Returns the share of the commonest token among those of all prefixes."""
    sample = jax.jit(lambda rng: task.sample(rng, _FLOOR_ROWS))
    batch = jax.tree.map(np.asarray, sample(jax.random.key(0)))
    return float(np.mean([np.bincount(prefix).max() for prefix in batch.targets]) / batch.targets.shape[1])
