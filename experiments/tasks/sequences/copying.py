"""Copying, reversing and sorting: a prefix, a marker, then the prefix again in some order."""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, Stored, check_even, check_size

_MARKER = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription(FixedLength):
    """A prefix of length / 2 tokens, uniform over ids 1..vocab_size - 1, the marker, id 0, and an equally long answer.

    The answer is read from the marker on, with its earlier tokens given; its last token is not in the row. Reading in
    both directions would give the answer away.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"order": "answer of the row, from 0"}

    length: int = 64  # tokens per row, even: half of them prefix
    vocab_size: int = 16  # the marker and at least 2 others

    def __post_init__(self) -> None:
        check_size("length", self.length, 2)
        check_size("vocab_size", self.vocab_size, 3)
        check_even("length", self.length)

    @property
    def num_kinds(self) -> int:
        """Kinds of tokens in prefix and answer."""
        return self.vocab_size - 1

    @abc.abstractmethod
    def _answer(self, prefix: Int[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
        """Returns the answer."""

    @abc.abstractmethod
    def _sources(self, size: int) -> Int[np.ndarray, "tokens n"]:
        """Returns the places of the prefix that decide each token of the answer."""

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        shape = (batch_size, self.length // 2)
        prefix = self._draw_prefix(rng, batch_size)
        answer = self._answer(prefix)
        order = jnp.arange(shape[1], dtype=jnp.int32)
        sources = jnp.asarray(self._sources(shape[1]), jnp.int32)
        distance = shape[1] + order - sources.max(axis=1)
        return Batch(
            inputs=jnp.concatenate([prefix, jnp.full_like(prefix[:, :1], _MARKER), answer[:, :-1]], axis=1),
            targets=answer,
            positions=jnp.broadcast_to(shape[1] + order, shape),
            weights=jnp.ones(shape, jnp.float32),
            evidence=jnp.broadcast_to(sources, (*shape, sources.shape[1])),
            slices={"distance": jnp.broadcast_to(distance, shape), "order": jnp.broadcast_to(order, shape)},
        )

    def _draw_prefix(self, rng: PRNGKeyArray, batch_size: int) -> Int[Array, "batch tokens"]:
        """Draws prefixes of length / 2 tokens."""
        return jax.random.randint(rng, (batch_size, self.length // 2), 1, self.vocab_size, jnp.int32)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing without looking, and answering everywhere with the row's most frequent token."""
        size = self.length // 2
        most_frequent = sampling.expected_highest_count(size, self.num_kinds) / size
        return {"guess a token": 1 / self.num_kinds, "guess the prefix's most frequent token": most_frequent}

    @property
    @override
    def open_answers(self) -> int:
        """Tokens are independent: the others reveal nothing about one that is unseen."""
        return self.num_kinds

    @override
    def stored(self) -> Stored | None:
        """The prefix, at the marker; given answers reveal only themselves."""
        return Stored.independent(self.length // 2, self.num_kinds)

    @override
    def token_text(self, token: int) -> str:
        """The marker "|"; other tokens by their ids."""
        return "|" if token == _MARKER else str(token)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Prefix, marker, answer, and padding."""
        size = int(np.sum(batch.weights[row]))
        roles = ["value"] * size + ["marker"] + ["answer"] * (size - 1)
        texts = [self.token_text(int(token)) for token in batch.inputs[row][: 2 * size]]
        return [*zip(texts, roles, strict=True), *[(".", "filler")] * (self.length - 2 * size)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copying(Transcription):
    """Copying.

    With `length=8`; "|" is the marker, id 0::

        5 2 7 2 | 5 2 7
                5 2 7 2   <- targets

    The prefix is length / 2 tokens, uniform over ids 1..vocab_size - 1. The answer is read from the marker on, with its
    earlier tokens given. The evidence for each token is its place in the prefix, always half the row earlier.

    With `min_length`, every row draws a length, uniform over the even numbers min_length..length, and is padded to the
    longest with the marker. The slice `length` is that of the row. Papers score whole strings: `row_accuracy`.

    References:
      Jelassi et al. 2024, "Repeat after me", arXiv:2402.01032, whose rows have a token more at each end, and hold
      several examples in training.
    """

    summary: ClassVar[str] = "copying: repeat the prefix"
    slice_labels: ClassVar[Mapping[str, str]] = {
        **Transcription.slice_labels,
        "length": "tokens in the row",
    }

    min_length: int = 0  # tokens of the shortest rows, even; 0: all rows have `length`

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("min_length", self.min_length, 0)
        if self.min_length:
            check_even("min_length", self.min_length)
            check_size("length", self.length, self.min_length)

    @property
    def prefix_sizes(self) -> Int[np.ndarray, " sizes"]:
        """The numbers of tokens in a prefix, all equally likely."""
        return np.arange((self.min_length or self.length) // 2, self.length // 2 + 1)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        if not self.min_length:
            return super().sample(rng, batch_size)
        size_rng, token_rng = jax.random.split(rng)
        size = jax.random.randint(size_rng, (batch_size, 1), self.prefix_sizes[0], self.prefix_sizes[-1] + 1, jnp.int32)
        prefix = self._draw_prefix(token_rng, batch_size)
        order = jnp.arange(prefix.shape[1], dtype=jnp.int32)[None]
        column = jnp.arange(self.length, dtype=jnp.int32)[None]
        source = jnp.where(column < size, column, column - size - 1)
        inputs = jnp.take_along_axis(prefix, jnp.clip(source, 0, prefix.shape[1] - 1), axis=1)
        asked = order < size
        slices = {"distance": size + 0 * order, "order": order + 0 * size, "length": 2 * size + 0 * order}
        return Batch(
            inputs=jnp.where((column == size) | (column >= 2 * size), _MARKER, inputs),
            targets=jnp.where(asked, prefix, 0),
            positions=jnp.where(asked, size + order, 0),
            weights=asked.astype(jnp.float32),
            evidence=jnp.where(asked, order, -1)[..., None],
            slices={name: jnp.where(asked, value, 0) for name, value in slices.items()},
        )

    @override
    def floors(self) -> dict[str, float]:
        """The same; and, where lengths differ, copying from the likeliest place, given the position alone."""
        most = [sampling.expected_highest_count(int(size), self.num_kinds) for size in self.prefix_sizes]
        return {
            "guess a token": 1 / self.num_kinds,
            "guess the prefix's most frequent token": float(np.sum(most) / np.sum(self.prefix_sizes)),
            **({"copy by the position alone": _by_position(self)} if self.min_length else {}),
        }

    @override
    def stored(self) -> Stored | None:
        """The prefix, at the marker; given answers reveal only themselves."""
        return Stored.independent(float(np.mean(self.prefix_sizes)), self.num_kinds)

    @override
    def at_length(self, length: int) -> Self:
        """Rows of that length only."""
        return dataclasses.replace(self, length=length, min_length=0)

    @override
    def at_lengths(self, shortest: int, longest: int) -> Self:
        return dataclasses.replace(self, length=longest, min_length=shortest)

    @override
    def _answer(self, prefix: Int[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
        return prefix

    @override
    def _sources(self, size: int) -> Int[np.ndarray, "tokens n"]:
        return np.arange(size)[:, None]

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Takes the tokens before the marker."""
        prefixes = [row[: row.index(_MARKER)] for row in np.asarray(batch.inputs).tolist()]
        return np.array([prefix + [0] * (self.length // 2 - len(prefix)) for prefix in prefixes])


def _by_position(task: Copying) -> float:
    """Returns how often the likeliest place to copy from at each position is right.

    At position p of a row with a prefix of s tokens, place p - s is due, s holds the marker, and all others any token.
    """
    sizes, right = task.prefix_sizes, 0.0
    for position in range(int(sizes[0]), 2 * int(sizes[-1])):
        here = sizes[(sizes <= position) & (position < 2 * sizes)]
        place = np.arange(position)[:, None]
        chances = np.where(place == position - here, 1.0, np.where(place == here, 0.0, 1 / task.num_kinds))
        right += max(chances.sum(axis=1).max(), len(here) / task.num_kinds) if len(here) else 0.0
    return float(right / sizes.sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reverse(Transcription):
    """Copying backwards.

    With `length=8`; "|" is the marker, id 0::

        5 2 7 2 | 2 7 2
                2 7 2 5   <- targets

    Like `Copying`, but from the prefix's last token to its first: the later a token of the answer, the further back its
    evidence, at distances 1, 3, 5 ...
    """

    summary: ClassVar[str] = "reverse: repeat the prefix backwards"

    @override
    def _answer(self, prefix: Int[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
        return prefix[:, ::-1]

    @override
    def _sources(self, size: int) -> Int[np.ndarray, "tokens n"]:
        return np.arange(size)[::-1, None]

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Takes the tokens before the marker, backwards."""
        return np.array([row[: row.index(_MARKER)][::-1] for row in np.asarray(batch.inputs).tolist()])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sorting(Transcription):
    """Sorting.

    With `length=8`; "|" is the marker, id 0::

        5 2 7 2 | 2 2 5
                2 2 5 7   <- targets

    Like `Copying`, but in ascending order. The evidence for each token is the whole prefix, although missing one of its
    tokens rarely changes much: `guess_rate` is high.
    """

    summary: ClassVar[str] = "sorting: repeat the tokens of the prefix in ascending order"
    every_change_counts: ClassVar[bool] = False  # it moves only some of the answers

    @override
    def _answer(self, prefix: Int[Array, "batch tokens"]) -> Int[Array, "batch tokens"]:
        return jnp.sort(prefix, axis=1)

    @override
    def _sources(self, size: int) -> Int[np.ndarray, "tokens n"]:
        return np.tile(np.arange(size), (size, 1))

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Sorts the tokens before the marker."""
        return np.array([sorted(row[: row.index(_MARKER)]) for row in np.asarray(batch.inputs).tolist()])

    @override
    def stored(self) -> None:
        """No bound: sorted tokens have fewer bits, and each answer says something about the next ones."""

    @override
    def floors(self) -> dict[str, float]:
        """As for copying; and, by place, the best of the likeliest token, a copy, and the answer before."""
        return super().floors() | {"answer or copy by the place alone": _by_place(self)}

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """The rate of a model that has missed one token of the prefix: the first, which stands in for any.

        That token is known once an answer is none of the others. Until then it is at least as large as the answers so
        far, and all such tokens are equally likely. The best guess is the next of the others, which is right unless the
        missing token is smaller; when the others are used up, it is any such token.
        """
        size = self.length // 2
        answers = np.asarray(batch.targets)
        others = np.sort(np.asarray(batch.inputs)[:, 1:size], axis=1)
        known = np.cumsum(answers[:, :-1] != others, axis=1) > 0
        known = np.pad(known, ((0, 0), (1, 0)))
        smallest = np.pad(answers[:, :-1], ((0, 0), (1, 0)), constant_values=1)
        guess = np.pad(others, ((0, 0), (0, 1)), constant_values=self.num_kinds)
        return np.where(known, 1.0, (self.num_kinds + 1 - guess) / (self.num_kinds + 1 - smallest))


@functools.cache
def _by_place(task: Sorting) -> float:
    """Returns the accuracy of the best guess at each place: its likeliest token, a copy, or the answer before.

    Answer j and the one before are both v if at most j - 1 tokens are below v and at least j + 1 are at most v.
    """
    size, kinds = task.length // 2, task.num_kinds
    place, below = np.arange(1, size)[:, None], np.arange(size + 1)[None]
    again = np.zeros(size)
    for v in range(kinds):
        enough = scipy.stats.binom.sf(place - below, size - below, 1 / (kinds - v))  # of those that are not below v
        again[1:] += (scipy.stats.binom.pmf(below, size, v / kinds) * enough * (below < place)).sum(axis=1)
    return float(np.maximum(sampling.right_when_sorted(size, kinds), again).mean())
