"""Memorization: predict a key's value, which no row ever shows."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import Batch, FixedLength, check_even, check_size

_INSERT = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memorization(FixedLength):
    """Memorization: facts that only the weights can hold.

    With `length=8`; "_" is the insert token, id 0, k7 the key with id 7, v41 the value with id 41::

        k7 _   k3 _   k9 _   k7 _
           v41    v60    v33    v41   <- targets

    Keys are ids 1..vocab_size // 2 - 1, uniform and independent; values the ids above. The map from keys to values is
    drawn once, by `map_seed`: no two keys share a value, every such map is equally likely, and it is the same for all
    rows of training, validation and test. The value is predicted at the insert token; the evidence is the key before
    it.

    References:
      Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv:2403.17844.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "memorization: predict the value that a fixed map, never shown, assigns to each key"

    length: int = 32  # tokens per row, even
    vocab_size: int = 256  # insert token, keys and values; at least 2 keys
    map_seed: int = 0  # draws the map

    def __post_init__(self) -> None:
        check_size("length", self.length, 2)
        check_size("vocab_size", self.vocab_size, 6)
        check_size("map_seed", self.map_seed, 0)
        check_even("length", self.length)

    @property
    def first_value(self) -> int:
        """Keys are 1..first_value - 1, values first_value..vocab_size - 1."""
        return self.vocab_size // 2

    @property
    def value_of(self) -> Int[np.ndarray, " first_value"]:
        """The map, by key; 0 for the insert token."""
        # The old generator: its stream is frozen; that of the new one may change with NumPy.
        values = np.random.RandomState(self.map_seed).permutation(self.vocab_size - self.first_value)
        return np.append(0, self.first_value + values[: self.first_value - 1]).astype(np.int32)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        keys = jax.random.randint(rng, (batch_size, self.length // 2), 1, self.first_value, jnp.int32)
        place = jnp.broadcast_to(2 * jnp.arange(self.length // 2, dtype=jnp.int32), keys.shape)
        return Batch(
            inputs=jnp.stack([keys, jnp.full_like(keys, _INSERT)], axis=-1).reshape(batch_size, self.length),
            targets=jnp.asarray(self.value_of)[keys],
            positions=place + 1,
            weights=jnp.ones(keys.shape, jnp.float32),
            evidence=place[..., None],
            slices={"distance": jnp.ones_like(keys)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Looks up the key before each question."""
        return self.value_of[np.take_along_axis(np.asarray(batch.inputs), np.asarray(batch.positions) - 1, axis=1)]

    @override
    def floors(self) -> dict[str, float]:
        """Shortcuts that do not remember which value belongs to which key."""
        num_keys = self.first_value - 1
        return {"guess a value": 1 / (self.vocab_size - self.first_value), "always answer one value": 1 / num_keys}

    @property
    @override
    def open_answers(self) -> int:
        """Without the key, the values of all keys are equally likely."""
        return self.first_value - 1

    @override
    def token_text(self, token: int) -> str:
        """Insert token "_", keys "k7", values "v41"."""
        return "_" if token == _INSERT else f"k{token}" if token < self.first_value else f"v{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Keys and questions, alternating."""
        return [(self.token_text(int(token)), ("key", "query")[c % 2]) for c, token in enumerate(batch.inputs[row])]
