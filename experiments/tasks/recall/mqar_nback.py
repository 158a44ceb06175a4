"""Multi-query associative recall in which every key is assigned again and again, and an earlier value is asked for."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, Stored, check_size

_MARKER = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class NbackMQAR(FixedLength):
    """Recall of the n-th last value of a key.

    With `length=17, num_keys=2, nback=2`; k7 is a key, v41 a value, "|" the marker, id 0::

        k7 v41 k3 v60 k7 v58 k7 v60 k3 v52 k3 v33 k3 v41 | k3  k7
                                                           v33 v58   <- targets

    A row draws `num_keys` distinct keys, from ids 1..vocab_size // 2 - 1, and assigns them values, the ids above,
    uniform and independent. Every key is assigned at least `nback` times, and each of the other assignments goes to a
    uniformly drawn key; all are in uniformly random order. After the marker, every key is asked for once, in uniformly
    random order, and the value of its `nback`-th last assignment is read at the key. The evidence is that value. The
    slice `assignments` counts those of the key.

    References:
      Yang et al. 2025, "PaTH attention", arXiv:2505.16381, repeated associative recall with N-back: 32 keys in 768
      tokens, `nback` 1 to 4. How keys come to have been assigned often enough is ours.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "n-back recall: predict the n-th last value of a key that is assigned again and again"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"assignments": "assignments of the key"}

    length: int = 65  # tokens per row: two for each assignment, the marker, one for each key
    vocab_size: int = 64  # the marker, keys and values
    num_keys: int = 8
    nback: int = 2  # 1: the last value

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("vocab_size", self.vocab_size, 4)
        check_size("num_keys", self.num_keys, 1)
        check_size("nback", self.nback, 1)
        shortest = (2 * self.nback + 1) * self.num_keys + 1
        if self.length < shortest:
            raise ValueError(f"`length` must be at least {shortest} for these keys; got {self.length}.")
        if (self.length - shortest) % 2:
            raise ValueError(f"`length` must be {shortest} and a multiple of 2; got {self.length}.")
        if self.first_value <= self.num_keys:
            raise ValueError(
                f"`vocab_size` must be at least {2 * self.num_keys + 2} for these keys; got {self.vocab_size}."
            )

    @property
    def first_value(self) -> int:
        """Keys are 1..first_value - 1, values first_value..vocab_size - 1."""
        return self.vocab_size // 2

    @property
    def num_values(self) -> int:
        """Number of ids that are values."""
        return self.vocab_size - self.first_value

    @property
    def num_assignments(self) -> int:
        """Assignments in a row."""
        return (self.length - 1 - self.num_keys) // 2

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        key_rng, more_rng, order_rng, value_rng, asked_rng = jax.random.split(rng, 5)
        keys = 1 + sampling.distinct(key_rng, batch_size, self.num_keys, self.first_value - 1)
        sure = jnp.tile(jnp.arange(self.num_keys, dtype=jnp.int32), self.nback)
        more = (batch_size, self.num_assignments - len(sure))
        number = jnp.concatenate(
            [
                jnp.broadcast_to(sure[None], (batch_size, len(sure))),
                jax.random.randint(more_rng, more, 0, self.num_keys, jnp.int32),
            ],
            axis=1,
        )
        order = jnp.argsort(jax.random.bits(order_rng, number.shape, jnp.uint32), axis=1)
        number = jnp.take_along_axis(number, order, axis=1)  # of the key of each assignment
        values = jax.random.randint(value_rng, number.shape, self.first_value, self.vocab_size, jnp.int32)
        asked = sampling.distinct(asked_rng, batch_size, self.num_keys, self.num_keys)

        same = asked[..., None] == number[:, None]
        since = jnp.flip(
            jnp.cumsum(jnp.flip(same, 2), axis=2, dtype=jnp.int32), 2
        )  # assignments of the key from here on
        decides = (same & (since == self.nback)).argmax(axis=2).astype(jnp.int32)
        stated = jnp.stack([jnp.take_along_axis(keys, number, axis=1), values], axis=-1).reshape(batch_size, -1)
        marker = jnp.full((batch_size, 1), _MARKER, jnp.int32)
        start = 2 * self.num_assignments + 1
        positions = jnp.broadcast_to(start + jnp.arange(self.num_keys, dtype=jnp.int32)[None], asked.shape)
        evidence = 2 * decides + 1
        return Batch(
            inputs=jnp.concatenate([stated, marker, jnp.take_along_axis(keys, asked, axis=1)], axis=1),
            targets=jnp.take_along_axis(values, decides, axis=1),
            positions=positions,
            weights=jnp.ones(asked.shape, jnp.float32),
            evidence=evidence[..., None],
            slices={"distance": positions - evidence, "assignments": same.sum(axis=2, dtype=jnp.int32)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Keeps a list of values for each key."""
        answers = []
        for row in np.asarray(batch.inputs).tolist():
            end = row.index(_MARKER)
            values: dict[int, list[int]] = {}
            for key, value in zip(row[:end:2], row[1:end:2], strict=True):
                values.setdefault(key, []).append(value)
            answers.append([values[key][-self.nback] for key in row[end + 1 :]])
        return np.array(answers)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing without the key; and with the key, but without the order of its values."""
        count, share = self._assignments()
        of_key = [sampling.share_of_commonest(each, self.num_values) for each in count]
        last = sampling.share_of_commonest(self.nback, self.num_values)
        likeliest = self._likeliest_place() / self.num_keys
        floors = {
            "guess a value": 1 / self.num_values,
            "answer with the value of one assignment": likeliest + (1 - likeliest) / self.num_values,
            "answer with the context's commonest value": sampling.share_of_commonest(
                self.num_assignments, self.num_values
            ),
        }
        if self.num_assignments > self.num_keys:  # else it is the task itself
            floors["answer with the key's commonest value"] = float(share @ np.array(of_key))
        if self.nback > 1:
            floors["answer with the commonest of the key's last n values"] = last
        return floors

    def _assignments(self) -> tuple[Int[np.ndarray, " counts"], Float[np.ndarray, " counts"]]:
        """Returns how often a key may be assigned, and how likely each number is."""
        more = np.arange(self.num_assignments - self.nback * self.num_keys + 1)
        return self.nback + more, scipy.stats.binom.pmf(more, more[-1], 1 / self.num_keys)

    def _likeliest_place(self) -> float:
        """Returns the chance that the assignment at the likeliest place is the n-th last of its own key.

        Given the number of a key's assignments, their places among all assignments are uniform: n - 1 of the others
        have to come later. Keys with many assignments are met proportionally more often.
        """
        count, share = self._assignments()
        met = share * count * self.num_keys / self.num_assignments
        later = np.arange(self.num_assignments)[:, None]  # of all assignments
        chance = scipy.stats.hypergeom.pmf(self.nback - 1, self.num_assignments - 1, later, count[None] - 1)
        return float((chance @ met).max())

    @property
    @override
    def open_answers(self) -> int:
        """Values are independent: the others reveal nothing about one that is unseen."""
        return self.num_values

    @override
    def stored(self) -> Stored:
        """The values that may be asked for, at the marker."""
        return Stored.independent(self.num_keys, self.num_values)

    @override
    def token_text(self, token: int) -> str:
        """Marker "|", keys "k7", values "v41"."""
        return "|" if token == _MARKER else f"k{token}" if token < self.first_value else f"v{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Assignments, the marker, questions."""
        roles = ["key", "value"] * self.num_assignments + ["marker"] + ["query"] * self.num_keys
        return [(self.token_text(int(token)), role) for token, role in zip(batch.inputs[row], roles, strict=True)]
