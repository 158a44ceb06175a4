"""Compression: the whole row in one vector."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import Batch, FixedLength, Stored, check_size

_END = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compression(FixedLength):
    """Compression: the model's output at the last position must encode every token before it.

    With `length=8`; "|" is the end token, id 0, the same in every row::

        5 2 7 2 1 6 3 |
                      5 2 7 2 1 6 3   <- targets, all read out there

    Tokens are uniform over ids 1..vocab_size - 1. A decoder sees the model's output at the end token and the number j
    of the token to predict, nothing else. The evidence for target j is position j; the end token is not scored.

    References:
      Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv:2403.17844.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "compression: pack a row of tokens into the output at its last position"
    one_vector: ClassVar[bool] = True

    length: int = 32  # tokens per row, the end token included
    vocab_size: int = 16  # the end token and at least 2 others

    def __post_init__(self) -> None:
        check_size("length", self.length, 2)
        check_size("vocab_size", self.vocab_size, 3)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        shape = (batch_size, self.length - 1)
        tokens = jax.random.randint(rng, shape, 1, self.vocab_size, jnp.int32)
        place = jnp.broadcast_to(jnp.arange(self.length - 1, dtype=jnp.int32), shape)
        return Batch(
            inputs=jnp.pad(tokens, ((0, 0), (0, 1)), constant_values=_END),
            targets=tokens,
            positions=jnp.full(shape, self.length - 1, jnp.int32),
            weights=jnp.ones(shape, jnp.float32),
            evidence=place[..., None],
            slices={"distance": self.length - 1 - place},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Takes the tokens before the end token."""
        return np.array([row[: row.index(_END)] for row in np.asarray(batch.inputs).tolist()])

    @override
    def floors(self) -> dict[str, float]:
        """Guessing without looking, and encoding only the row's most frequent token."""
        return sampling.guessing_floors(self.length - 1, self.vocab_size - 1)

    @property
    @override
    def open_answers(self) -> int:
        """Tokens are independent: the others reveal nothing about one that is unseen."""
        return self.vocab_size - 1

    @override
    def stored(self) -> Stored:
        """All tokens, at the end token."""
        return Stored.independent(self.length - 1, self.vocab_size - 1)

    @override
    def token_text(self, token: int) -> str:
        """The end token "|"; other tokens by their ids."""
        return "|" if token == _END else str(token)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Tokens, then the end token, at which all of them are read."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        return [(text, "query" if text == "|" else "value") for text in texts]
