"""Which key a query may see, as small frozen descriptions.

A `Pattern` says for absolute positions whether a query sees a key (`visible`, elementwise, traced or not) and, for
the block engine, whether a block of queries touches a block of keys at all (`touched`) and whether it sees it whole
(`filled`). Pictures show queries as rows and keys as columns.

The number of keys a window shows goes by many conventions; here `window_size` counts the keys visible, the query's own
included. `window_from_*` convert.
"""

import abc
import dataclasses
import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Pattern(abc.ABC):
    """A rule about positions."""

    @abc.abstractmethod
    def visible(self, query_position: Any, key_position: Any) -> Any:
        """Returns whether a query at one position sees a key at another; elementwise over broadcast integers."""

    @abc.abstractmethod
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """Returns whether any query of a range may see any key of a range (inclusive ends; True when in doubt)."""

    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """Returns whether every query of a range sees every key of a range (False when in doubt)."""
        return np.zeros(np.broadcast_shapes(np.shape(first_query), np.shape(first_key)), bool)

    def count(self, query_length: int, key_length: int) -> int:
        """Returns the number of permitted query-key pairs."""
        columns, total = np.arange(key_length, dtype=np.int32)[None, :], 0
        for start in range(0, query_length, 256):  # in strips: the whole matrix may not fit
            rows = np.arange(start, min(start + 256, query_length), dtype=np.int32)[:, None]
            total += int(np.count_nonzero(np.broadcast_to(self.visible(rows, columns), (len(rows), key_length))))
        return total

    def matrix(self, query_length: int, key_length: int) -> np.ndarray:
        """Returns `visible` as a bool matrix [query_length, key_length]."""
        rows, columns = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
        return np.broadcast_to(np.asarray(self.visible(rows, columns)), (query_length, key_length)).copy()


@dataclasses.dataclass(frozen=True)
class Everything(Pattern):
    """Every key.

    ::

        1 1 1 1
        1 1 1 1
        1 1 1 1
        1 1 1 1
    """

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`."""
        return (query_position >= 0) & (key_position >= 0)

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self.visible(last_query, last_key)

    filled = touched


@dataclasses.dataclass(frozen=True)
class Band(Pattern):
    """Keys from `before` positions before the query to `after` positions after it; None is without end.

    `Band(before=None, after=0)` is causal attention and `Band(before=1, after=0)` a causal window of 2::

        1 0 0 0      1 0 0 0
        1 1 0 0      1 1 0 0
        1 1 1 0      0 1 1 0
        1 1 1 1      0 0 1 1
    """

    before: int | None
    after: int | None

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`."""
        return self._overlaps(query_position - key_position, query_position - key_position)

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self._overlaps(first_query - last_key, last_query - first_key)

    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self._overlaps(first_query - last_key, first_query - last_key) & self._overlaps(
            last_query - first_key, last_query - first_key
        )

    def count(self, query_length: int, key_length: int) -> int:
        """See `Pattern`; a row at a time."""
        rows = np.arange(query_length)
        first = 0 if self.before is None else np.maximum(rows - self.before, 0)
        end = key_length if self.after is None else np.minimum(rows + self.after + 1, key_length)
        return int(np.maximum(end - first, 0).sum() if np.ndim(end - first) else query_length * (end - first))

    def _overlaps(self, low: Any, high: Any) -> Any:
        """Whether the distances low..high (query - key) meet -after..before."""
        result = low == low
        if self.before is not None:
            result = result & (low <= self.before)
        if self.after is not None:
            result = result & (high >= -self.after)
        return result


@dataclasses.dataclass(frozen=True)
class EveryNth(Pattern):
    """Keys at distances that are multiples of `step`, both ways.

    `EveryNth(2)`::

        1 0 1 0
        0 1 0 1
        1 0 1 0
        0 1 0 1
    """

    step: int

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`."""
        return (query_position - key_position) % self.step == 0

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        low, high = first_query - last_key, last_query - first_key
        return high // self.step * self.step >= low


@dataclasses.dataclass(frozen=True)
class FirstKeys(Pattern):
    """The first keys, for every query.

    `FirstKeys(2)`::

        1 1 0 0
        1 1 0 0
        1 1 0 0
        1 1 0 0
    """

    num_keys: int

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`."""
        return (key_position < self.num_keys) & (query_position >= 0)

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self.visible(first_query, first_key)

    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self.visible(first_query, last_key)


@dataclasses.dataclass(frozen=True)
class FirstQueries(Pattern):
    """Every key, for the first queries: the other half of global tokens.

    `FirstQueries(2)`::

        1 1 1 1
        1 1 1 1
        0 0 0 0
        0 0 0 0
    """

    num_queries: int

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`."""
        return (query_position < self.num_queries) & (key_position >= 0)

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self.visible(first_query, first_key)

    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self.visible(last_query, first_key)


@dataclasses.dataclass(frozen=True)
class ListedBlocks(Pattern):
    """For each block of queries a list of key blocks; -1 lists none.

    `ListedBlocks(2, ((1,), (0,)))`::

        0 0 1 1
        0 0 1 1
        1 1 0 0
        1 1 0 0
    """

    block_size: int
    key_blocks: tuple[tuple[int, ...], ...]  # one tuple per block of queries, all of one length

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`; queries past the last listed block see nothing new."""
        table = jnp.asarray(self.key_blocks) if isinstance(query_position, jax.Array) else np.asarray(self.key_blocks)
        row = (query_position // self.block_size).clip(0, len(self.key_blocks) - 1)
        return (table[row] == (key_position // self.block_size)[..., None]).any(-1)

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        return self._listed(first_query, last_query, first_key, last_key) > 0

    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        size = self.block_size
        rows, columns = last_query // size - first_query // size + 1, last_key // size - first_key // size + 1
        return self._listed(first_query, last_query, first_key, last_key) == rows * columns

    def _listed(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """Counts the listed blocks that a rectangle meets, by the integral of the block table."""
        rows, columns = len(self.key_blocks), 1 + max((block for row in self.key_blocks for block in row), default=0)
        table = np.zeros((rows + 1, columns + 1), np.int64)
        for row, listed in enumerate(self.key_blocks):
            table[row + 1, [block + 1 for block in listed if block >= 0]] = 1
        integral, size = table.cumsum(0).cumsum(1), self.block_size
        top, bottom = (first_query // size).clip(0, rows), (last_query // size + 1).clip(0, rows)
        left, right = (first_key // size).clip(0, columns), (last_key // size + 1).clip(0, columns)
        return integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]


@dataclasses.dataclass(frozen=True)
class AnyOf(Pattern):
    """What at least one of the parts shows."""

    parts: tuple[Pattern, ...]

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`."""
        return functools.reduce(operator.or_, [part.visible(query_position, key_position) for part in self.parts])

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        ends = first_query, last_query, first_key, last_key
        return functools.reduce(operator.or_, [part.touched(*ends) for part in self.parts])

    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        ends = first_query, last_query, first_key, last_key
        return functools.reduce(operator.or_, [part.filled(*ends) for part in self.parts])


@dataclasses.dataclass(frozen=True)
class AllOf(Pattern):
    """What all of the parts show."""

    parts: tuple[Pattern, ...]

    def visible(self, query_position: Any, key_position: Any) -> Any:
        """See `Pattern`."""
        return functools.reduce(operator.and_, [part.visible(query_position, key_position) for part in self.parts])

    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        ends = first_query, last_query, first_key, last_key
        return functools.reduce(operator.and_, [part.touched(*ends) for part in self.parts])

    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        """See `Pattern`."""
        ends = first_query, last_query, first_key, last_key
        return functools.reduce(operator.and_, [part.filled(*ends) for part in self.parts])


def causal_or_full(causal: bool) -> Pattern:
    """Returns the pattern of full attention."""
    return Band(before=None, after=0) if causal else Everything()


def window(window_size: int, causal: bool) -> Band:
    """Returns the band of `window_size` visible keys, the query's own included.

    Causal, they are the query's own and those just before it. Otherwise they lie around it, the odd one before:
    `window(4, causal=False)` shows two before, the own and one after.
    """
    if causal:
        return Band(before=window_size - 1, after=0)
    return Band(before=window_size // 2, after=(window_size - 1) // 2)


def window_from_left(left: int) -> int:
    """Converts a window given as keys before the query, own not counted (flash-attn and jax `(left, 0)`, zoology)."""
    return left + 1


def window_from_one_side(one_side: int) -> int:
    """Converts a symmetric window given per side (a jax integer `local_window_size`), for causal=False."""
    return 2 * one_side + 1
