"""What a task is: rows made on device, and everything needed to believe a score on them."""

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from attention_variants.checks import check_integer

LARGEST_SIZE = 2**20  # of a length or a vocabulary; beyond it ids and memory would fail in less clear ways


class Batch(NamedTuple):
    """Rows of a task. Only `scored` positions per row are read out and compared."""

    inputs: Int[Array, "batch length"] | Float[Array, "batch length channels"]  # tokens, or channels
    targets: Int[Array, "batch scored"] | Float[Array, "batch scored"]  # the right tokens, or numbers
    positions: Int[Array, "batch scored"]  # where the model reads out each target
    weights: Float[Array, "batch scored"]  # 0 for padding
    evidence: Int[Array, "batch scored n"]  # input positions that the answer depends on, -1 padding; see `Context`
    slices: dict[str, Int[Array, "batch scored"]]  # query distance, depth, number of pairs ...
    context: Int[Array, "batch length"] | Float[Array, "batch length channels"] | None = None  # what an encoder reads


class Context(NamedTuple):
    """Shape of a second sequence, which an encoder reads and the row attends to.

    In `Batch.evidence` its position i is `input_length` + i.
    """

    length: int
    vocab_size: int = 0  # 0: channels
    channels: int = 0  # 0: tokens


class Stored(NamedTuple):
    """What must be carried past one place of the row: all that decides the answers stands before, all answers after."""

    answers: float  # to be carried; their mean number where rows differ
    values: int  # that each answer may take
    bits: float  # entropy of all of them, given whatever else the row holds

    @classmethod
    def independent(cls, answers: float, values: int) -> Self:
        """Answers that are uniform and know nothing of one another."""
        return cls(answers, values, answers * math.log2(values))

    @classmethod
    def distinct(cls, answers: int, values: int) -> Self:
        """Answers that are uniform but for being distinct."""
        return cls(answers, values, sum(math.log2(values - drawn) for drawn in range(answers)))


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
    one_vector: ClassVar[bool] = False  # all answers are decoded from the model's output at the one scored position
    tolerance: ClassVar[float | None] = None  # targets are numbers, and right when no further off than this

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of token ids, or of classes; inputs and targets are below it. 1 where targets are numbers."""

    @property
    @abc.abstractmethod
    def input_length(self) -> int:
        """Tokens per row, padding included."""

    @property
    def input_channels(self) -> int:
        """Numbers per input position; 0: inputs are tokens."""
        return 0

    @property
    def context(self) -> Context | None:
        """The second sequence, if there is one."""
        return None

    @abc.abstractmethod
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        """Draws rows; the same `rng` gives the same bits."""

    @abc.abstractmethod
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Solves rows from `inputs`, `positions` and `context`, in plain NumPy; where weights are 0 anything does."""

    @abc.abstractmethod
    def floors(self) -> dict[str, float]:
        """Accuracy of each shortcut, by name."""

    @abc.abstractmethod
    def at_length(self, length: int) -> Self:
        """The same task at another length."""

    def at_lengths(self, shortest: int, longest: int) -> Self:
        """The same task over every length of a range; raises NotImplementedError where rows have one length."""
        raise NotImplementedError(
            f"{type(self).__name__} has rows of one length; a range such as {shortest}-{longest} needs strings."
        )

    def num_scored(self) -> int:
        """Scored positions per row, padding included."""
        return int(jax.eval_shape(lambda: self.sample(jax.random.key(0), 1)).targets.shape[1])

    def loss_floors(self) -> dict[str, float]:
        """Mean squared error of each shortcut, by name, where targets are numbers."""
        return {}

    def stored(self) -> Stored | None:
        """Returns what no state can do without, see `experiments/analysis/state_capacity.py`; None claims nothing."""
        return None

    def is_right(self, answers: Any, targets: Any) -> Any:
        """Returns, for arrays of one shape, where an answer counts as right."""
        return answers == targets if self.tolerance is None else abs(answers - targets) <= self.tolerance

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

    def describe_context(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Returns (text, role) per position of the context, as `describe_row` does."""
        return []

    def image(self, batch: Batch, row: int) -> UInt8[np.ndarray, "height width 3"] | None:
        """Returns the picture that a row, or its context, is made of, if there is one."""
        return None


def next_tokens(batch: Batch, weights: Float[Array, "batch scored"]) -> Batch:
    """Returns the rows of `batch` with every token but the first as a target, read out one position before.

    Args:
      batch: rows of a task.
      weights: one per token but the first.
    """
    rows, length = batch.inputs.shape
    positions = jnp.broadcast_to(jnp.arange(length - 1, dtype=jnp.int32)[None], (rows, length - 1))
    no_evidence = jnp.full((rows, length - 1, 1), -1, jnp.int32)  # only scored targets are asked for theirs
    return Batch(batch.inputs, batch.inputs[:, 1:], positions, weights, no_evidence, slices={}, context=batch.context)


def check_size(name: str, value: Any, minimum: int) -> None:
    """Raises ValueError unless `value`, a length, count or vocabulary, is an integer in [minimum, LARGEST_SIZE]."""
    check_integer(name, value, minimum, LARGEST_SIZE)
