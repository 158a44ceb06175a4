"""Fuzzy recall: in-context recall whose keys and values are tuples of tokens."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size, next_tokens

_PAD = 0
_FLOOR_ROWS = 1024  # some ten thousand answers: to two digits


class _Pairs(NamedTuple):
    """Pairs of tuples; on the last axis, only the first `key_size` or `value_size` tokens count."""

    keys: Int[Array, "batch pairs max_size"]
    values: Int[Array, "batch pairs max_size"]
    key_size: Int[Array, "batch pairs"]
    value_size: Int[Array, "batch pairs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FuzzyRecall(FixedLength):
    """Fuzzy in-context recall.

    With `length=20, vocab_size=16, max_size=2`; "." is padding, id 0, k2 a key token, v9 a value token::

        . . . k5 k2 v9 k2 v11 v8 k5 v14 k2  v11 v8 k6 k1 v8 k5 k2 v9
                                        v11 v8                 v9   <- targets

    A row is a stream of pairs of a key and a value. Both are tuples of distinct tokens: the size is uniform over
    `min_key_size`..`max_size` for keys and 1..`max_size` for values, and every tuple of that size is equally likely.
    Key tokens are 1..vocab_size // 2 - 1, value tokens the ids above. A key's value is drawn when the row first uses
    the key and is fixed from then on. Pairs follow one another while the largest pair would still fit; one more, the
    probe, is inserted at a uniformly drawn place among them and repeated at the end; padding fills the row on the left.

    The tokens of a value are scored if its key came before. Each is read one position earlier, and the answer's earlier
    tokens are given. Training uses every next token except padding. Published training mixes keys of 1 to 3 tokens;
    published evaluation has only keys of 3: `min_key_size=3`. The evidence is the same token in every earlier statement
    of the key, and any one of them is enough.

    References:
      Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures", arXiv:2403.17844.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "fuzzy recall: in-context recall with keys and values of several tokens"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "repeats": "earlier occurrences of the key",
        "token": "token of the value, from 0",
    }
    every_change_counts: ClassVar[bool] = False  # other statements of the same key are as good
    any_evidence_suffices: ClassVar[bool] = True

    length: int = 128  # tokens per row
    vocab_size: int = 16  # padding, key tokens and value tokens
    min_key_size: int = 1  # tokens of the shortest key
    max_size: int = 3  # tokens of the longest key and the longest value

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("vocab_size", self.vocab_size, 4)
        check_size("max_size", self.max_size, 1)
        check_size("min_key_size", self.min_key_size, 1)
        if self.min_key_size > self.max_size:
            raise ValueError(f"`min_key_size` must be at most `max_size` = {self.max_size}; got {self.min_key_size}.")
        if self.length < 4 * self.max_size:
            raise ValueError(f"`length` must be at least 4 * `max_size` = {4 * self.max_size}; got {self.length}.")
        if self.num_keys < self.max_size:
            raise ValueError(
                f"`vocab_size` must be at least 2 * `max_size` + 2 = {2 * self.max_size + 2}; got {self.vocab_size}."
            )

    @property
    def num_keys(self) -> int:
        """Key tokens are 1..num_keys."""
        return self.vocab_size // 2 - 1

    @property
    def num_values(self) -> int:
        """Value tokens are the ids above those of keys."""
        return self.vocab_size - self.num_keys - 1

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        smallest = self.min_key_size + 1
        most = max(0, self.length - 2 * smallest - 2 * self.max_size) // smallest + 1  # pairs besides the probe's two
        pair_rng, place_rng = jax.random.split(rng)
        pairs = self._draw_pairs(pair_rng, batch_size, 1 + most)  # the first is the probe
        size = pairs.key_size + pairs.value_size
        probe_size, size = size[:, :1], size[:, 1:]
        used = jnp.cumsum(size, axis=1, dtype=jnp.int32) - size
        count = (used + 2 * self.max_size + 2 * probe_size <= self.length).sum(axis=1, keepdims=True, dtype=jnp.int32)

        place = jax.random.randint(place_rng, (batch_size, 1), 0, count + 1, jnp.int32)
        slot = jnp.arange(most + 2, dtype=jnp.int32)[None]
        source = jnp.where((slot == place) | (slot > count), 0, slot + (slot < place))
        return self._lay_out(_take(pairs, source), stands=slot <= count + 1)

    def _draw_pairs(self, rng: PRNGKeyArray, batch_size: int, count: int) -> _Pairs:
        """Draws pairs; one whose key is already in the list has the value that it has there."""
        rngs, shape = jax.random.split(rng, 4), (batch_size, count)
        token = jnp.arange(self.max_size, dtype=jnp.int32)[None, None]

        def tuples(rng: PRNGKeyArray, size: Array, total: int) -> Array:
            drawn = sampling.distinct(rng, batch_size * count, self.max_size, total).reshape(*shape, self.max_size)
            return jnp.where(token < size[..., None], 1 + drawn, 0)

        key_size = jax.random.randint(rngs[0], shape, self.min_key_size, self.max_size + 1, jnp.int32)
        value_size = jax.random.randint(rngs[1], shape, 1, self.max_size + 1, jnp.int32)
        keys = tuples(rngs[2], key_size, self.num_keys)
        values = self.num_keys + tuples(rngs[3], value_size, self.num_values)
        first = _equal(keys).argmax(axis=2)
        return _take(_Pairs(keys, values, key_size, value_size), first)

    def _lay_out(self, pairs: _Pairs, stands: Bool[Array, "batch pairs"]) -> Batch:
        """Writes the pairs where `stands` is true one after another, up to the end of the row, and asks for repeats."""
        batch_size, num_pairs = pairs.key_size.shape
        size = jnp.where(stands, pairs.key_size + pairs.value_size, 0)
        end = self.length - size.sum(axis=1, keepdims=True, dtype=jnp.int32) + jnp.cumsum(size, axis=1, dtype=jnp.int32)
        start = end - size
        value_start = start + pairs.key_size

        column = jnp.arange(self.length, dtype=jnp.int32)
        pair = (end[:, None, :] <= column[None, :, None]).sum(axis=2, dtype=jnp.int32)  # the pair at each position
        offset = column[None] - jnp.take_along_axis(start, pair, axis=1)
        value_offset = column[None] - jnp.take_along_axis(value_start, pair, axis=1)
        inputs = jnp.where(value_offset < 0, _token(pairs.keys, pair, offset), _token(pairs.values, pair, value_offset))
        inputs = jnp.where(offset < 0, _PAD, inputs)

        order = jnp.arange(num_pairs)
        earlier = _equal(pairs.keys) & stands[:, None, :] & (order[:, None] > order[None, :])[None]
        pair, value_offset = pair[:, 1:], value_offset[:, 1:]  # of the token that is predicted
        same = jnp.take_along_axis(earlier, pair[:, :, None], axis=1) & (value_offset >= 0)[..., None]
        evidence = jnp.where(same, value_start[:, None, :] + value_offset[..., None], -1)
        asked = same.any(axis=2)
        positions = jnp.where(asked, column[None, :-1], 0)
        slices = {
            "distance": positions - evidence.max(axis=2),
            "repeats": same.sum(axis=2, dtype=jnp.int32),
            "token": value_offset,
        }
        return Batch(
            inputs=inputs,
            targets=jnp.where(asked, inputs[:, 1:], 0),
            positions=positions,
            weights=asked.astype(jnp.float32),
            evidence=evidence,
            slices={name: jnp.where(asked, value, 0) for name, value in slices.items()},
        )

    @override
    def training_batch(self, batch: Batch) -> Batch:
        """Every next token except padding."""
        return next_tokens(batch, (batch.inputs[:, 1:] != _PAD).astype(jnp.float32))

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Reads token by token and remembers the last value of each key."""
        answers = np.zeros(np.shape(batch.positions), int)
        for row, positions, answer in zip(np.asarray(batch.inputs), np.asarray(batch.positions), answers, strict=True):
            after = self._continuations(row.tolist())
            answer[:] = [after[position] for position in positions.tolist()]
        return answers

    def _continuations(self, row: list[int]) -> list[int]:
        """Returns, per position, the next token of the value that was last seen with the key read there; 0: none."""
        values: dict[tuple[int, ...], list[int]] = {}
        key: list[int] = []
        value: list[int] = []
        after = []
        for token in row:
            if token > self.num_keys:
                value.append(token)
            elif value:
                values[tuple(key)] = value
                key, value = [token], []
            elif token != _PAD:
                key.append(token)
            known = values.get(tuple(key), [])
            after.append(known[len(value)] if len(value) < len(known) else 0)
        return after

    @override
    def floors(self) -> dict[str, float]:
        """Guessing without looking, and what most values so far have at that place, over a fixed large sample."""
        return {
            "guess a value token": 1 / self.num_values,
            "answer with what most values so far have at that place": _commonest_so_far(self),
        }

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Values are independent, and the tokens of one are distinct: none of those given is the next one."""
        return 1.0 / (self.num_values - np.asarray(batch.slices["token"]))

    @override
    def token_text(self, token: int) -> str:
        """Padding ".", key tokens "k3", value tokens "v9"."""
        return "." if token == _PAD else f"k{token}" if token <= self.num_keys else f"v{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Padding, then the tokens of keys and values."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        return [(text, {".": "filler", "k": "key", "v": "value"}[text[0]]) for text in texts]


@functools.cache
def _commonest_so_far(task: FuzzyRecall) -> float:
    """Returns the score of the commonest token at the same place of a value, excluding those of the answer so far."""
    sample = jax.jit(lambda rng: task.sample(rng, _FLOOR_ROWS))
    batch = jax.tree.map(np.asarray, sample(jax.random.key(0)))
    rows, right = np.arange(_FLOOR_ROWS), 0.0
    counts = np.zeros((_FLOOR_ROWS, task.max_size, task.vocab_size))
    place, said = np.full(_FLOOR_ROWS, -1), np.zeros((_FLOOR_ROWS, task.vocab_size), bool)
    for column in range(task.length):
        token = batch.inputs[:, column]
        is_value = token > task.num_keys
        place = np.where(is_value, place + 1, -1)
        said &= is_value[:, None]
        counts[rows[is_value], place[is_value], token[is_value]] += 1
        said[rows[is_value], token[is_value]] = True
        asked = (batch.positions == column) & (batch.weights > 0)
        for row, target in zip(*np.nonzero(asked), strict=True):
            left = np.where(said[row], -1, counts[row, place[row] + 1])[task.num_keys + 1 :]
            answer = batch.targets[row, target] - task.num_keys - 1
            right += (left[answer] == left.max()) / (left == left.max()).sum()
    return float(right / batch.weights.sum())


def _take(pairs: _Pairs, index: Int[Array, "batch pairs"]) -> _Pairs:
    return _Pairs(
        *(jnp.take_along_axis(field, index[..., None], axis=1) for field in (pairs.keys, pairs.values)),
        *(jnp.take_along_axis(field, index, axis=1) for field in (pairs.key_size, pairs.value_size)),
    )


def _equal(keys: Int[Array, "batch pairs max_size"]) -> Bool[Array, "batch pairs pairs"]:
    return (keys[:, :, None] == keys[:, None, :]).all(axis=-1)


def _token(tuples: Int[Array, "batch pairs max_size"], pair: Array, offset: Array) -> Int[Array, "batch length"]:
    """Returns token `offset` of tuple `pair` at every position; where it has none, any token."""
    max_size = tuples.shape[2]
    place = pair * max_size + jnp.clip(offset, 0, max_size - 1)
    return jnp.take_along_axis(tuples.reshape(len(tuples), -1), place, axis=1)
