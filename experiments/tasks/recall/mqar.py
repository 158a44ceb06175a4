"""Multi-query associative recall: pairs first, then their keys again; predict the value at each."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants.checks import check_number
from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, Stored, check_even, check_size
from experiments.tasks.recall import slots
from experiments.tasks.recall.held_out import drawn_keys

_PART = re.compile(r"(\d+)x(\d+)(?:\*(\d+(?:\.\d*)?))?")


class Part(NamedTuple):
    """One kind of row in a mixture."""

    length: int
    num_pairs: int
    share: float  # of the rows; shares add up to 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class MQAR(FixedLength):
    """Multi-query associative recall.

    With `length=16, num_pairs=2`; k7 is the key with id 7, v41 the value with id 41, "." filler::

        k7 v41 k3 v60  .   .   k3  .   k7  .   .   .   .   .   .   .
                               v60     v41                              <- targets

    A row states `num_pairs` pairs of distinct keys, ids 1..vocab_size // 2 - 1, and distinct values, the ids above. The
    rest consists of two-token slots; pair i is queried at the first token of slot g_i, where g_0, g_1 ... are drawn
    without replacement, p(s) proportional to (s + 1)^(power - 1), renormalised after each draw: with a small `power`,
    most questions come early, some late. The answer is read at the key itself. Everything else is filler 0 or, with
    `random_fillers`, uniform over the vocabulary. Rows of a mixture are padded to the longest with 0.

    The evidence for question i is its value, at position 2i + 1. A model that cannot see it can only guess among the
    values that it has not seen. A model that sees everything but matches no keys has better shortcuts: it can guess one
    of the row's values, or exploit that questions tend to come in the order of the pairs. With `power=0.01`, the
    question's position alone is enough to be right for 0.288 of the questions at the default size, see `slots`.

    With `held_out_keys`, no pair has one of the highest keys; with `unseen_keys` in addition, all pairs do. A model
    trained without them and tested on them (`config.eval.shifted`) must match keys that it does not know.

    References:
      Arora et al. 2023, "Zoology", arXiv:2312.04927. As in their code, `vocab_size` is greater than `length`.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "multi-query associative recall: predict the value that was stated with each key"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "num_pairs": "key-value pairs in the row",
        "length": "tokens in the row",
    }

    length: int = 64  # tokens per row, even
    num_pairs: int = 4  # at most a quarter of the length
    vocab_size: int = 128  # more than the length
    power: float = 0.01  # 1 spreads the questions evenly; towards 0 they come earlier
    random_fillers: bool = False
    mixture: str = (
        ""  # instead of length and num_pairs, kinds of rows: 64x4*5/128x8 draws (64, 4) five times as often as (128, 8)
    )
    held_out_keys: int = 0  # the highest keys, which rows do not use
    unseen_keys: bool = False  # rows use only the held-out keys

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("num_pairs", self.num_pairs, 1)
        check_size("vocab_size", self.vocab_size, 4)
        check_number("power", self.power, 0.0, 100.0)
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        if self.mixture and (self.length, self.num_pairs) != (defaults["length"], defaults["num_pairs"]):
            raise ValueError("`mixture` replaces `length` and `num_pairs`; give one or the other.")
        for length, num_pairs, _ in self.parts:
            if num_pairs < 1 or length < 4 * num_pairs:
                raise ValueError(f"`length` must be at least 4 times `num_pairs` >= 1; got {length} and {num_pairs}.")
            check_even("length", length)
            if self.vocab_size <= length:
                raise ValueError(f"`vocab_size` must be greater than `length`; got {self.vocab_size} and {length}.")
        self._keys()
        if self.held_out_keys and self.random_fillers:
            raise ValueError(
                "`held_out_keys` must be 0 with `random_fillers`: `random_fillers` are drawn from all tokens."
            )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The kinds of rows: only one, unless there is a mixture."""
        if not self.mixture:
            return (Part(self.length, self.num_pairs, 1.0),)
        matches = [_PART.fullmatch(text.strip()) for text in self.mixture.split("/")]
        rows = [(int(m[1]), int(m[2]), float(m[3] or 1)) for m in matches if m]
        total = sum(weight for *_, weight in rows)
        if None in matches or not total:
            raise ValueError(f"`mixture` must look like 64x4*5/128x8, length x pairs * weight; got {self.mixture!r}.")
        return tuple(Part(length, num_pairs, weight / total) for length, num_pairs, weight in rows)

    @property
    @override
    def input_length(self) -> int:
        """Tokens per row: those of the longest part."""
        return max(part.length for part in self.parts)

    @property
    def first_value(self) -> int:
        """Keys are 1..first_value - 1, values first_value..vocab_size - 1."""
        return self.vocab_size // 2

    def _keys(self) -> range:
        most = max(part.num_pairs for part in self.parts)
        return drawn_keys(self.first_value - 1, self.held_out_keys, self.unseen_keys, most)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        kind_rng, key_rng, value_rng, slot_rng, filler_rng = jax.random.split(rng, 5)
        lengths, counts, shares = (np.array(column) for column in zip(*self.parts, strict=True))
        longest, most = self.input_length, int(counts.max())
        most_slots = int((lengths // 2 - counts).max())

        # Per row: its kind. Every row draws for the largest kind; the first of many distinct draws are distinct draws.
        kind = jnp.zeros(batch_size, jnp.int32)
        if len(shares) > 1:
            kind = jax.random.categorical(kind_rng, jnp.log(jnp.asarray(shares, jnp.float32)), shape=(batch_size,))
        length = jnp.asarray(lengths, jnp.int32)[kind][:, None]
        count = jnp.asarray(counts, jnp.int32)[kind][:, None]
        keys = self._keys()[0] + sampling.distinct(key_rng, batch_size, most, len(self._keys()))
        values = self.first_value + sampling.distinct(value_rng, batch_size, most, self.vocab_size - self.first_value)
        slot = jnp.arange(most_slots, dtype=jnp.int32)[None]
        log_weights = (self.power - 1) * jnp.log1p(slot.astype(jnp.float32))
        log_weights = jnp.where(slot < length // 2 - count, log_weights, -jnp.inf)
        drawn = sampling.weighted_distinct(slot_rng, log_weights, most)

        column = jnp.arange(longest, dtype=jnp.int32)[None]
        pair = jnp.arange(most, dtype=jnp.int32)[None]
        asked = pair < count
        positions = 2 * (count + drawn)
        inputs = jnp.zeros((batch_size, longest), jnp.int32)
        if self.random_fillers:
            fillers = jax.random.randint(filler_rng, inputs.shape, 0, self.vocab_size, jnp.int32)
            inputs = jnp.where(column < length, fillers, 0)
        stated = jnp.stack([keys, values], axis=-1).reshape(batch_size, 2 * most)
        front = slice(0, 2 * most)
        inputs = inputs.at[:, front].set(jnp.where(column[:, front] < 2 * count, stated, inputs[:, front]))
        rows = jnp.arange(batch_size)[:, None]
        inputs = inputs.at[rows, jnp.where(asked, positions, longest)].set(keys, mode="drop")

        slices = {"distance": positions - (2 * pair + 1), "num_pairs": jnp.broadcast_to(count, keys.shape)}
        if len(shares) > 1:
            slices["length"] = jnp.broadcast_to(length, keys.shape)
        return Batch(
            inputs=inputs,
            targets=jnp.where(asked, values, 0),
            positions=jnp.where(asked, positions, 0),
            weights=asked.astype(jnp.float32),
            evidence=jnp.where(asked, 2 * pair + 1, -1)[..., None],
            slices={name: jnp.where(asked, value, 0) for name, value in slices.items()},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Takes the token after the key's first occurrence at an even position: pairs come before any filler."""
        inputs = np.asarray(batch.inputs)
        key = np.take_along_axis(inputs, np.asarray(batch.positions), axis=1)
        first = (inputs[:, None, ::2] == key[:, :, None]).argmax(axis=2)
        return np.take_along_axis(inputs, 2 * first + 1, axis=1)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing one of the row's values, at random or from the question's place; the kind of row can be seen."""
        questions = math.fsum(part.share * part.num_pairs for part in self.parts)

        def mean(score: Callable[[int, int, float], float]) -> float:
            scores = (score(part.length // 2 - part.num_pairs, part.num_pairs, self.power) for part in self.parts)
            right = (part.share * part.num_pairs * each for part, each in zip(self.parts, scores, strict=True))
            return math.fsum(right) / questions

        return {
            "guess a value seen in context": 1 / questions,
            "guess the value from the question's position alone": mean(slots.from_position),
            "guess the value from the question's rank alone": mean(slots.from_rank),
        }

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Values are distinct: seeing all others in the row still leaves this many equally likely ones."""
        unmet = self.vocab_size - self.first_value - np.asarray(batch.slices["num_pairs"]) + 1
        return 1.0 / unmet

    @override
    def stored(self) -> Stored | None:
        """All values, before the first question; no bound is claimed for a mixture."""
        return Stored.distinct(self.num_pairs, self.vocab_size - self.first_value) if not self.mixture else None

    @override
    def at_length(self, length: int) -> Self:
        """The same pairs in rows of another length, which all kinds of a mixture then have."""
        if not self.mixture:
            return super().at_length(length)
        kinds = (f"{length}x{part.num_pairs}*{part.share:.9f}" for part in self.parts)
        return dataclasses.replace(self, mixture="/".join(kinds))

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", keys "k7", values "v41"."""
        if token == 0:
            return "."
        return f"k{token}" if token < self.first_value else f"v{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Pairs, then questions among fillers."""
        asked = np.asarray(batch.weights[row]) > 0
        questions = set(np.asarray(batch.positions[row])[asked].tolist())
        stated = 2 * int(asked.sum())
        roles = [("key", "value")[c % 2] if c < stated else "filler" for c in range(self.input_length)]
        roles = ["query" if c in questions else role for c, role in enumerate(roles)]
        return [(self.token_text(int(token)), role) for token, role in zip(batch.inputs[row], roles, strict=True)]
