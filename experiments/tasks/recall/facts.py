"""Facts: a fixed map that only the weights can hold, asked for in a format that may change."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray
from typing_extensions import override

from attention_variants import specs
from experiments.tasks.base import Batch, FixedLength, check_size

_USED, _CARRIED, _NEVER, _TRAINED = "used", "carried", "never", "trained"
PARTS = (_TRAINED, _USED, _CARRIED, _NEVER)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts(FixedLength):
    """Facts in a format: each format asks for the key at a place of its own, before a marker of its own.

    With `length=8, num_keys=3`; "?0" and "?1" mark the formats, k9 is a key, v41 a value::

        format=0:  k9 k30 k7 ?0 k12 k9 k25 ?0        format=1:  k9 k30 k7 ?1 k12 k9 k25 ?1
                             v41            v44                           v47            v41   <- targets

    A question is `num_keys` keys and the marker of the format, where the value of one of them is read: in format f,
    that of key f, counted from 0. Values are drawn once, by `map_seed`, and no row shows one. The other keys are
    uniform among all keys.

    Keys fall into three parts: `used` by fine-tuning, `carried` over from pretraining, and `never` asked for in
    training. `part` says which of them rows ask for, uniformly and independently; `trained` is used and carried. In
    each part, all values are equally frequent, or nearly so, so that no part says anything about another. A model that
    is trained with part=trained in one format, and then with part=used in another, is tested on the others
    (`eval.shifted`).

    The evidence is the key that is asked for.

    References:
      The map is that of memorization: Poli et al. 2024, arXiv:2403.17844. Facts that training never shows, and facts of
      which fine-tuning shows a part, are as in Allen-Zhu and Li 2024, "Physics of language models: Part 3.1, knowledge
      storage and extraction", arXiv:2309.14316, where formats are sentences.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "facts: name the value that a fixed map, never shown, assigns to a key, in a given format"
    every_change_counts: ClassVar[bool] = False  # keys share values

    length: int = 32  # tokens per row: a multiple of num_keys + 1
    num_keys: int = 3  # in a question; there are as many formats
    format: int = 0  # which of them is asked for
    part: str = _TRAINED  # which keys are asked for: trained, used, carried or never
    num_used: int = 256
    num_carried: int = 256
    num_never: int = 64
    num_values: int = 16
    map_seed: int = 0  # draws the map

    def __post_init__(self) -> None:
        check_size("num_keys", self.num_keys, 2)
        check_size("format", self.format, 0)
        check_size("num_values", self.num_values, 2)
        check_size("map_seed", self.map_seed, 0)
        check_size("length", self.length, self.num_keys + 1)
        for name in ("num_used", "num_carried", "num_never"):
            check_size(name, getattr(self, name), self.num_values)
        if self.length % (self.num_keys + 1):
            raise ValueError(f"`length` must be a multiple of `num_keys` + 1 = {self.num_keys + 1}; got {self.length}.")
        if self.format >= self.num_keys:
            raise ValueError(f"`format` must be below `num_keys` = {self.num_keys}; got {self.format}.")
        if self.part not in PARTS:
            raise ValueError(specs.unknown("`part`", self.part, PARTS))

    @property
    @override
    def vocab_size(self) -> int:
        """Markers of all formats, keys and values."""
        return self.first_value + self.num_values

    @property
    def first_value(self) -> int:
        """Markers are 0..num_keys - 1, keys num_keys..first_value - 1, values first_value..vocab_size - 1."""
        return self.num_keys + self.num_used + self.num_carried + self.num_never

    @property
    def asked(self) -> range:
        """The keys that rows ask for, by their ids: used ones come first, those that are never trained last."""
        carried, never = self.num_keys + self.num_used, self.first_value - self.num_never
        first, end = {
            _TRAINED: (self.num_keys, never),
            _USED: (self.num_keys, carried),
            _CARRIED: (carried, never),
            _NEVER: (never, self.first_value),
        }[self.part]
        return range(first, end)

    @property
    def value_of(self) -> Int[np.ndarray, " first_value"]:
        """The map, by key; 0 for markers."""
        draw = np.random.RandomState(self.map_seed)  # its stream is frozen; that of the new generator is not
        parts = [
            draw.permutation(np.arange(size) % self.num_values)
            for size in (self.num_used, self.num_carried, self.num_never)
        ]
        return np.concatenate([np.zeros(self.num_keys), *(self.first_value + part for part in parts)]).astype(np.int32)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        key_rng, other_rng = jax.random.split(rng)
        block = self.num_keys + 1
        shape = (batch_size, self.length // block)
        keys = jax.random.randint(key_rng, shape, self.asked.start, self.asked.stop, jnp.int32)
        others = jax.random.randint(other_rng, (*shape, block), self.num_keys, self.first_value, jnp.int32)
        questions = others.at[:, :, self.format].set(keys).at[:, :, -1].set(self.format)
        place = jnp.broadcast_to(block * jnp.arange(shape[1], dtype=jnp.int32), shape)
        return Batch(
            inputs=questions.reshape(batch_size, self.length),
            targets=jnp.asarray(self.value_of)[keys],
            positions=place + self.num_keys,
            weights=jnp.ones(shape, jnp.float32),
            evidence=(place + self.format)[..., None],
            slices={"distance": jnp.full(shape, self.num_keys - self.format, jnp.int32)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Looks up the key at the format's place before each marker."""
        inputs, positions = np.asarray(batch.inputs), np.asarray(batch.positions)
        return self.value_of[np.take_along_axis(inputs, positions - self.num_keys + self.format, axis=1)]

    @override
    def floors(self) -> dict[str, float]:
        """Shortcuts that know neither the map nor the format, or that know the facts of training but not the format."""
        own, every = (self._shares(keys) for keys in (self.asked, range(self.num_keys, self.first_value)))
        found = {"guess a value": 1 / self.num_values, "always answer the commonest value": float(own.max())}
        if self.part != _NEVER:
            right = 1 / self.num_keys
            found["answer for any of the keys in the question"] = right + (1 - right) * float(own @ every)
        return found

    def _shares(self, keys: range) -> Float[np.ndarray, " num_values"]:
        """Returns the share of each value among some equally likely keys."""
        values = self.value_of[keys.start : keys.stop] - self.first_value
        return np.bincount(values, minlength=self.num_values) / len(keys)

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Without the key: the share of the commonest value."""
        return np.full(np.shape(batch.weights), self._shares(self.asked).max())

    @override
    def token_text(self, token: int) -> str:
        """Markers "?0", keys "k7", values "v41"."""
        return f"{'?' if token < self.num_keys else 'k' if token < self.first_value else 'v'}{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Keys, one of which is asked for, and a marker, again and again."""
        roles = ["filler"] * self.num_keys + ["query"]
        roles[self.format] = "key"
        return [(self.token_text(int(token)), roles[c % len(roles)]) for c, token in enumerate(batch.inputs[row])]
