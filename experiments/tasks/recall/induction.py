"""Induction: predict the token that followed the first occurrence of a special token."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size

_SPECIAL = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Induction(FixedLength):
    """Induction heads: predict the successor of an earlier occurrence.

    With `length=10`; "s" is the special token, id 0::

        5  2  s  7  7  3  1  2  5  s
                                   7   <- target

    Tokens are uniform over ids 1..vocab_size - 1. The special token occurs once at a uniformly drawn place inside and
    again at the end, where the token that followed it the first time is predicted. The evidence is that token, and the
    slice `depth` is its position. One fixed special token can be told from all others without any comparison; with
    `any_key`, it is drawn anew for each row, so a model has to compare tokens, and to know which one precedes each.

    References:
      Olsson et al. 2022, "In-context learning and induction heads", arXiv:2209.11895.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "induction: predict the token that followed the special token the first time"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"depth": "position of the answer in the row"}

    length: int = 64  # tokens per row
    vocab_size: int = 16  # the special token and at least 2 others
    any_key: bool = False  # the special token of a row is drawn from all tokens; else it has id 0

    def __post_init__(self) -> None:
        check_size("length", self.length, 3)
        check_size("vocab_size", self.vocab_size, 3)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        token_rng, place_rng = jax.random.split(rng)
        tokens = jax.random.randint(token_rng, (batch_size, self.length), 1, self.vocab_size, jnp.int32)
        place = jax.random.randint(place_rng, (batch_size, 1), 0, self.length - 2, jnp.int32)
        column = jnp.arange(self.length, dtype=jnp.int32)[None]
        inputs = jnp.where((column == place) | (column == self.length - 1), _SPECIAL, tokens)
        if self.any_key:  # each row shifts the ids of its tokens
            shift_rng = jax.random.fold_in(rng, 2)  # after the two above
            shift = jax.random.randint(shift_rng, (batch_size, 1), 0, self.vocab_size, jnp.int32)
            inputs = (inputs + shift) % self.vocab_size
        answer = place + 1
        return Batch(
            inputs=inputs,
            targets=jnp.take_along_axis(inputs, answer, axis=1),
            positions=jnp.full((batch_size, 1), self.length - 1, jnp.int32),
            weights=jnp.ones((batch_size, 1), jnp.float32),
            evidence=answer[..., None],
            slices={"depth": answer, "distance": self.length - 1 - answer},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Finds the token after the first occurrence of the last one."""
        return np.array([[row[row.index(row[-1]) + 1]] for row in np.asarray(batch.inputs).tolist()])

    @override
    def floors(self) -> dict[str, float]:
        """Guessing without looking, and answering with the row's most frequent token."""
        return sampling.guessing_floors(self.length - 2, self.vocab_size - 1)

    @property
    @override
    def open_answers(self) -> int:
        """Tokens are independent: the others reveal nothing about one that is unseen."""
        return self.vocab_size - 1

    @override
    def token_text(self, token: int) -> str:
        """The special token "s" where all rows have the same one; other tokens by their ids."""
        return "s" if token == _SPECIAL and not self.any_key else str(token)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Fillers, the special token and its successor; the last token is the query."""
        roles = ["filler"] * self.length
        answer = int(batch.evidence[row, 0, 0])
        roles[answer - 1], roles[answer], roles[-1] = "key", "value", "query"
        return [(self.token_text(int(token)), role) for token, role in zip(batch.inputs[row], roles, strict=True)]
