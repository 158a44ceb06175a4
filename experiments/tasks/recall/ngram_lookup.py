"""N-gram lookup: say what follows some tokens of a string, which are given after the string or before it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size

_MARKER = 0
_KEYS = ("suffix", "prefix")
_FLOOR_ROWS = 8192  # for the measured floors: to two digits


@dataclasses.dataclass(frozen=True, kw_only=True)
class NgramLookup(FixedLength):
    """What follows an n-gram in a string of random tokens.

    With `length=14, size=2, answer_length=3`, and with `length=15, key=prefix`; "|" is the marker, id 0::

        5 2 7 2 9 4 3 8 6 | 2 9 4 3
                              4 3 8   <- targets

        2 9 | 5 2 7 2 9 4 3 8 6 | 4 3
                                4 3 8   <- targets

    Tokens are uniform over ids 1..vocab_size - 1. The key is an n-gram of the string, of `size` tokens, that occurs
    nowhere else in it. String and place are drawn together: all pairs of them for which this holds, and in which
    `answer_length` tokens follow, are equally likely. The tokens after the n-gram are the answer. It is read from the
    key's last token on, or from the second marker on, with its earlier tokens given; its last one is not in the row.

    If the key follows the string, everything must be kept; if it comes first, it can be matched on the way. The
    evidence for each token of the answer is its place in the string. The slice `depth` is the tenth of the string that
    contains it, 0..9. A model that has not seen it can rule out tokens that would make the key occur twice.

    References:
      Jelassi et al. 2024, "Repeat after me", arXiv:2402.01032, section 4 and their code, where rows also have a token
      at each end, several examples share a row of training, and the n-gram may occur again. Their n-grams that occur
      twice are a test of copying: `duplicate_ngram`.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "n-gram lookup: say what follows some given tokens of a string"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "depth": "depth of the answer, in tenths of the string",
        "order": "token of the answer, from 0",
    }

    length: int = 64  # tokens per row
    vocab_size: int = 27  # the marker and the kinds of tokens
    size: int = 2  # tokens of the n-gram
    answer_length: int = 4  # tokens that are asked for
    key: str = "suffix"  # suffix: the n-gram is given after the string; prefix: before it

    def __post_init__(self) -> None:
        for name, minimum in (("length", 4), ("vocab_size", 3), ("size", 1), ("answer_length", 1)):
            check_size(name, getattr(self, name), minimum)
        if self.key not in _KEYS:
            raise ValueError(f"`key` must be one of {', '.join(_KEYS)}; got {self.key!r}.")
        shortest = 2 * (self.size + self.answer_length) + (self.key == "prefix")
        if self.length < shortest:
            raise ValueError(f"`length` must be at least {shortest} for this key and answer; got {self.length}.")
        if self.num_kinds**self.size < self.string_length:
            raise ValueError(
                f"`vocab_size` must have at least as many n-grams of {self.size} tokens as the string has tokens, "
                f"{self.string_length}; {self.vocab_size} has {self.num_kinds**self.size}."
            )

    @property
    def num_kinds(self) -> int:
        """Kinds of tokens."""
        return self.vocab_size - 1

    @property
    def string_length(self) -> int:
        """Tokens of the string."""
        return self.length - self.size - self.answer_length - (self.key == "prefix")

    @property
    def string_start(self) -> int:
        """Position of the string's first token."""
        return self.size + 1 if self.key == "prefix" else 0

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        string, place = self._draw(rng, batch_size)
        following = place + self.size + jnp.arange(self.answer_length, dtype=jnp.int32)[None]
        key, answer = self._ngram(string, place), jnp.take_along_axis(string, following, axis=1)
        marker = jnp.full((batch_size, 1), _MARKER, jnp.int32)
        parts = [string, marker, key] if self.key == "suffix" else [key, marker, string, marker]
        first = self.length - self.answer_length
        positions = jnp.broadcast_to(first + jnp.arange(self.answer_length, dtype=jnp.int32)[None], answer.shape)
        evidence = self.string_start + following
        return Batch(
            inputs=jnp.concatenate([*parts, answer[:, :-1]], axis=1),
            targets=answer,
            positions=positions,
            weights=jnp.ones(answer.shape, jnp.float32),
            evidence=evidence[..., None],
            slices={
                "distance": positions - evidence,
                "depth": 10 * following // self.string_length,
                "order": positions - first,
            },
        )

    def _draw(self, rng: PRNGKeyArray, batch_size: int) -> tuple[Array, Array]:
        """Returns strings, and where their n-grams begin [batch, 1]; draws again where one occurs twice."""
        places = self.string_length - self.size - self.answer_length + 1

        def again(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            step, once, string, place = carry
            token_rng, place_rng = jax.random.split(jax.random.fold_in(rng, step))
            new = jax.random.randint(token_rng, string.shape, 1, self.vocab_size, jnp.int32)
            string = jnp.where(once, string, new)
            place = jnp.where(once, place, jax.random.randint(place_rng, place.shape, 0, places, jnp.int32))
            return step + 1, self._count(string, self._ngram(string, place)) == 1, string, place

        start = jnp.zeros((batch_size, self.string_length), jnp.int32), jnp.zeros((batch_size, 1), jnp.int32)
        carry = (jnp.int32(0), jnp.zeros((batch_size, 1), bool), *start)
        return jax.lax.while_loop(lambda carry: ~carry[1].all(), again, carry)[2:]

    def _ngram(self, string: Array, place: Array) -> Int[Array, "batch size"]:
        return jnp.take_along_axis(string, place + jnp.arange(self.size, dtype=jnp.int32)[None], axis=1)

    def _count(self, string: Array, ngram: Array) -> Int[Array, "batch 1"]:
        """Returns how often an n-gram occurs."""
        windows = self.string_length - self.size + 1
        same = [string[:, i : i + windows] == ngram[:, i : i + 1] for i in range(self.size)]
        return functools.reduce(jnp.logical_and, same).sum(axis=1, keepdims=True, dtype=jnp.int32)

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Scans the string from its beginning for the n-gram."""
        answers = []
        for row in np.asarray(batch.inputs).tolist():
            end = row.index(_MARKER, self.string_start)
            string = row[self.string_start : end]
            key = row[: self.size] if self.key == "prefix" else row[end + 1 : end + 1 + self.size]
            found = next(start for start in range(len(string)) if string[start : start + self.size] == key)
            answer = string[found + self.size : found + self.size + self.answer_length]
            answers.append(answer + [0] * (self.answer_length - len(answer)))
        return np.array(answers)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing without looking; and, over a fixed large sample, shortcuts that match less than the n-gram."""
        floors = {
            "guess a token": 1 / self.num_kinds,
            "guess the string's most frequent token": _after_last(self, 0),
        }
        if self.size > 1:
            floors["match one token less, and answer with what most often follows"] = _after_last(self, self.size - 1)
        return floors

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Tokens are independent, except that none may make the n-gram occur once more."""
        string = np.asarray(batch.inputs)[:, self.string_start : self.string_start + self.string_length]
        place = np.asarray(batch.evidence)[:, 0] - self.string_start - self.size
        key = np.take_along_axis(string, place + np.arange(self.size), axis=1)
        unseen = np.asarray(batch.evidence)[..., 0] - self.string_start
        excluded = np.zeros((*unseen.shape, self.vocab_size), bool)
        rows, columns = np.arange(len(unseen))[:, None], np.arange(self.answer_length)[None]
        for i in range(self.size):  # the unseen token would be token i of the key
            tokens = unseen[..., None] - i + np.arange(self.size)
            inside = (tokens[..., 0] > place) & (tokens[..., -1] < self.string_length)
            around = string[rows[..., None], np.clip(tokens, 0, self.string_length - 1)] == key[:, None]
            around[..., i] = True
            excluded[rows, columns, key[:, i : i + 1]] |= inside & around.all(axis=2)
        return 1.0 / (self.num_kinds - excluded.sum(axis=2))

    @override
    def token_text(self, token: int) -> str:
        """The marker "|"; other tokens by their ids."""
        return "|" if token == _MARKER else str(token)

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """A string with the n-gram and the answer in it, the key before or after it, and the given answer."""
        roles = ["filler"] * self.string_length
        answer = int(batch.evidence[row, 0, 0]) - self.string_start
        roles[answer - self.size : answer] = ["key"] * self.size
        roles[answer : answer + self.answer_length] = ["value"] * self.answer_length
        key, given = ["query"] * self.size, ["answer"] * (self.answer_length - 1)
        parts = [*roles, "marker", *key] if self.key == "suffix" else [*key, "marker", *roles, "marker"]
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        return list(zip(texts, [*parts, *given], strict=True))


@functools.cache
def _after_last(task: NgramLookup, size: int) -> float:
    """Returns how often what most often follows the last `size` tokens is right; ties are split evenly."""
    sample = jax.jit(lambda rng: task.sample(rng, _FLOOR_ROWS))
    batch = jax.tree.map(np.asarray, sample(jax.random.key(0)))
    string = batch.inputs[:, task.string_start : task.string_start + task.string_length]
    key = batch.inputs[:, : task.size] if task.key == "prefix" else batch.inputs[:, task.string_length + 1 :]
    read = np.concatenate([key[:, : task.size], batch.targets], axis=1)
    starts, right = task.string_length - size, 0.0
    for token in range(task.answer_length):
        last = read[:, task.size + token - size : task.size + token]
        same: Bool[np.ndarray, "rows starts"] = np.ones((len(string), starts), bool)
        for i in range(size):
            same &= string[:, i : i + starts] == last[:, i : i + 1]
        counts = np.zeros((len(string), task.vocab_size))
        np.add.at(counts, (np.arange(len(string))[:, None], string[:, size:]), same)
        most = counts.max(axis=1, keepdims=True)
        said = np.take_along_axis(counts, batch.targets[:, token : token + 1], axis=1) == most
        right += float((said[:, 0] / (counts == most).sum(axis=1)).mean())
    return right / task.answer_length
