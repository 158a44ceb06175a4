"""Patterns that depend on the distance between query and key alone."""

import dataclasses
from typing import Any

import numpy as np
from typing_extensions import override

from attention_variants.patterns.base import AllOf, AnyOf, Pattern


@dataclasses.dataclass(frozen=True)
class Band(Pattern):
    """Keys from `before` positions before the query to `after` positions after it; None is unbounded.

    `Band(before=None, after=0)` is causal attention and `Band(before=1, after=0)` a causal window of 2::

        1 0 0 0      1 0 0 0
        1 1 0 0      1 1 0 0
        1 1 1 0      0 1 1 0
        1 1 1 1      0 0 1 1
    """

    before: int | None
    after: int | None

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return self._overlaps(query_position - key_position, query_position - key_position)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self._overlaps(first_query - last_key, last_query - first_key)

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self._overlaps(first_query - last_key, first_query - last_key) & self._overlaps(
            last_query - first_key, last_query - first_key
        )

    @override
    def count(self, query_length: int, key_length: int) -> int:
        """A row at a time."""
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

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return (query_position - key_position) % self.step == 0

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        low, high = first_query - last_key, last_query - first_key
        return high // self.step * self.step >= low


@dataclasses.dataclass(frozen=True)
class PowersOfTwo(Pattern):
    """Keys at distances 1, 2, 4, 8 ..., both ways.

    ::

        0 1 1 0
        1 0 1 1
        1 1 0 1
        0 1 1 0
    """

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        distance = abs(query_position - key_position)
        return (distance > 0) & (distance & (distance - 1) == 0)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        low, high = first_query - last_key, last_query - first_key
        return self._between(low, high) | self._between(-high, -low)

    def _between(self, low: Any, high: Any) -> Any:
        """Whether there is a power of two from `low` to `high`."""
        highest = np.exp2(np.floor(np.log2(np.maximum(high, 1))))  # the largest one up to `high`
        return (high >= 1) & (highest >= low)


def band_around(pattern: Pattern) -> Band | None:
    """Returns a band that covers all a pattern shows, if that depends on the distance alone; otherwise None."""
    if isinstance(pattern, Band):
        return pattern
    if isinstance(pattern, EveryNth | PowersOfTwo):
        return Band(before=None, after=None)
    if not isinstance(pattern, AllOf | AnyOf):
        return None
    bands = [band_around(part) for part in pattern.parts]
    sides = [(band.before, band.after) for band in bands if band is not None]
    if len(sides) < len(bands):
        return None
    return Band(*(_widest(side, isinstance(pattern, AnyOf)) for side in zip(*sides, strict=True)))


def _widest(ends: tuple[int | None, ...], any_of: bool) -> int | None:
    """Returns how far any, or all, of some bands reach to one side; None is unbounded."""
    known = [end for end in ends if end is not None]
    if any_of:
        return max(known) if len(known) == len(ends) else None
    return min(known, default=None)
