"""What a task is: rows made on device, and everything needed to believe a score on them."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention_variants.checks import check_integer

LARGEST_SIZE = 2**20  # of a length or a vocabulary; beyond it ids and memory would fail in less clear ways


class Batch(NamedTuple):
    """Rows of a task. Only `scored` positions per row are read out and compared."""

    inputs: Int[Array, "batch length"] | Float[Array, "batch length channels"]  # tokens, or channels
    targets: Int[Array, "batch scored"]  # the right tokens
    positions: Int[Array, "batch scored"]  # where the model reads out each target
    weights: Float[Array, "batch scored"]  # 0 for padding
    evidence: Int[Array, "batch scored n"]  # input positions that the answer depends on, -1 padding
    slices: dict[str, Int[Array, "batch scored"]]  # query distance, depth, number of pairs ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """A frozen, hashable description of a distribution over rows. `sample` is pure, jittable and on device.

    `vocab_size` and `input_length` may be fields with a default, or properties where they follow from other fields.
    """

    version: ClassVar[int]  # part of every run's digest: raise it when the rows change
    summary: ClassVar[str]  # one line for --list_tasks
    causal: ClassVar[bool] = True
    every_change_counts: ClassVar[bool] = True  # another token in place of a piece of evidence changes the answer
    answers_follow: ClassVar[bool] = False  # what is asked for stands further on in the row: it must be read causally
    any_evidence_suffices: ClassVar[bool] = False  # each piece of a target's evidence tells the answer by itself

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of token ids; inputs and targets are below it."""

    @property
    @abc.abstractmethod
    def input_length(self) -> int:
        """Tokens per row, padding included."""

    @abc.abstractmethod
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        """Draws rows; the same `rng` gives the same bits."""

    @abc.abstractmethod
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Solves rows from `inputs` and `positions` alone, in plain NumPy; where weights are 0 any token will do."""

    @abc.abstractmethod
    def floors(self) -> dict[str, float]:
        """Accuracy of each shortcut, by name."""

    @abc.abstractmethod
    def at_length(self, length: int) -> Self:
        """The same task at another length."""

    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Probability, at each target, of the best guess by whoever has not seen all of the target's evidence."""
        return np.full(np.shape(batch.targets), max(self.floors().values()))

    def training_batch(self, batch: Batch) -> Batch:
        """Returns what to train on: the scored targets, unless the task teaches more of the row, see `next_tokens`."""
        return batch

    def token_text(self, token: int) -> str:
        """Returns a token as a person reads it."""
        return str(token)

    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Returns (token text, role) per input.

        The role is one of "key", "value", "query", "filler", "marker", and "answer" for what is read after a marker.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to show a row.")


def next_tokens(batch: Batch, weights: Float[Array, "batch scored"]) -> Batch:
    """Returns the rows of `batch` with every token but the first as a target, read out one position before.

    Args:
      batch: rows of a task.
      weights: one per token but the first.
    """
    rows, length = batch.inputs.shape
    positions = jnp.broadcast_to(jnp.arange(length - 1, dtype=jnp.int32)[None], (rows, length - 1))
    no_evidence = jnp.full((rows, length - 1, 1), -1, jnp.int32)  # only scored targets are asked for theirs
    return Batch(batch.inputs, batch.inputs[:, 1:], positions, weights, no_evidence, slices={})


def check_size(name: str, value: Any, minimum: int) -> None:
    """Raises ValueError unless `value`, a length, count or vocabulary, is an integer in [minimum, LARGEST_SIZE]."""
    check_integer(name, value, minimum, LARGEST_SIZE)
