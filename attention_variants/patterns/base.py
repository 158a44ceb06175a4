"""What a pattern is, and how patterns combine."""

import abc
import dataclasses
import functools
from typing import Any

import numpy as np
from typing_extensions import override

_TILE = 256  # positions counted at once


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
        """Returns the number of permitted query-key pairs; tile by tile, as the whole matrix may not fit."""
        query_ends, key_ends = _tiles(query_length)[:, :, None], _tiles(key_length)[:, None, :]
        ends = *query_ends, *key_ends
        touched, filled = self.touched(*ends), self.filled(*ends)
        sizes = (query_ends[1] - query_ends[0] + 1) * (key_ends[1] - key_ends[0] + 1)
        total = int(np.sum(sizes, where=touched & filled))
        for i, j in np.argwhere(np.broadcast_to(touched & ~filled, sizes.shape)):
            rows = np.arange(query_ends[0, i, 0], query_ends[1, i, 0] + 1, dtype=np.int32)[:, None]
            columns = np.arange(key_ends[0, 0, j], key_ends[1, 0, j] + 1, dtype=np.int32)[None, :]
            total += int(np.count_nonzero(np.broadcast_to(self.visible(rows, columns), (len(rows), columns.size))))
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

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return (query_position >= 0) & (key_position >= 0)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.visible(last_query, last_key)

    filled = touched


@dataclasses.dataclass(frozen=True)
class _Combination(Pattern):
    """Parts combined by one elementwise operation."""

    parts: tuple[Pattern, ...]

    @abc.abstractmethod
    def _combine(self, one: Any, other: Any) -> Any: ...

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return functools.reduce(self._combine, [part.visible(query_position, key_position) for part in self.parts])

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        ends = first_query, last_query, first_key, last_key
        return functools.reduce(self._combine, [part.touched(*ends) for part in self.parts])

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        ends = first_query, last_query, first_key, last_key
        return functools.reduce(self._combine, [part.filled(*ends) for part in self.parts])


@dataclasses.dataclass(frozen=True)
class AnyOf(_Combination):
    """What at least one of the parts shows."""

    def _combine(self, one: Any, other: Any) -> Any:
        return one | other


@dataclasses.dataclass(frozen=True)
class AllOf(_Combination):
    """What all of the parts show."""

    def _combine(self, one: Any, other: Any) -> Any:
        return one & other


def _tiles(length: int) -> np.ndarray:
    """Returns the first and the last position of every tile, [2, tiles]."""
    first = np.arange(0, length, _TILE)
    return np.stack([first, np.minimum(first + _TILE, length) - 1])
