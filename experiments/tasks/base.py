"""What a task is: rows drawn on device, and everything needed to trust a score on them."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, UInt8
from typing_extensions import override

from attention_variants.checks import check_integer

LARGEST_SIZE = 2**20  # of a length or a vocabulary; beyond it, ids or memory would fail with less clear errors
DISTANCE = {"distance": "tokens back to the evidence"}  # the label of the slice that nearly every task has


class Batch(NamedTuple):
    """Rows of a task. Only the `scored` positions of a row are read out and compared."""

    inputs: Int[Array, "batch length"] | Float[Array, "batch length channels"]  # tokens, or channels
    targets: (  # the right tokens, numbers, or distributions over tokens
        Int[Array, "batch scored"] | Float[Array, "batch scored"] | Float[Array, "batch scored vocab"]
    )
    positions: Int[Array, "batch scored"]  # where the model reads out each target
    weights: Float[Array, "batch scored"]  # 0 for padding
    evidence: Int[Array, "batch scored n"]  # input positions that the answer depends on, -1 padding; see `Context`
    slices: dict[str, Int[Array, "batch scored"]]  # query distance, depth, number of pairs ...
    context: Int[Array, "batch length"] | Float[Array, "batch length channels"] | None = None  # what an encoder reads
    also_right: Int[Array, "batch scored n"] | None = None  # other tokens that are right as well, -1 padding


class Context(NamedTuple):
    """Shape of a second sequence, which an encoder reads and the row attends to.

    In `Batch.evidence`, its position i is `input_length` + i.
    """

    length: int
    vocab_size: int = 0  # 0: channels
    channels: int = 0  # 0: tokens


class Stored(NamedTuple):
    """What must be carried past one place of the row, with all evidence before it and all answers after it."""

    answers: float  # to be carried; their mean number where rows differ
    values: int  # that each answer may take
    bits: float  # entropy of all answers, given the rest of the row

    @classmethod
    def independent(cls, answers: float, values: int) -> Self:
        """Returns what independent, uniform answers need."""
        return cls(answers, values, answers * math.log2(values))

    @classmethod
    def distinct(cls, answers: int, values: int) -> Self:
        """Returns what answers drawn uniformly without replacement need."""
        return cls(answers, values, sum(math.log2(values - drawn) for drawn in range(answers)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task(abc.ABC):
    """A frozen, hashable description of a distribution over rows. `sample` is pure, jittable and on device.

    `vocab_size` and `input_length` may be fields with a default, or properties where they follow from other fields.
    """

    version: ClassVar[int]  # part of every run's digest: increase it when the rows change
    summary: ClassVar[str]  # one line for --list_tasks
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE  # each slice in words, for the axes of figures
    causal: ClassVar[bool] = True
    every_change_counts: ClassVar[bool] = True  # replacing a piece of evidence by another token changes the answer
    answers_follow: ClassVar[bool] = False  # answers appear later in the row, so the row must be read causally
    rows_repeat: ClassVar[bool] = False  # there are so few rows that a test meets some that training has shown
    reads_its_evidence: ClassVar[bool] = False  # the token at which an answer is read may be part of its evidence
    any_evidence_suffices: ClassVar[bool] = False  # each piece of a target's evidence is enough to know the answer
    known: ClassVar[str | None] = None  # slice that is 0 where the row does not decide an answer
    one_vector: ClassVar[bool] = False  # all answers are decoded from the model's output at the one scored position
    tolerance: ClassVar[float | None] = None  # if not None, targets are numbers, and answers this close are right
    distributions: ClassVar[bool] = False  # those numbers are the probabilities of all tokens, close in total variation

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of token ids, or of classes; inputs and targets are below it. 1 where each target is a number."""

    @property
    @abc.abstractmethod
    def input_length(self) -> int:
        """Tokens per row, padding included."""

    @property
    def train_length(self) -> float:
        """Where the task itself stands on an axis of lengths, such as those of `at_length`."""
        return float(self.input_length)

    @property
    def input_channels(self) -> int:
        """Numbers per input position; 0: inputs are tokens."""
        return 0

    @property
    def context(self) -> Context | None:
        """The second sequence, if there is one."""
        return None

    @property
    def open_answers(self) -> int:
        """How many equally likely answers a target has while some of its evidence is unseen; 1 claims no bound."""
        return 1

    @abc.abstractmethod
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        """Draws rows; the same `rng` gives the same bits."""

    @abc.abstractmethod
    def solve(self, batch: Batch) -> Num[np.ndarray, "batch scored *vocab"]:
        """Solves rows from `inputs`, `positions` and `context`, in plain NumPy.

        Any answer will do at weight 0, and where the slice `known` is 0.
        """

    @abc.abstractmethod
    def floors(self) -> dict[str, float]:
        """Returns, by name, the accuracy of each shortcut: a way to answer without doing what the task asks."""

    @abc.abstractmethod
    def at_length(self, length: int) -> Self:
        """Returns the same task at another length; raises ValueError if it has no rows of that length."""

    def at_lengths(self, shortest: int, longest: int) -> Self:
        """Returns the task over every length of a range; raises NotImplementedError if all rows have one length."""
        raise NotImplementedError(
            f"{type(self).__name__} has rows of one length; a range such as {shortest}-{longest} needs strings."
        )

    def num_scored(self) -> int:
        """Returns the number of scored positions per row, padding included."""
        return int(jax.eval_shape(lambda: self.sample(jax.random.key(0), 1)).targets.shape[1])

    def loss_floors(self) -> dict[str, float]:
        """Returns the mean `loss_name` of each shortcut, by name, where targets are numbers."""
        return {}

    @property
    def loss_name(self) -> str:
        """The name of a model's loss on its targets."""
        if self.distributions:
            return "KL divergence"
        return "cross-entropy" if self.tolerance is None else "mean squared error"

    def stored(self) -> Stored | None:
        """Returns what every state must hold, see `experiments/analysis/state_capacity.py`; None claims no bound."""
        return None

    def is_right(self, answers: Any, targets: Any) -> Any:
        """Returns, for arrays of one shape, where an answer counts as right."""
        if self.tolerance is None:
            return answers == targets
        apart = abs(answers - targets)
        return (apart.sum(axis=-1) / 2 if self.distributions else apart) <= self.tolerance

    def correct(self, answers: Any, batch: Batch) -> Any:
        """Returns where answers [batch, scored] count as right: the target, or a token of `also_right`."""
        right = self.is_right(answers, batch.targets)
        return right if batch.also_right is None else right | (answers[..., None] == batch.also_right).any(axis=-1)

    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Returns, per target, the accuracy of the best guess by a model that has not seen all of its evidence."""
        return np.full(np.shape(batch.weights), 1 / self.open_answers)

    def training_batch(self, batch: Batch) -> Batch:
        """Returns what to train on: the scored targets, unless the task trains on more tokens, see `next_tokens`."""
        return batch

    def facts(self) -> dict[str, Any]:
        """Returns what results and figures need to know about the task, as JSON-able values."""
        return {
            "name": type(self).__name__,
            "fields": dataclasses.asdict(self),
            "train_length": self.train_length,
            "tolerance": self.tolerance,
            "distributions": self.distributions,
            "loss_floor": min(self.loss_floors().values(), default=None),
            "slice_labels": dict(self.slice_labels),
        }

    def token_text(self, token: int) -> str:
        """Returns a token as people read it."""
        return str(token)

    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Returns (token text, role) per input.

        The role is one of "key", "value", "query", "filler", "marker", and "answer" for what is read after a marker.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement `describe_row`.")

    def describe_context(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Returns (text, role) per position of the context, as `describe_row` does."""
        return []

    def image(self, batch: Batch, row: int) -> UInt8[np.ndarray, "height width 3"] | None:
        """Returns the picture that a row, or its context, is made from, if there is one."""
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixedLength(Task):
    """A task whose rows all have `length` tokens. Subclasses repeat the field to give it a default."""

    length: int

    @property
    @override
    def input_length(self) -> int:
        return self.length

    @override
    def at_length(self, length: int) -> Self:
        return dataclasses.replace(self, length=length)


def next_tokens(batch: Batch, weights: Float[Array, "batch scored"]) -> Batch:
    """Returns the rows of `batch` with every token but the first as a target, read out one position earlier.

    Args:
      batch: rows of a task.
      weights: one per token but the first.
    """
    rows, length = batch.inputs.shape
    positions = jnp.broadcast_to(jnp.arange(length - 1, dtype=jnp.int32)[None], (rows, length - 1))
    no_evidence = jnp.full((rows, length - 1, 1), -1, jnp.int32)  # evidence is only needed for scored targets
    return Batch(batch.inputs, batch.inputs[:, 1:], positions, weights, no_evidence, slices={}, context=batch.context)


def check_size(name: str, value: Any, minimum: int) -> None:
    """Raises ValueError unless `value`, a length, count or vocabulary, is an integer in [minimum, LARGEST_SIZE]."""
    check_integer(name, value, minimum, LARGEST_SIZE)


def check_even(name: str, value: int) -> None:
    """Raises ValueError unless `value` is even."""
    if value % 2:
        raise ValueError(f"`{name}` must be even; got {value}.")
