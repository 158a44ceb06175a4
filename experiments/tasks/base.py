"""What a task is: rows made on device, and everything needed to believe a score on them."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, Self

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

    def token_text(self, token: int) -> str:
        """Returns a token as a person reads it."""
        return str(token)

    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Returns (token text, role) per input.

        The role is one of "key", "value", "query", "filler", "marker", and "answer" for what is read after a marker.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to show a row.")


def check_size(name: str, value: Any, minimum: int) -> None:
    """Raises ValueError unless `value`, a length, count or vocabulary, is an integer in [minimum, LARGEST_SIZE]."""
    check_integer(name, value, minimum, LARGEST_SIZE)
