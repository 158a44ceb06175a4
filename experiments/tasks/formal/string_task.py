"""What tasks on strings of varying length share: a string, a marker, and an answer that is never fed back."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, Task, check_size

BLANK, MARKER, FIRST_SYMBOL = 0, 1, 2


class Strings(NamedTuple):
    """Strings with their answers. Symbols are numbered from 0; those beyond the end of either are ignored."""

    symbols: Int[Array, "batch max_length"]
    answer: Int[Array, "batch answer_length"]
    asked: Int[Array, "batch 1"]  # symbols in the answer
    evidence: Int[Array, "batch answer_length n"]  # -1 padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class StringTask(Task):
    """A task on strings whose length is uniform over min_length..max_length.

    A string is followed by a marker "=" and blanks "." up to `input_length`. A class is read at the marker, the j-th
    symbol of a longer answer at the j-th blank after it: the model sees neither its own answers nor the right ones. By
    default, training uses lengths up to 40; a test on longer ones is the same task with other bounds, compiled once for
    all lengths between them. Ids: 0 is the blank, 1 the marker, then the symbols.

    References:
      Deletang et al. 2023, "Neural networks and the Chomsky hierarchy", arXiv:2207.02098, section 4 and appendix A.
    """

    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"length": "length of the string"}
    rows_repeat: ClassVar[bool] = True
    shortest: ClassVar[int] = 1  # length of the shortest string that has a question
    step: ClassVar[int] = 1  # lengths are shortest + a multiple of it; others that are drawn are rounded down
    at_marker: ClassVar[bool] = True  # whether the answer is one symbol, read at the marker
    commands: ClassVar[frozenset[str]] = frozenset()  # symbols that are not data

    min_length: int = 1  # symbols in a string
    max_length: int = 40

    def __post_init__(self) -> None:
        check_size("min_length", self.min_length, self.shortest)
        check_size("max_length", self.max_length, self.min_length)

    @property
    @abc.abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """The text of each symbol, including those that occur only in answers."""

    @abc.abstractmethod
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Draws a string of each length, its answer and its evidence."""

    @abc.abstractmethod
    def solution(self, string: list[int]) -> list[int]:
        """Returns the answer to a string's symbols, for `solve`."""

    @property
    def answer_length(self) -> int:
        """Symbols in the longest answer."""
        return 1

    @property
    @override
    def vocab_size(self) -> int:
        """Blank, marker and symbols."""
        return FIRST_SYMBOL + len(self.symbols)

    @property
    @override
    def input_length(self) -> int:
        """The longest string, the marker, and blanks to read the answer at."""
        return self.max_length + 1 + (0 if self.at_marker else self.answer_length)

    def lengths(self) -> Iterator[int]:
        """Yields equally likely lengths of strings, some of them more than once."""
        return (n - (n - self.shortest) % self.step for n in range(self.min_length, self.max_length + 1))

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        length_rng, string_rng = jax.random.split(rng)
        length = jax.random.randint(length_rng, (batch_size, 1), self.min_length, self.max_length + 1, jnp.int32)
        length -= (length - self.shortest) % self.step
        drawn = self.draw(string_rng, length)
        column = jnp.arange(self.input_length, dtype=jnp.int32)[None]
        symbols = jnp.pad(drawn.symbols, ((0, 0), (0, self.input_length - self.max_length))).astype(jnp.int32)
        inputs = jnp.where(column < length, FIRST_SYMBOL + symbols, jnp.where(column == length, MARKER, BLANK))
        order = jnp.arange(self.answer_length, dtype=jnp.int32)[None]
        asked = order < drawn.asked
        positions = jnp.where(asked, length + order + (0 if self.at_marker else 1), 0)
        evidence = jnp.where(asked[..., None], drawn.evidence, -1).astype(jnp.int32)
        distance = positions - evidence.max(axis=2)
        return Batch(
            inputs=inputs,
            targets=jnp.where(asked, FIRST_SYMBOL + drawn.answer, 0).astype(jnp.int32),
            positions=positions,
            weights=asked.astype(jnp.float32),
            evidence=evidence,
            slices={"length": jnp.where(asked, length, 0), "distance": jnp.where(asked, distance, 0)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Cuts each row at its marker and solves the string."""
        answers = np.zeros(np.shape(batch.positions), np.int32)
        for row, tokens in enumerate(np.asarray(batch.inputs).tolist()):
            answer = self.solution([token - FIRST_SYMBOL for token in tokens[: tokens.index(MARKER)]])
            answers[row, : len(answer)] = np.asarray(answer) + FIRST_SYMBOL
        return answers

    @property
    @override
    def train_length(self) -> float:
        return float(self.max_length)

    @override
    def at_length(self, length: int) -> Self:
        """Strings of that length only; raises ValueError if the task has no strings of that length, see `step`."""
        at = dataclasses.replace(self, min_length=length, max_length=length)
        if length not in at.lengths():
            lengths = f"{self.shortest} + a multiple of {self.step}"
            raise ValueError(f"the task has no strings of that length; `length` must be {lengths}; got {length}.")
        return at

    @override
    def at_lengths(self, shortest: int, longest: int) -> Self:
        return dataclasses.replace(self, min_length=shortest, max_length=longest)

    @override
    def token_text(self, token: int) -> str:
        """Blank ".", marker "=", and the text of symbols."""
        return (".", "=", *self.symbols)[token]

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The string's data and commands, the marker, then blanks, at some of which answers are read."""
        asking = set(np.asarray(batch.positions[row])[np.asarray(batch.weights[row]) > 0].tolist())
        described = []
        for column, token in enumerate(np.asarray(batch.inputs[row]).tolist()):
            text = self.token_text(token)
            role = {BLANK: "query" if column in asking else "filler", MARKER: "marker"}.get(token, "value")
            described.append((text, "key" if role == "value" and text in self.commands else role))
        return described


def whole_string(length: Int[Array, "batch 1"], max_length: int, answer_length: int = 1) -> Int[Array, "batch a n"]:
    """Returns every position of the string as evidence of every answer."""
    column = jnp.arange(max_length, dtype=jnp.int32)[None]
    every = jnp.where(column < length, column, -1)[:, None]
    return jnp.broadcast_to(every, (len(length), answer_length, max_length))


def one_class(answer: Int[Array, " batch"], evidence: Int[Array, "batch 1 n"], symbols: Array) -> Strings:
    """Returns strings whose answer is one symbol."""
    return Strings(symbols, answer[:, None], jnp.ones((len(answer), 1), jnp.int32), evidence)
