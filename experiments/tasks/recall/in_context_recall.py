"""In-context recall: a stream of pairs in which keys recur; predict the value at each key that came before."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants.checks import check_number
from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_even, check_size, next_tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class InContextRecall(FixedLength):
    """In-context recall.

    With `length=12, vocab_size=8`; k2 is the key with id 2, v6 the value with id 6::

        k2 v6 k0 v4 k2 v6 k3 v6 k0 v4 k2 v6
                    v6          v4    v6      <- targets

    The lower half of the ids are keys, the upper half values. Each two-token slot holds a uniformly drawn key and its
    value, which is drawn uniformly at the key's first use in the row and fixed from then on; values of different keys
    may be equal. The last slot repeats one of the keys of the row, each equally likely. The model is trained on every
    next token, and scored where it reads a key that came before.

    Every earlier statement of the key is evidence, and any one of them is enough. The nearest one is close: at the
    default sizes, a window of 32 sees one for 0.92 of the targets. A larger vocabulary makes the task long-range; a
    longer row does not.

    References:
      Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv:2403.17844.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "in-context recall: predict the value at each key that came before"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"repeats": "earlier occurrences of the key"}
    every_change_counts: ClassVar[bool] = False  # other statements of the same key are as good
    any_evidence_suffices: ClassVar[bool] = True

    length: int = 128  # tokens per row, even
    vocab_size: int = 16  # keys and values, at least 2 of each

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("vocab_size", self.vocab_size, 4)
        check_even("length", self.length)

    @property
    def num_keys(self) -> int:
        """Keys are the ids below this."""
        return (self.vocab_size - self._noise()[1]) // 2

    @property
    def num_values(self) -> int:
        """Values are the ids from `num_keys` on."""
        return self.vocab_size - self._noise()[1] - self.num_keys

    def _noise(self) -> tuple[float, int]:
        """Returns the chance that a slot is noise, and how many ids, the last ones, are noise."""
        return 0.0, 0

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        key_rng, value_rng, last_rng, slot_rng, noise_rng = jax.random.split(rng, 5)
        rows, slots = jnp.arange(batch_size)[:, None], self.length // 2
        is_pair = self._draw_pairs(slot_rng, batch_size, slots)
        keys = jax.random.randint(key_rng, (batch_size, slots - 1), 0, self.num_keys, jnp.int32)
        known = jnp.zeros((batch_size, self.num_keys), bool)
        known = known.at[rows, jnp.where(is_pair[:, :-1], keys, self.num_keys)].set(True, mode="drop")
        count = jnp.cumsum(known, axis=1, dtype=jnp.int32)
        rank = jax.random.randint(last_rng, (batch_size, 1), 0, count[:, -1:], jnp.int32)
        last = jnp.argmax(count > rank, axis=1).astype(jnp.int32)
        keys = jnp.concatenate([keys, last[:, None]], axis=1)
        table = jax.random.randint(value_rng, known.shape, self.num_keys, self.num_keys + self.num_values, jnp.int32)
        inputs = jnp.stack([keys, jnp.take_along_axis(table, keys, axis=1)], axis=-1)
        noise = jax.random.randint(noise_rng, inputs.shape, self.num_keys + self.num_values, self.vocab_size, jnp.int32)
        inputs = jnp.where(is_pair[..., None], inputs, noise) if self._noise()[0] else inputs

        slot = jnp.arange(slots, dtype=jnp.int32)
        earlier = slot[1:, None] > slot[None, :-1]
        same = (keys[:, 1:, None] == keys[:, None, :-1]) & is_pair[:, 1:, None] & is_pair[:, None, :-1] & earlier[None]
        asked = same.any(axis=2)
        evidence = jnp.where(same, (2 * slot[:-1] + 1)[None, None], -1)
        positions = jnp.where(asked, 2 * slot[None, 1:], 0)
        slices = {"distance": positions - evidence.max(axis=2), "repeats": same.sum(axis=2, dtype=jnp.int32)}
        return Batch(
            inputs=inputs.reshape(batch_size, self.length),
            targets=jnp.where(asked, inputs[:, 1:, 1], 0),
            positions=positions,
            weights=asked.astype(jnp.float32),
            evidence=evidence,
            slices={name: jnp.where(asked, value, 0) for name, value in slices.items()},
        )

    def _draw_pairs(self, rng: PRNGKeyArray, batch_size: int, slots: int) -> Bool[Array, "batch slots"]:
        """Draws which slots hold a pair: the last one always does, and so does one other."""
        share, _ = self._noise()
        coin_rng, sure_rng = jax.random.split(rng)
        coins = jax.random.bernoulli(coin_rng, jnp.float32(1 - share), (batch_size, slots))
        sure = jax.random.randint(sure_rng, (batch_size, 1), 0, slots - 1, jnp.int32)
        slot = jnp.arange(slots, dtype=jnp.int32)[None]
        return coins | (slot == sure) | (slot == slots - 1)

    @override
    def training_batch(self, batch: Batch) -> Batch:
        """Every next token."""
        return next_tokens(batch, jnp.ones((len(batch.inputs), self.length - 1), jnp.float32))

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Reads slot by slot and remembers the last value of each key."""
        answers = np.zeros(np.shape(batch.positions), int)
        for row, positions, answer in zip(np.asarray(batch.inputs), np.asarray(batch.positions), answers, strict=True):
            column = {position: i for i, position in enumerate(positions.tolist())}
            values: dict[int, int] = {}
            for position, (key, value) in enumerate(row.reshape(-1, 2).tolist()):
                if 2 * position in column:
                    answer[column[2 * position]] = values.get(key, 0)
                values[key] = value
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing any value, the value of a random key so far, or the value that most keys so far have."""
        targets = targets_by_known_keys(self.length // 2, self.num_keys, self._noise()[0])
        known, share = np.arange(1, len(targets)), targets[1:] / targets.sum()
        one_of_them = 1 / known + (1 - 1 / known) / self.num_values
        commonest = [sampling.share_of_commonest(int(count), self.num_values) for count in known]
        return {
            "guess a value": 1 / self.num_values,
            "guess the value of a key seen so far": float(share @ one_of_them),
            "guess the value that most keys seen so far have": float(share @ np.array(commonest)),
        }

    @property
    @override
    def open_answers(self) -> int:
        """Values are independent: those of other keys reveal nothing about one that is unseen."""
        return self.num_values

    @override
    def token_text(self, token: int) -> str:
        """Keys "k3", values "v9", noise "x20"."""
        kinds = "k" if token < self.num_keys else "v" if token < self.num_keys + self.num_values else "x"
        return f"{kinds}{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Pairs, whose key is the query if the value is scored, and noise."""
        questions = set(np.asarray(batch.positions[row])[np.asarray(batch.weights[row]) > 0].tolist())
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        roles = {"k": "key", "v": "value", "x": "filler"}
        return [(text, "query" if c in questions else roles[text[0]]) for c, text in enumerate(texts)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyRecall(InContextRecall):
    """In-context recall with noise between the pairs.

    With `length=12, vocab_size=12, num_noise=4`; x10 is a noise token::

        k2 v6 x10 x8 k0 v4 x9 x9 k2 v6 k0 v4
                                 v6    v4      <- targets

    Like `InContextRecall`, but the last `num_noise` ids are noise, and each slot except the last is replaced, with
    probability `noise`, by two of them, uniform and independent. One slot, uniformly drawn, is never replaced, so that
    the last one has a pair to repeat.

    References:
      Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv:2403.17844.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "noisy recall: in-context recall with slots of noise between the pairs"

    vocab_size: int = 32  # noise, and at least 2 keys and 2 values
    num_noise: int = 16  # ids that are noise, the highest
    noise: float = 0.2  # probability that a slot is noise; published: 0.2 to 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("num_noise", self.num_noise, 1)
        check_number("noise", self.noise, 0.0, 0.99)
        if self.vocab_size < self.num_noise + 4:
            raise ValueError(
                f"`vocab_size` must be at least `num_noise` + 4 = {self.num_noise + 4}; got {self.vocab_size}."
            )

    @override
    def _noise(self) -> tuple[float, int]:
        return self.noise, self.num_noise


@functools.cache
def targets_by_known_keys(slots: int, num_keys: int, noise: float) -> Float[np.ndarray, " known"]:
    """Returns how many targets a row has on average, by the number of different keys that came before them.

    The recursion over slots keeps, for each number of keys, its probability before and after the slot that is never
    replaced.
    """
    known = np.arange(min(num_keys, slots - 1) + 1)
    before, after = np.zeros((2, len(known)))
    before[0] = 1.0
    targets = np.zeros(len(known))
    for left in range(slots - 1, 0, -1):
        sure = before / left
        before, quiet = before - sure, np.stack([before - sure, after]) * noise
        pairs = np.stack([before * (1 - noise), after * (1 - noise) + sure])
        repeats = pairs * known / num_keys
        targets += repeats.sum(axis=0)
        before, after = quiet + repeats
        before[1:] += (pairs - repeats)[0, :-1]
        after[1:] += (pairs - repeats)[1, :-1]
    return targets + before + after
