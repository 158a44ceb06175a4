"""Selective copying: repeat the data tokens of a row in order, leaving out the blanks."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, Stored, check_size

_BLANK, _COPY, _FIRST_DATA = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectiveCopying(FixedLength):
    """Selective copying.

    With `length=12, num_tokens=3`; "." is a blank, id 0, "copy" a marker, id 1, d9 the data token with id 9::

        .  .  d9 .  d4 .  .  d9 copy .  .  .
                                     d9 d4 d9   <- targets

    There are `num_tokens` data tokens, uniform over ids 2..vocab_size - 1; each of the length - 2 * num_tokens - 1
    blanks before the marker stands in front of one of them, drawn uniformly. After the marker the j-th blank asks for
    the j-th data token. The evidence for question j is that token; if it is unseen, all kinds are equally likely.

    References:
      Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv:2403.17844.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "selective copying: repeat the data tokens in order, leaving out the blanks"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"order": "answer of the row, from 0"}

    length: int = 256  # tokens per row, including the places of the answers
    num_tokens: int = 16  # data tokens to repeat
    vocab_size: int = 16  # blank, marker and at least 2 kinds of data

    def __post_init__(self) -> None:
        check_size("length", self.length, 3)
        check_size("num_tokens", self.num_tokens, 1)
        check_size("vocab_size", self.vocab_size, 4)
        if self.length < 2 * self.num_tokens + 1:
            raise ValueError(
                f"`length` must be at least 2 * `num_tokens` + 1 = {2 * self.num_tokens + 1}; got {self.length}."
            )

    @property
    def num_kinds(self) -> int:
        """Kinds of data tokens."""
        return self.vocab_size - _FIRST_DATA

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        data_rng, gap_rng = jax.random.split(rng)
        marker = self.length - self.num_tokens - 1
        shape = (batch_size, self.num_tokens)
        data = jax.random.randint(data_rng, shape, _FIRST_DATA, self.vocab_size, jnp.int32)
        gaps = jax.random.randint(gap_rng, (batch_size, marker - self.num_tokens), 0, self.num_tokens, jnp.int32)
        rows = jnp.arange(batch_size)[:, None]
        blanks_before = jnp.cumsum(jnp.zeros(shape, jnp.int32).at[rows, gaps].add(1), axis=1, dtype=jnp.int32)
        order = jnp.arange(self.num_tokens, dtype=jnp.int32)[None]
        source = order + blanks_before
        inputs = jnp.full((batch_size, self.length), _BLANK, jnp.int32).at[rows, source].set(data)
        positions = jnp.broadcast_to(marker + 1 + order, shape)
        return Batch(
            inputs=inputs.at[:, marker].set(_COPY),
            targets=data,
            positions=positions,
            weights=jnp.ones(shape, jnp.float32),
            evidence=source[..., None],
            slices={"distance": positions - source, "order": jnp.broadcast_to(order, shape)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Deletes blanks and the marker; what remains of the row is the answer."""
        rows = np.asarray(batch.inputs)
        return np.stack([row[row >= _FIRST_DATA][: self.num_tokens] for row in rows])

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, the row's most frequent data token, and copying each answer from where its token most often is."""
        most_frequent = sampling.expected_highest_count(self.num_tokens, self.num_kinds) / self.num_tokens
        return {
            "guess a data token": 1 / self.num_kinds,
            "guess the row's most frequent data token": most_frequent,
            "copy each answer from a fixed position": self._from_fixed_positions(),
        }

    def _from_fixed_positions(self) -> float:
        """Returns how often the best position to copy from holds the answer, or by chance an equal token."""
        count, blanks = self.num_tokens, self.length - 2 * self.num_tokens - 1
        position, order = np.arange(count + blanks), np.arange(count)[:, None]
        there = scipy.stats.binom.pmf(position - order, blanks, (order + 1) / count)  # blanks before token `order`
        equal = there + (there.sum(axis=0) - there) / self.num_kinds
        return float(equal.max(axis=1).mean())

    @property
    @override
    def open_answers(self) -> int:
        """Data tokens are independent: the others reveal nothing about one that is unseen."""
        return self.num_kinds

    @override
    def stored(self) -> Stored:
        """All data tokens, at the marker."""
        return Stored.independent(self.num_tokens, self.num_kinds)

    @override
    def token_text(self, token: int) -> str:
        """Blank ".", marker "copy", data "d7"."""
        return {_BLANK: ".", _COPY: "copy"}.get(token, f"d{token}")

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Data among blanks, the marker, then the blanks at which answers are read."""
        questions = set(np.asarray(batch.positions[row]).tolist())
        roles = {_BLANK: "filler", _COPY: "marker"}
        tokens = [int(token) for token in batch.inputs[row]]
        return [
            (self.token_text(token), "query" if c in questions else roles.get(token, "value"))
            for c, token in enumerate(tokens)
        ]
