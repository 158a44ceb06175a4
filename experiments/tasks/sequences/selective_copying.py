"""Selective copying: say the data tokens of a row again, in order, blanks left out."""

import dataclasses
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from experiments.tasks import sampling
from experiments.tasks.base import Batch, Stored, Task, check_size

_BLANK, _COPY, _FIRST_DATA = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectiveCopying(Task):
    """Selective copying.

    With `length=12, num_tokens=3`; "." is a blank, id 0, "copy" a marker, id 1, d9 the data token with id 9::

        .  .  d9 .  d4 .  .  d9 copy .  .  .
                                     d9 d4 d9   <- targets

    There are `num_tokens` data tokens, uniform over ids 2..vocab_size - 1; each of the length - 2 * num_tokens - 1
    blanks before the marker stands in front of one of them, drawn uniformly. After the marker the j-th blank asks for
    the j-th data token. Evidence of question j is that token; whoever has not seen it guesses among all kinds.

    References:
      Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv:2403.17844.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "selective copying: repeat the data tokens in order, leaving out the blanks"

    length: int = 256  # tokens per row, the answers' places included
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
    def input_length(self) -> int:
        """Tokens per row."""
        return self.length

    @property
    def num_kinds(self) -> int:
        """Kinds of data tokens."""
        return self.vocab_size - _FIRST_DATA

    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        """Draws rows."""
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

    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Deletes blanks and marker; the rest of the row is the answer."""
        rows = np.asarray(batch.inputs)
        return np.stack([row[row >= _FIRST_DATA][: self.num_tokens] for row in rows])

    def floors(self) -> dict[str, float]:
        """Guessing without looking, and answering everywhere with the row's most frequent data token."""
        most_frequent = sampling.expected_highest_count(self.num_tokens, self.num_kinds) / self.num_tokens
        return {"guess a data token": 1 / self.num_kinds, "guess the row's most frequent data token": most_frequent}

    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Data tokens are independent: the others say nothing about one that is out of sight."""
        return np.full(np.shape(batch.targets), 1 / self.num_kinds)

    def stored(self) -> Stored:
        """All data tokens, at the marker."""
        return Stored.independent(self.num_tokens, self.num_kinds)

    def at_length(self, length: int) -> Self:
        """As many data tokens among more or fewer blanks."""
        return dataclasses.replace(self, length=length)

    def token_text(self, token: int) -> str:
        """Blank ".", marker "copy", data "d7"."""
        return {_BLANK: ".", _COPY: "copy"}.get(token, f"d{token}")

    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Data among blanks, the marker, then the blanks that ask."""
        questions = set(np.asarray(batch.positions[row]).tolist())
        roles = {_BLANK: "filler", _COPY: "marker"}
        tokens = [int(token) for token in batch.inputs[row]]
        return [
            (self.token_text(token), "query" if c in questions else roles.get(token, "value"))
            for c, token in enumerate(tokens)
        ]
