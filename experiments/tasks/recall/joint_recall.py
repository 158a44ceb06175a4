"""Joint recall: a key's value depends on the context in which the key appears."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks import sampling
from experiments.tasks.base import DISTANCE, Batch, FixedLength, Stored, check_size

_FILLER, _BEGIN, _ASK, _FIRST_CONTEXT = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointRecall(FixedLength):
    """Multi-query joint recall.

    With `length=21, num_contexts=2, num_keys=2, num_values=5`; c4 is a context, k6 a key, v9 a value, "^" the
    beginning, id 1, "|" the marker, id 2::

        ^ c4 k6 v9 k5 v7 c3 k5 v8 k6 v9 | c3 k6 v9 k5 v8 c4 k5 v7 k6
                                             v9    v8       v7    v9   <- targets

    Every row draws a table with a value for each context and key, uniform and independent. It states the table context
    by context, each context with all keys, both in uniformly random order. After the marker it asks for the whole table
    in new random orders: the answer is read at each key and given after it, except for the last one. All contexts, keys
    and values of the vocabulary are in use. The evidence is the value where it is stated. The slice `later` counts the
    contexts that are stated after the one that is asked for.

    A row that is longer than the table needs has filler, id 0, before the marker: at a greater length, the same table
    has to be kept for longer.

    References:
      Zhan et al. 2025, "Overcoming long-context limitations of state-space models via context-dependent sparse
      attention", arXiv:2507.00449, with 5 to 16 contexts and keys, and 16 values. Filler is ours.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "joint recall: predict the value that a key has in one of several contexts"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"later": "contexts stated after the one asked for"}

    length: int = 73  # tokens per row: at least 1 + 2 * num_contexts * (1 + 2 * num_keys)
    num_contexts: int = 4
    num_keys: int = 4  # in each context
    num_values: int = 16

    def __post_init__(self) -> None:
        check_size("length", self.length, 4)
        check_size("num_contexts", self.num_contexts, 1)
        check_size("num_keys", self.num_keys, 1)
        check_size("num_values", self.num_values, 2)
        if self.length < 1 + 2 * self._part:
            raise ValueError(f"`length` must be at least {1 + 2 * self._part} for this table; got {self.length}.")

    @property
    @override
    def vocab_size(self) -> int:
        """Filler, two markers, contexts, keys and values."""
        return self.first_value + self.num_values

    @property
    def first_key(self) -> int:
        """Contexts are 3..first_key - 1."""
        return _FIRST_CONTEXT + self.num_contexts

    @property
    def first_value(self) -> int:
        """Keys are first_key..first_value - 1, values first_value..vocab_size - 1."""
        return self.first_key + self.num_keys

    @property
    def _part(self) -> int:
        """Tokens that state the table."""
        return self.num_contexts * (1 + 2 * self.num_keys)

    @property
    def _asking(self) -> int:
        """Position of the marker."""
        return self.length - self._part

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        value_rng, stated_rng, asked_rng = jax.random.split(rng, 3)
        shape = (batch_size, self.num_contexts, self.num_keys)
        table = jax.random.randint(value_rng, shape, self.first_value, self.vocab_size, jnp.int32)
        stated, asked = self._draw_orders(stated_rng, batch_size), self._draw_orders(asked_rng, batch_size)
        inputs = jnp.full((batch_size, self.length), _FILLER, jnp.int32).at[:, 0].set(_BEGIN)
        inputs = inputs.at[:, 1 : 1 + self._part].set(self._spelled(table, *stated))
        inputs = inputs.at[:, self._asking].set(_ASK)
        inputs = inputs.at[:, self._asking + 1 :].set(self._spelled(table, *asked)[:, :-1])

        # Where each cell of the table is stated: an order's inverse is the order that sorts it.
        block = 1 + 2 * self.num_keys
        slot = jnp.argsort(stated[0], axis=1)[..., None].astype(jnp.int32)
        pair = jnp.take_along_axis(jnp.argsort(stated[1], axis=2).astype(jnp.int32), slot, axis=1)
        evidence = _cells(1 + block * slot + 2 + 2 * pair, *asked).reshape(batch_size, -1)
        asked_at = self._asking + 2 + block * np.arange(self.num_contexts)[:, None] + 2 * np.arange(self.num_keys)
        positions = jnp.broadcast_to(jnp.asarray(asked_at.reshape(1, -1), jnp.int32), evidence.shape)
        return Batch(
            inputs=inputs,
            targets=_cells(table, *asked).reshape(batch_size, -1),
            positions=positions,
            weights=jnp.ones(evidence.shape, jnp.float32),
            evidence=evidence[..., None],
            slices={"distance": positions - evidence, "later": self.num_contexts - 1 - (evidence - 1) // block},
        )

    def _draw_orders(self, rng: PRNGKeyArray, batch_size: int) -> tuple[Array, Array]:
        """Returns the context of each block [batch, blocks] and the key of each pair in it [batch, blocks, pairs]."""
        context_rng, key_rng = jax.random.split(rng)
        contexts = sampling.distinct(context_rng, batch_size, self.num_contexts, self.num_contexts)
        keys = sampling.distinct(key_rng, batch_size * self.num_contexts, self.num_keys, self.num_keys)
        return contexts, keys.reshape(batch_size, self.num_contexts, self.num_keys)

    def _spelled(self, table: Array, contexts: Array, keys: Array) -> Int[Array, "batch part"]:
        """Returns the tokens that state a table in these orders."""
        pairs = jnp.stack([self.first_key + keys, _cells(table, contexts, keys)], axis=-1)
        pairs = pairs.reshape(*keys.shape[:2], 2 * self.num_keys)
        return jnp.concatenate([_FIRST_CONTEXT + contexts[..., None], pairs], axis=2).reshape(len(table), -1)

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Reads token by token, with a dictionary from (context, key) to the value, and looks up what is asked."""
        answers = np.zeros(np.shape(batch.positions), int)
        for row, positions, answer in zip(np.asarray(batch.inputs), np.asarray(batch.positions), answers, strict=True):
            value_of: dict[tuple[int, int], int] = {}
            found, context, key = {}, 0, 0
            for position, token in enumerate(row.tolist()):
                if token >= self.first_value and position < self._asking:
                    value_of[context, key] = token
                elif _FIRST_CONTEXT <= token < self.first_key:
                    context = token
                elif self.first_key <= token < self.first_value:
                    key = token
                    found[position] = value_of.get((context, key), 0)
            answer[:] = [found[position] for position in positions.tolist()]
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Shortcuts that match only the key or only the context; answers already given can be struck off."""
        latest = 1 / self.num_contexts
        floors = {"guess a value": 1 / self.num_values}
        if self.num_contexts > 1:  # else matching the key is the task itself
            floors["answer with the key's latest value"] = latest + (1 - latest) / self.num_values
            floors["answer with the key's commonest value that is not given yet"] = self._commonest_left(
                self.num_contexts
            )
        if self.num_keys > 1:  # and so is matching the context
            floors["answer with the context's commonest value that is not given yet"] = self._commonest_left(
                self.num_keys
            )
        return floors

    def _commonest_left(self, count: int) -> float:
        """Returns how often the commonest of `count` values is right, with each answer in turn struck off."""
        left = range(1, count + 1)
        return float(np.mean([sampling.share_of_commonest(each, self.num_values) for each in left]))

    @property
    @override
    def open_answers(self) -> int:
        """Values are independent: the others reveal nothing about one that is unseen."""
        return self.num_values

    @override
    def stored(self) -> Stored:
        """The whole table, at the marker; given answers reveal only themselves."""
        return Stored.independent(self.num_contexts * self.num_keys, self.num_values)

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", beginning "^", marker "|", contexts "c3", keys "k7", values "v11"."""
        if token < _FIRST_CONTEXT:
            return ".^|"[token]
        return f"{'c' if token < self.first_key else 'k' if token < self.first_value else 'v'}{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The table, filler, then questions with the given answers."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        stated = {"c": "key", "k": "key", "v": "value", ".": "filler", "^": "marker", "|": "marker"}
        asked = stated | {"c": "query", "k": "query", "v": "answer"}
        return [(text, (stated if c < self._asking else asked)[text[0]]) for c, text in enumerate(texts)]


def _cells(table: Array, contexts: Array, keys: Array) -> Int[Array, "batch blocks pairs"]:
    """Returns the cells of a table [batch, contexts, keys] in an order of contexts, and one of keys in each."""
    return jnp.take_along_axis(jnp.take_along_axis(table, contexts[..., None], axis=1), keys, axis=2)
