"""Set intersection: which token is in both of two sets? The first has to be kept while the second is read."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size

_PAD, _AND, _ASK, _FIRST = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetIntersection(FixedLength):
    """The token that two sets have in common.

    With `length=10`; "|" separates the sets, id 1, "?" asks, id 2, "." is padding, id 0::

        7 4 9 | 5 4 ? .  .  .
                    4           <- target

    The sizes of both sets are uniform and independent in 1..(length / repeats - 2) / 2. Exactly one token is in both;
    all others are distinct, and everything is uniform over ids 3..vocab_size - 1 and in uniformly random order. The
    answer is read at "?". With `repeats=2` the row states both sets twice, in the same order, before it asks::

        7 4 9 | 5 4 | 7 4 9 | 5 4 ? .  .  .  .  .  .  .
                                  4                       <- target

    A model that reads once must keep the first set whole; one that reads twice can keep the smaller. The slice `order`
    is 0 where the first set is the smaller one, 1 where they are equal in size, 2 where it is the larger one; the slice
    `smaller` is the size of the smaller one. The evidence is the common token, wherever it stands. If it is unseen in
    one of the sets, all tokens of the other are equally likely.

    References:
      Arora et al. 2024, "Just read twice", arXiv:2407.05483, with sets of 1 to 1,024 out of 2,048 tokens.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "set intersection: name the token that is in both of two sets"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "order": "whether the first set is smaller (0), equal (1) or larger (2)",
        "smaller": "tokens in the smaller set",
    }
    every_change_counts: ClassVar[bool] = False  # a set may be stated again

    length: int = 64  # tokens of the longest rows
    vocab_size: int = 128  # padding, two markers and the tokens of sets
    repeats: int = 1  # how often the sets are stated

    def __post_init__(self) -> None:
        check_size("repeats", self.repeats, 1)
        check_size("length", self.length, 4 * self.repeats)
        check_size("vocab_size", self.vocab_size, 5)
        if self.length % (2 * self.repeats):
            raise ValueError(f"`length` must be a multiple of {2 * self.repeats}; got {self.length}.")
        if self.num_tokens < 2 * self.max_size - 1:
            raise ValueError(
                f"`vocab_size` must be at least {2 * self.max_size + 2} for sets of {self.max_size}; got "
                f"{self.vocab_size}."
            )

    @property
    def max_size(self) -> int:
        """Tokens of the largest sets."""
        return self.length // (2 * self.repeats) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens that sets are drawn from."""
        return self.vocab_size - _FIRST

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        size_rng, token_rng, place_rng = jax.random.split(rng, 3)
        most = self.max_size
        size = jax.random.randint(size_rng, (batch_size, 2), 1, most + 1, jnp.int32)
        tokens = _FIRST + sampling.distinct(token_rng, batch_size, 2 * most - 1, self.num_tokens)
        place = jax.random.randint(place_rng, (batch_size, 2), 0, size, jnp.int32)  # of the common token in each set
        first, second = size[:, :1], size[:, 1:]
        sets = [
            _with(tokens[:, :1], tokens[:, 1:most], place[:, :1]),
            _with(tokens[:, :1], tokens[:, most:], place[:, 1:]),
        ]

        period = size.sum(axis=1, keepdims=True, dtype=jnp.int32) + 2
        column = jnp.arange(self.length, dtype=jnp.int32)[None]
        offset, last = column % period, self.repeats * period - 1
        inputs = jnp.where(
            offset < first,
            jnp.take_along_axis(sets[0], jnp.minimum(offset, most - 1), axis=1),
            jnp.take_along_axis(sets[1], jnp.clip(offset - first - 1, 0, most - 1), axis=1),
        )
        inputs = jnp.where((offset == first) | (offset == period - 1), _AND, inputs)
        inputs = jnp.where(column < last, inputs, jnp.where(column == last, _ASK, _PAD))

        stated = period[..., None] * jnp.arange(self.repeats, dtype=jnp.int32)[None, None]
        evidence = jnp.concatenate(
            [stated + place[:, :1, None], stated + (first + 1 + place[:, 1:])[..., None]], axis=2
        )
        return Batch(
            inputs=inputs,
            targets=tokens[:, :1],
            positions=last,
            weights=jnp.ones(last.shape, jnp.float32),
            evidence=evidence,
            slices={
                "distance": last - evidence.max(axis=2),
                "order": 1 + jnp.sign(first - second),
                "smaller": jnp.minimum(first, second),
            },
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Collects both sets and looks for a token of the first in the second."""
        answers = []
        for row in np.asarray(batch.inputs).tolist():
            sets: tuple[list[int], list[int]] = ([], [])
            number = 0
            for token in row[: row.index(_ASK)]:
                if token == _AND:
                    number += 1
                else:
                    sets[number % 2].append(token)
            answers.append([next((token for token in sets[0] if token in sets[1]), _PAD)])
        return np.array(answers)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing any token, one of the set that was read last, or one of the smaller set."""
        sizes = np.arange(1, self.max_size + 1)
        smaller = 1 / np.minimum(sizes[:, None], sizes[None])
        return {
            "guess a token": 1 / self.num_tokens,
            "guess a token of the second set": float(np.mean(1 / sizes)),
            "guess a token of the smaller set": float(smaller.mean()),
        }

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """The best of three cases: the answer is unseen in the first set, the second, or both; no bound if repeated.

        In the last case, it is one of the tokens seen nowhere, of which there may be few.
        """
        if self.repeats > 1:
            return np.ones(np.shape(batch.targets))
        inputs = np.asarray(batch.inputs)
        first = (inputs == _AND).argmax(axis=1)
        second = (inputs == _ASK).argmax(axis=1) - first - 1
        nowhere = self.num_tokens - (first - 1) - (second - 1)
        return 1.0 / np.minimum(np.minimum(first, second), nowhere)[:, None]

    @override
    def token_text(self, token: int) -> str:
        """Padding ".", markers "|" and "?"; other tokens by their ids."""
        return ".|?"[token] if token < _FIRST else str(token)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The common token as value, the others as keys, which make a row what it is."""
        roles = {_PAD: "filler", _AND: "marker", _ASK: "marker", int(batch.targets[row, 0]): "value"}
        tokens = np.asarray(batch.inputs[row]).tolist()
        return [(self.token_text(token), roles.get(token, "key")) for token in tokens]


def _with(common: Array, others: Array, place: Array) -> Int[Array, "batch tokens"]:
    """Returns `others` with the common token inserted at a place."""
    column = jnp.arange(others.shape[1] + 1, dtype=jnp.int32)[None]
    before = jnp.pad(others, ((0, 0), (0, 1)))
    after = jnp.pad(others, ((0, 0), (1, 0)))
    return jnp.where(column == place, common, jnp.where(column < place, before, after))
