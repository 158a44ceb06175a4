"""Common words: which tokens occur most often?"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size

_FILLER, _ASK, _FIRST_WORD = 0, 1, 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonWords(FixedLength):
    """The most common words of a row.

    With `length=14, num_common=2, common_count=3, rare_count=1`; w8 is the word with id 8, "|" the marker, id 1::

        w8 w3 w5 w9 w3 w2 w8 w3 w4 w8 w7 w6 |  w3
                                            w3 w8   <- targets

    The context holds `num_common` words `common_count` times each, as many others as fit `rare_count` times each, and
    filler, id 0, in the few places left, all shuffled uniformly. Words are distinct and uniform over ids
    2..vocab_size - 1. After the marker, the common words are predicted by ascending id, with earlier ones given.

    The evidence for each is all of the context.

    References:
      Hsieh et al. 2024, "RULER", arXiv:2404.06654, section 3; published counts are 30 and 3, with 10 common words.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "common words: name the tokens that occur most often"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"order": "answer of the row, from 0"}
    every_change_counts: ClassVar[bool] = False  # one occurrence more or less rarely matters

    length: int = 128  # tokens per row
    vocab_size: int = 64  # filler, marker and words
    num_common: int = 3  # words to find
    common_count: int = 8  # occurrences of each of them
    rare_count: int = 2  # occurrences of each other word, fewer than common_count

    def __post_init__(self) -> None:
        check_size("length", self.length, 3)
        check_size("vocab_size", self.vocab_size, 4)
        check_size("num_common", self.num_common, 1)
        check_size("rare_count", self.rare_count, 1)
        check_size("common_count", self.common_count, self.rare_count + 1)
        shortest = self.num_common * (self.common_count + 1) + self.rare_count
        if self.length < shortest:
            raise ValueError(f"`length` must be at least {shortest} for these words; got {self.length}.")
        if self.vocab_size < _FIRST_WORD + self.num_words:
            raise ValueError(
                f"`vocab_size` must be at least {_FIRST_WORD + self.num_words} for {self.num_words} words; "
                f"got {self.vocab_size}."
            )

    @property
    def context_length(self) -> int:
        """Tokens before the marker."""
        return self.length - self.num_common

    @property
    def num_words(self) -> int:
        """Different words in a row."""
        return self.num_common + (self.context_length - self.num_common * self.common_count) // self.rare_count

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        word_rng, order_rng = jax.random.split(rng)
        shape = (batch_size, self.num_common)
        words = sampling.distinct(word_rng, batch_size, self.num_words, self.vocab_size - _FIRST_WORD) + _FIRST_WORD
        common, rare = words[:, : self.num_common], words[:, self.num_common :]
        context = [jnp.repeat(common, self.common_count, axis=1), jnp.repeat(rare, self.rare_count, axis=1)]
        num_fillers = self.context_length - sum(part.shape[1] for part in context)
        context.append(jnp.full((batch_size, num_fillers), _FILLER, jnp.int32))
        order = jnp.argsort(jax.random.bits(order_rng, (batch_size, self.context_length), jnp.uint32), axis=1)
        answers = jnp.sort(common, axis=1)
        inputs = [jnp.take_along_axis(jnp.concatenate(context, axis=1), order, axis=1)]
        inputs += [jnp.full((batch_size, 1), _ASK, jnp.int32), answers[:, :-1]]
        place = jnp.arange(self.num_common, dtype=jnp.int32)
        evidence = jnp.arange(self.context_length, dtype=jnp.int32)
        return Batch(
            inputs=jnp.concatenate(inputs, axis=1),
            targets=answers,
            positions=jnp.broadcast_to(self.context_length + place, shape),
            weights=jnp.ones(shape, jnp.float32),
            evidence=jnp.broadcast_to(evidence, (*shape, self.context_length)),
            slices={"distance": jnp.broadcast_to(1 + place, shape), "order": jnp.broadcast_to(place, shape)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Counts; among equally common words, takes those with lower ids."""
        counts = [np.bincount(row[: self.context_length]) for row in np.asarray(batch.inputs)]
        words = [np.argsort(-count[_FIRST_WORD:], kind="stable")[: self.num_common] for count in counts]
        return np.sort(words, axis=1) + _FIRST_WORD

    @override
    def floors(self) -> dict[str, float]:
        """Guessing any word, a word token of the context, or the row's next word by id.

        Each of a row's words is common with the same probability, and so is the next one after a common one.
        """
        places = self.num_common * self.common_count + (self.num_words - self.num_common) * self.rare_count
        return {
            "guess a word": 1 / (self.vocab_size - _FIRST_WORD),
            "guess a token of the context": self.common_count / places,
            "answer with the row's next word by id": self.num_common / self.num_words,
        }

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """The rate of a model that has missed one token of the context: the first, which stands in for any.

        A single occurrence does not matter, unless common words have just one more than others and it is one of theirs.
        Then any word of which `rare_count` occurrences have been seen may be common, and the best guess is the next
        word that is certainly common, or one of these.
        """
        rates = np.ones(np.shape(batch.targets))
        if self.common_count > self.rare_count + 1:
            return rates
        for row, common, rate in zip(np.asarray(batch.inputs), np.asarray(batch.targets), rates, strict=True):
            counts = np.bincount(row[1 : self.context_length])
            doubtful = np.flatnonzero(counts[_FIRST_WORD:] == self.rare_count) + _FIRST_WORD
            sure = [*common[common != row[0]], self.vocab_size]
            for i in range(self.num_common):
                if row[0] in common[i:]:
                    left = doubtful[doubtful > common[i - 1]] if i else doubtful
                    rate[i] = max(1, np.sum(left > sure[i])) / len(left)
        return rates

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", marker "|", words "w7"."""
        return ".|"[token] if token < _FIRST_WORD else f"w{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Words, the marker, the answer."""
        tokens = [int(token) for token in batch.inputs[row]]
        roles = ["filler" if token == _FILLER else "value" for token in tokens[: self.context_length]]
        roles += ["marker"] + ["answer"] * (self.num_common - 1)
        return [(self.token_text(token), role) for token, role in zip(tokens, roles, strict=True)]
