"""Multi-query associative recall made harder: pairs that are stated again, and keys of two tokens."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants.checks import check_number
from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, Stored, check_size
from experiments.tasks.recall import slots


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Recall(FixedLength):
    """Statements, each of some key tokens and a value; then every key once more, in slots as long as a statement."""

    version: ClassVar[int] = 1

    length: int = 64  # tokens per row
    vocab_size: int = 64
    power: float = 0.01  # 1 spreads the questions evenly; towards 0 they come sooner
    random_fillers: bool = False

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("vocab_size", self.vocab_size, 6)
        check_number("power", self.power, 0.0, 100.0)
        self._check_sizes()
        width, needed = self._key_size + 1, self._num_statements + self._num_questions
        if self.length < width * needed:
            raise ValueError(f"`length` must be at least {width * needed} for these pairs; got {self.length}.")
        if self._num_statements > self.num_values:
            raise ValueError(
                f"`vocab_size` must leave at least {self._num_statements} values; {self.vocab_size} leaves "
                f"{self.num_values}."
            )

    @property
    def num_values(self) -> int:
        """Number of ids that are values, the highest ones."""
        return self.vocab_size - self.first_value

    @property
    @abc.abstractmethod
    def first_value(self) -> int:
        """Values are first_value..vocab_size - 1."""

    @property
    @abc.abstractmethod
    def _key_size(self) -> int:
        """Tokens per key."""

    @property
    @abc.abstractmethod
    def _num_statements(self) -> int:
        """Statements in a row; their values are distinct."""

    @property
    @abc.abstractmethod
    def _num_questions(self) -> int:
        """Keys, each queried once."""

    @abc.abstractmethod
    def _check_sizes(self) -> None:
        """Raises ValueError unless there are enough keys."""

    @abc.abstractmethod
    def _draw_keys(self, rng: PRNGKeyArray, batch_size: int) -> tuple[Array, Array]:
        """Returns the key of each statement [batch, statements, key_size], and which one decides each question."""

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        key_rng, value_rng, slot_rng, filler_rng = jax.random.split(rng, 4)
        width, front = self._key_size + 1, (self._key_size + 1) * self._num_statements
        keys, decides = self._draw_keys(key_rng, batch_size)
        values = self.first_value + sampling.distinct(value_rng, batch_size, self._num_statements, self.num_values)
        slot = jnp.arange(self._slots()[0], dtype=jnp.float32)
        log_weights = jnp.broadcast_to((self.power - 1) * jnp.log1p(slot), (batch_size, len(slot)))
        place = front + width * sampling.weighted_distinct(slot_rng, log_weights, self._num_questions)

        inputs = jnp.zeros((batch_size, self.length), jnp.int32)
        if self.random_fillers:
            inputs = jax.random.randint(filler_rng, inputs.shape, 0, self.vocab_size, jnp.int32)
        stated = jnp.concatenate([keys, values[..., None]], axis=2).reshape(batch_size, front)
        rows, token = jnp.arange(batch_size)[:, None, None], jnp.arange(self._key_size)[None, None]
        asked = jnp.take_along_axis(keys, decides[..., None], axis=1)
        inputs = inputs.at[:, :front].set(stated).at[rows, place[..., None] + token].set(asked)
        positions = place + self._key_size - 1
        evidence = width * decides + self._key_size
        return Batch(
            inputs=inputs,
            targets=jnp.take_along_axis(values, decides, axis=1),
            positions=positions,
            weights=jnp.ones(positions.shape, jnp.float32),
            evidence=evidence[..., None],
            slices={"distance": positions - evidence} | self._more_slices(decides),
        )

    def _more_slices(self, decides: Array) -> dict[str, Array]:
        return {}

    def _slots(self) -> tuple[int, int, float]:
        """Returns the arguments of the functions in `slots`."""
        width = self._key_size + 1
        return self.length // width - self._num_statements, self._num_questions, self.power

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Looks keys up in a dictionary of the statements, in which later ones replace earlier ones."""
        size, count = self._key_size, self._num_statements
        answers = []
        for row, positions in zip(np.asarray(batch.inputs), np.asarray(batch.positions).tolist(), strict=True):
            stated = row[: (size + 1) * count].reshape(count, size + 1).tolist()
            value_of = {tuple(key): value for *key, value in stated}
            answers.append([value_of[tuple(row[end - size + 1 : end + 1].tolist())] for end in positions])
        return np.array(answers)

    @property
    @override
    def open_answers(self) -> int:
        """Values are distinct: seeing all others in the row still leaves this many equally likely ones."""
        return self.num_values - self._num_statements + 1

    @override
    def stored(self) -> Stored:
        """The current values, before the first question."""
        return Stored.distinct(self._num_questions, self.num_values)

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", keys "k7", values "v41"."""
        return "." if token == 0 else f"k{token}" if token < self.first_value else f"v{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Statements, then questions among fillers."""
        size, front = self._key_size, (self._key_size + 1) * self._num_statements
        roles = ["value" if c % (size + 1) == size else "key" if c < front else "" for c in range(front)]
        roles += ["filler"] * (self.length - front)
        for end in np.asarray(batch.positions[row]).tolist():
            roles[end - size + 1 : end + 1] = ["query"] * size
        return [(self.token_text(int(token)), role) for token, role in zip(batch.inputs[row], roles, strict=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForgettingMQAR(_Recall):
    """Multi-query associative recall in which some pairs are stated again with a new value, which replaces the old one.

    With `length=16, num_pairs=2, num_updates=1`; k7 is a key, v41 a value, "." filler, id 0::

        k7 v41 k3 v60 k7 v33 .  .   k3  .   k7  .   .   .   .   .
                                    v60     v33                    <- targets

    Like `MQAR`, but the first `num_pairs` statements are followed by `num_updates` more, of distinct ones of these
    keys, drawn uniformly and in uniformly random order, with values that no other statement of the row has. Each key is
    queried once, after all statements. The evidence is the value in the key's last statement. The slice `updated` is 1
    for keys stated twice.

    References:
      Arora et al. 2023, "Zoology", arXiv:2312.04927, for the task without updates.
    """

    summary: ClassVar[str] = "forgetting: multi-query associative recall where some keys get a new value"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "updated": "whether the value was replaced (1) or not (0)",
    }

    num_pairs: int = 4  # keys
    num_updates: int = 2  # keys that are stated again

    @property
    @override
    def first_value(self) -> int:
        """Keys are 1..first_value - 1, values first_value..vocab_size - 1."""
        return self.vocab_size // 2

    @property
    @override
    def _key_size(self) -> int:
        return 1

    @property
    @override
    def _num_statements(self) -> int:
        return self.num_pairs + self.num_updates

    @property
    @override
    def _num_questions(self) -> int:
        return self.num_pairs

    @override
    def _check_sizes(self) -> None:
        check_size("num_pairs", self.num_pairs, 1)
        check_size("num_updates", self.num_updates, 1)
        if self.num_updates > self.num_pairs:
            raise ValueError(f"`num_updates` must be at most `num_pairs` = {self.num_pairs}; got {self.num_updates}.")
        if self.vocab_size < 2 * self.num_pairs + 2:
            raise ValueError(
                f"`vocab_size` must be at least 2 * `num_pairs` + 2 = {2 * self.num_pairs + 2}; got {self.vocab_size}."
            )

    @override
    def _draw_keys(self, rng: PRNGKeyArray, batch_size: int) -> tuple[Array, Array]:
        key_rng, update_rng = jax.random.split(rng)
        keys = 1 + sampling.distinct(key_rng, batch_size, self.num_pairs, self.first_value - 1)
        again = sampling.distinct(update_rng, batch_size, self.num_updates, self.num_pairs)
        decides = jnp.broadcast_to(jnp.arange(self.num_pairs, dtype=jnp.int32), keys.shape)
        last = self.num_pairs + jnp.broadcast_to(jnp.arange(self.num_updates, dtype=jnp.int32), again.shape)
        decides = decides.at[jnp.arange(batch_size)[:, None], again].set(last)
        keys = jnp.concatenate([keys, jnp.take_along_axis(keys, again, axis=1)], axis=1)
        return keys[..., None], decides

    @override
    def _more_slices(self, decides: Array) -> dict[str, Array]:
        return {"updated": (decides >= self.num_pairs).astype(jnp.int32)}

    @override
    def floors(self) -> dict[str, float]:
        """Guessing a key's current value without matching the key, and answering with its first value."""
        return {
            "guess a current value": 1 / self.num_pairs,
            "guess a current value from the question's position": slots.from_position(*self._slots()),
            "guess a current value from the question's rank": slots.from_rank(*self._slots()),
            "answer with the key's first value": 1 - self.num_updates / self.num_pairs,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompositionalMQAR(_Recall):
    """Multi-query associative recall with keys of two tokens, neither of which determines the value by itself.

    With `length=24, grid_size=2`; k7 is a first and k25 a second key token, v60 a value, "." filler, id 0::

        k7 k25 v60 k3 k31 v41 k3 k25 v52 k7 k31 v44 k3 k25 .   k7 k31 .   k7 k25 .   k3 k31 .
                                                       v52        v44        v60        v41    <- targets

    The first third of the ids (without 0) are first key tokens, the second third are second key tokens, the rest are
    values. Each row draws `grid_size` distinct tokens of each kind and states all grid_size^2 pairs of them, in
    uniformly random order and with distinct values. Then it queries each pair once, in slots of three tokens that are
    drawn as in `MQAR`; the answer is read at the second key token. The evidence is the value.

    References:
      Arora et al. 2023, "Zoology", arXiv:2312.04927, for the task with keys of one token.
    """

    summary: ClassVar[str] = "compositional: multi-query associative recall with keys of two tokens on a grid"

    grid_size: int = 2  # first key tokens, and second ones; there are grid_size^2 pairs

    @property
    @override
    def first_value(self) -> int:
        """First key tokens begin at 1, second ones at vocab_size // 3, values here."""
        return 2 * (self.vocab_size // 3)

    @property
    @override
    def _key_size(self) -> int:
        return 2

    @property
    @override
    def _num_statements(self) -> int:
        return self.grid_size**2

    @property
    @override
    def _num_questions(self) -> int:
        return self.grid_size**2

    @override
    def _check_sizes(self) -> None:
        check_size("grid_size", self.grid_size, 1)
        if self.vocab_size // 3 <= self.grid_size:
            raise ValueError(
                f"`vocab_size` must be at least {3 * self.grid_size + 3} for this grid; got {self.vocab_size}."
            )

    @override
    def _draw_keys(self, rng: PRNGKeyArray, batch_size: int) -> tuple[Array, Array]:
        first_rng, second_rng, order_rng = jax.random.split(rng, 3)
        third, size = self.vocab_size // 3, self.grid_size
        first = 1 + sampling.distinct(first_rng, batch_size, size, third - 1)
        second = third + sampling.distinct(second_rng, batch_size, size, third)
        order = sampling.distinct(order_rng, batch_size, size**2, size**2)
        cells = (jnp.take_along_axis(first, order // size, axis=1), jnp.take_along_axis(second, order % size, axis=1))
        return jnp.stack(cells, axis=-1), jnp.broadcast_to(jnp.arange(size**2, dtype=jnp.int32), order.shape)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing any value of the row, or one of those that share one of the two key tokens."""
        return {
            "guess a value seen in context": 1 / self.grid_size**2,
            "guess a value seen with the first key token": 1 / self.grid_size,
            "guess a value seen with the first key token, from the position": self._from_first_token_and_position(),
        }

    def _from_first_token_and_position(self) -> float:
        """Returns how often the likeliest of the pairs with the question's first key token is the right one.

        These are `grid_size` pairs, the right one among them, and every choice of the others is equally likely: pair i
        of rank k by its probability in a slot is the likeliest of them if the others rank after it.
        """
        size, pairs = self.grid_size, self.grid_size**2
        by_rank = -np.sort(-slots.law(*self._slots()), axis=0).sum(axis=1)
        others = [math.comb(pairs - 1 - rank, size - 1) / math.comb(pairs - 1, size - 1) for rank in range(pairs)]
        return float(by_rank @ np.array(others)) / pairs
