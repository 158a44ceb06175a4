"""Needle in a haystack: keys with their values, scattered in filler; a row ends by asking for the values of some."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size
from experiments.tasks.recall.held_out import drawn_keys

_ASK = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needle(FixedLength):
    """Needles in filler.

    With `length=16, num_keys=2, num_values=2, distractors=0`; k3 is a key, v80 a value, "." any filler, "|" the marker,
    id 0::

        .  .  k3 v80 k7 v71 .  .  k3 v92 k7 v74 .  |  k3  v80
                                                      v80 v92   <- targets

    A needle is a key followed by a value, in one of the two-token slots of the context. Each of `num_keys` keys has
    `num_values` needles; `distractors` further keys have one needle each and are never queried. All keys of a row are
    distinct. The needles' slots are drawn uniformly without replacement, so the depth of each needle is uniform. Values
    are uniform and independent. After the marker come `num_queries` of the keys, each followed by its answer: its
    values in the order in which they appear in the context. Earlier tokens of the answer are given; the last one is not
    in the row.

    Of the ids above 0, the first third are keys, the second filler, the last values; filler is uniform. The hardest
    filler is other needles: use as many distractors as there are slots left. The evidence is the value in its needle.
    The slice `depth` is the tenth of the context that contains it, 0..9, and the slice `distractors` counts the
    distractors. `held_out_keys` and `unseen_keys` work as in `MQAR`, for all keys of a row.

    References:
      Hsieh et al. 2024, "RULER", arXiv:2404.06654; Liu et al. 2023, "Lost in the middle", arXiv:2307.03172.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "needle: find the values of a key somewhere in a long context"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "depth": "depth of the needle, in tenths of the context",
        "distractors": "distractors in the row",
        "order": "answer of the key, from 0",
    }

    length: int = 128  # tokens per row
    vocab_size: int = 96  # keys, filler and values in thirds
    num_keys: int = 1  # that may be queried
    num_values: int = 1  # needles of each of these keys
    num_queries: int = 1  # keys that are queried
    distractors: int = 3  # needles of other keys
    vary_distractors: bool = False  # draw their number for each row, uniform over 0..distractors
    held_out_keys: int = 0  # the highest keys, which rows do not use
    unseen_keys: bool = False  # rows use only the held-out keys

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("vocab_size", self.vocab_size, 6)
        for name in ("num_keys", "num_values", "num_queries"):
            check_size(name, getattr(self, name), 1)
        check_size("distractors", self.distractors, 0)
        if self.num_queries > self.num_keys:
            raise ValueError(f"`num_queries` must be at most `num_keys` = {self.num_keys}; got {self.num_queries}.")
        shortest = 2 * self.num_needles + 1 + self.num_queries * self.num_values
        if self.length < shortest:
            raise ValueError(f"`length` must be at least {shortest} for these needles and queries; got {self.length}.")
        if self.vocab_size // 3 <= self.num_keys + self.distractors:
            raise ValueError(
                f"`vocab_size` must be at least {3 * (self.num_keys + self.distractors + 1)}, to have that many "
                f"distinct keys; got {self.vocab_size}."
            )
        self._keys()

    @property
    def context_length(self) -> int:
        """Tokens before the marker."""
        return self.length - 1 - self.num_queries * self.num_values

    @property
    def num_needles(self) -> int:
        """Needles in the context, distractors included."""
        return self.num_keys * self.num_values + self.distractors

    @property
    def first_filler(self) -> int:
        """Keys are 1..first_filler - 1."""
        return self.vocab_size // 3

    @property
    def first_value(self) -> int:
        """Filler is first_filler..first_value - 1, values are the ids above."""
        return 2 * self.first_filler

    def _keys(self) -> range:
        needed = self.num_keys + self.distractors
        return drawn_keys(self.first_filler - 1, self.held_out_keys, self.unseen_keys, needed)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        key_rng, value_rng, slot_rng, filler_rng, count_rng = jax.random.split(rng, 5)
        rows, num_slots = jnp.arange(batch_size)[:, None], self.context_length // 2
        main = self.num_keys * self.num_values  # needles of keys that may be queried come first, key by key
        drawn_from = self._keys()
        keys = sampling.distinct(key_rng, batch_size, self.num_keys + self.distractors, len(drawn_from)) + drawn_from[0]
        keys = jnp.concatenate(
            [jnp.repeat(keys[:, : self.num_keys], self.num_values, axis=1), keys[:, self.num_keys :]], 1
        )
        values = jax.random.randint(value_rng, keys.shape, self.first_value, self.vocab_size, jnp.int32)
        slots = sampling.distinct(slot_rng, batch_size, self.num_needles, num_slots)
        in_order = jnp.sort(slots[:, :main].reshape(batch_size, self.num_keys, self.num_values), axis=2)
        slots = slots.at[:, :main].set(in_order.reshape(batch_size, main))

        count = jnp.full((batch_size, 1), self.distractors, jnp.int32)
        if self.vary_distractors:
            count = jax.random.randint(count_rng, count.shape, 0, self.distractors + 1, jnp.int32)
        stands = jnp.arange(self.num_needles)[None] < main + count
        place = jnp.where(stands, 2 * slots, self.length)
        filler = jax.random.randint(
            filler_rng, (batch_size, self.length), self.first_filler, self.first_value, jnp.int32
        )
        inputs = filler.at[rows, place].set(keys, mode="drop").at[rows, place + 1].set(values, mode="drop")

        scored = self.num_queries * self.num_values
        asked, answers, source = keys[:, :scored], values[:, :scored], slots[:, :scored]
        order = jnp.arange(scored, dtype=jnp.int32)[None] % self.num_values
        inputs = inputs.at[:, self.context_length].set(_ASK)
        given = jnp.roll(answers, 1, axis=1)
        inputs = inputs.at[:, self.context_length + 1 :].set(jnp.where(order == 0, asked, given))
        positions = jnp.broadcast_to(self.context_length + 1 + jnp.arange(scored, dtype=jnp.int32), source.shape)
        evidence = 2 * source + 1
        slices = {
            "distance": positions - evidence,
            "depth": 10 * source // num_slots,
            "distractors": jnp.broadcast_to(count, source.shape),
        }
        if self.num_values > 1:
            slices["order"] = jnp.broadcast_to(order, source.shape)
        weights = jnp.ones(source.shape, jnp.float32)
        return Batch(inputs, answers, positions, weights, evidence[..., None], slices)

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Collects each key's values from the context, then answers key by key."""
        answers = []
        for row in np.asarray(batch.inputs).tolist():
            end = row.index(_ASK)
            asked = row[end + 1 :: self.num_values]
            answers.append([row[i + 1] for key in asked for i in range(end) if row[i] == key])
        return np.array(answers)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing any value, one in the row, the row's commonest, or, where the key has several, one of its own."""
        num_values = self.vocab_size - self.first_value
        fewest = self.num_needles - self.distractors * self.vary_distractors
        needles = np.arange(fewest, self.num_needles + 1)

        def one_of(count: np.ndarray | int) -> float:
            return float(np.mean(1 / count + (1 - 1 / count) / num_values))

        def commonest_of(count: np.ndarray) -> float:
            return float(np.mean([sampling.share_of_commonest(each, num_values) for each in count]))

        floors = {
            "guess a value": 1 / num_values,
            "guess a value seen in context": one_of(needles),
            "answer with the context's commonest value": commonest_of(needles),
        }
        if self.num_values > 1:
            left = np.arange(1, self.num_values + 1)  # from the last token of the answer to the first
            floors["guess a value of the key"] = one_of(self.num_values)
            floors["guess a value of the key that is not given yet"] = one_of(left)
            floors["answer with the key's commonest value that is not given yet"] = commonest_of(left)
        return floors

    @property
    @override
    def open_answers(self) -> int:
        """Values are independent: the others reveal nothing about one that is unseen."""
        return self.vocab_size - self.first_value

    @override
    def token_text(self, token: int) -> str:
        """Marker "|", keys "k7", filler "x40", values "v80"."""
        if token == _ASK:
            return "|"
        return f"{'k' if token < self.first_filler else 'x' if token < self.first_value else 'v'}{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Needles in filler, the marker, then queries and the given part of their answers."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        context = {"k": "key", "v": "value", "x": "filler"}
        question = {"|": "marker", "k": "query", "v": "answer"}
        return [(text, (context if c < self.context_length else question)[text[0]]) for c, text in enumerate(texts)]
