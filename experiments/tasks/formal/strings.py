"""Rewriting strings: reverse, duplicate, the missing half of a duplicate, odd places first, and sorting by kind."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import Batch, Stored, check_size
from experiments.tasks.formal.string_task import FIRST_SYMBOL, Strings, StringTask, one_class, whole_string


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rewriting(StringTask):
    """Uniform symbols; each symbol of the answer is one of them."""

    at_marker: ClassVar[bool] = False

    num_symbols: int = 2  # kinds of symbols

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("num_symbols", self.num_symbols, 2)

    @property
    @override
    def symbols(self) -> tuple[str, ...]:
        """Numbers from 0."""
        return tuple(str(symbol) for symbol in range(self.num_symbols))

    @property
    @override
    def answer_length(self) -> int:
        """As many symbols as the longest string has."""
        return self.max_length

    @property
    @override
    def open_answers(self) -> int:
        """Symbols are independent: the others reveal nothing about one that is unseen."""
        return self.num_symbols

    def source(self, order: Int[Array, "1 answer_length"], length: Int[Array, "batch 1"]) -> Int[Array, "batch a"]:
        """Returns the positions in the string of the answer's symbols."""
        raise NotImplementedError

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Draws symbols and looks up those of the answer."""
        symbols = jax.random.randint(rng, (len(length), self.max_length), 0, self.num_symbols, jnp.int32)
        source = self.source(jnp.arange(self.answer_length, dtype=jnp.int32)[None], length)
        answer = jnp.take_along_axis(symbols, jnp.clip(source, 0, self.max_length - 1), axis=1)
        count = length * (self.answer_length // self.max_length)
        return Strings(symbols, answer, count, source[..., None])

    @override
    def stored(self) -> Stored | None:
        """The string, at the marker. The mean length bounds the mean accuracy over strings of all lengths."""
        lengths = list(self.lengths())
        return Stored.independent(sum(lengths) / len(lengths), self.num_symbols)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, the string's most frequent symbol, and copying from positions that do not depend on its length.

        If all strings have the same length, copying from fixed positions is no shortcut, but the task itself.
        """
        lengths = list(self.lengths())
        most_frequent = sum(sampling.expected_highest_count(n, self.num_symbols) for n in lengths) / sum(lengths)
        floors = {"guess a symbol": 1 / self.num_symbols, "guess the string's most frequent symbol": most_frequent}
        if len(set(lengths)) > 1 and self.open_answers > 1:
            floors["copy from a fixed position, whatever the length"] = _from_fixed_positions(self)
        return floors


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseString(_Rewriting):
    """Reverse a string.

    With `max_length=6, num_symbols=2`; "=" is the marker, "." a blank::

        0  1  1  1  =  .  .  .  .  .  .  .  .
                       1  1  1  0              <- targets

    Symbols are uniform over `num_symbols` kinds. The evidence for the j-th answer is the j-th symbol from the end.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "reverse string".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "reverse string: repeat a string backwards"

    @override
    def source(self, order: Int[Array, "1 answer_length"], length: Int[Array, "batch 1"]) -> Int[Array, "batch a"]:
        """From the end."""
        return length - 1 - order

    @override
    def solution(self, string: list[int]) -> list[int]:
        return string[::-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuplicateString(_Rewriting):
    """Repeat a string twice.

    With `max_length=4, num_symbols=2`; "=" is the marker, "." a blank::

        0  1  1  =  .  .  .  .  .  .  .  .  .
                    0  1  1  0  1  1           <- targets

    Symbols are uniform over `num_symbols` kinds. The evidence for the j-th answer is symbol j, modulo the string's
    length.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "duplicate string".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "duplicate string: repeat a string twice"

    @property
    @override
    def answer_length(self) -> int:
        """Twice the longest string."""
        return 2 * self.max_length

    @override
    def source(self, order: Int[Array, "1 answer_length"], length: Int[Array, "batch 1"]) -> Int[Array, "batch a"]:
        """From the start, twice."""
        return order % length

    @override
    def solution(self, string: list[int]) -> list[int]:
        return 2 * string


@dataclasses.dataclass(frozen=True, kw_only=True)
class OddsFirst(_Rewriting):
    """Repeat the symbols at odd places, then those at even places.

    With `max_length=6, num_symbols=2`; "=" is the marker, "." a blank::

        0  0  1  1  1  =  .  .  .  .  .  .  .
                          0  1  0  1  1        <- targets

    Places count from 0, as in the published code; the paper's text counts from 1. Symbols are uniform over
    `num_symbols` kinds. The evidence for each answer is its symbol.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "odds first".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "odds first: repeat the symbols at odd places, then those at even ones"

    @override
    def source(self, order: Int[Array, "1 answer_length"], length: Int[Array, "batch 1"]) -> Int[Array, "batch a"]:
        """Odd places, then even ones."""
        odds = length // 2
        return jnp.where(order < odds, 2 * order + 1, 2 * (order - odds))

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Slices twice."""
        return string[1::2] + string[::2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketSort(_Rewriting):
    """Sort a string over a few kinds of symbols.

    With `max_length=7, num_symbols=5`; "=" is the marker, "." a blank::

        4  0  2  0  4  1  =  .  .  .  .  .  .  .  .
                             0  0  1  2  4  4        <- targets

    Symbols are uniform over `num_symbols` kinds. The evidence for every answer is the whole string. A single unseen
    symbol changes few answers, so no bound is claimed for models that see only a part.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "bucket sort".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "bucket sort: repeat a string's symbols in order of their kind"
    every_change_counts: ClassVar[bool] = False
    open_answers = 1

    num_symbols: int = 5

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Draws symbols and sorts those within the string."""
        symbols = jax.random.randint(rng, (len(length), self.max_length), 0, self.num_symbols, jnp.int32)
        inside = jnp.arange(self.max_length, dtype=jnp.int32)[None] < length
        answer = jnp.sort(jnp.where(inside, symbols, self.num_symbols), axis=1)
        return Strings(symbols, answer, length, whole_string(length, self.max_length, self.answer_length))

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Counts each kind."""
        return [kind for kind in range(self.num_symbols) for _ in range(string.count(kind))]

    @override
    def stored(self) -> None:
        """No bound: the number of symbols of each kind has fewer bits than the string."""

    @override
    def floors(self) -> dict[str, float]:
        """As for the others, and the likeliest symbol for each length and place, or a copy of any one symbol."""
        lengths = list(self.lengths())
        right = sum(float(sampling.right_when_sorted(length, self.num_symbols).sum()) for length in lengths)
        return super().floors() | {"answer or copy by the length and the place alone": right / sum(lengths)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingDuplicate(StringTask):
    """A string appears twice, with one symbol hidden: which one?

    With `max_length=10`; "_" is hidden, "=" the marker, "." a blank::

        0  1  1  0  0  1  _  0  =  .  .
                                1        <- target

    Bits are uniform, and so is the hidden place. A string has an even length: an odd one, if drawn, is rounded down
    (the published code pads it with a fourth symbol). The evidence is the hidden symbol's other copy; all other symbols
    reveal nothing about it.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "missing duplicate".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "missing duplicate: predict the hidden symbol of a string that appears twice"
    shortest: ClassVar[int] = 2
    step: ClassVar[int] = 2
    symbols = tuple("01_")
    open_answers = 2

    min_length: int = 2

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Draws a string, repeats it and hides one place."""
        string_rng, place_rng = jax.random.split(rng)
        string = jax.random.randint(string_rng, (len(length), self.max_length), 0, 2, jnp.int32)
        column = jnp.arange(self.max_length, dtype=jnp.int32)[None]
        twice = jnp.take_along_axis(string, column % (length // 2), axis=1)
        hidden = jax.random.randint(place_rng, length.shape, 0, length, jnp.int32)
        copy = (hidden + length // 2) % length
        answer = jnp.take_along_axis(twice, copy, axis=1)[:, 0]
        return one_class(answer, copy[:, None], jnp.where(column == hidden, self.symbols.index("_"), twice))

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Compares the halves, which are two copies of one string."""
        half = len(string) // 2
        first, second = string[:half], string[half:]
        return [min(pair) for pair in zip(first, second, strict=True) if 2 in pair]

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, and the row's most frequent bit: the hidden bit counts once, each of the others twice."""
        others = np.array([length // 2 - 1 for length in self.lengths()])
        rates = scipy.stats.binom.sf(
            (others - 1) // 2, others, 1 / 2
        )  # right if at least half of them equal the answer
        return {"guess a bit": 1 / 2, "guess the row's most frequent bit": float(np.mean(rates))}

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The value is the other copy of the hidden symbol, the key the place where it is hidden."""
        described = super().describe_row(batch, row)
        copy = int(batch.evidence[row, 0, 0])
        hidden = np.asarray(batch.inputs[row]).tolist().index(FIRST_SYMBOL + self.symbols.index("_"))
        roles = {copy: "value", hidden: "key"}
        return [(text, roles.get(c, "filler") if role == "value" else role) for c, (text, role) in enumerate(described)]


@functools.cache
def _from_fixed_positions(task: _Rewriting) -> float:
    """Returns the accuracy of copying each answer from the best position for its rank, or for its own position."""
    lengths = np.array(sorted(set(task.lengths())))
    order = np.arange(task.answer_length)
    source = np.asarray(task.source(jnp.asarray(order)[None], jnp.asarray(lengths)[:, None]))
    length = np.broadcast_to(lengths[:, None], source.shape)
    rank = np.broadcast_to(order[None], source.shape)
    asked = rank < length * (task.answer_length // task.max_length)
    places = rank, length + rank
    return max(sampling.best_copies(at[asked], source[asked], length[asked], task.num_symbols) for at in places)
