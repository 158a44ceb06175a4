"""Patterns that depend on where query and key stand: at the start, in which block."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import override

from attention_variants.patterns.base import Pattern


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

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return (key_position < self.num_keys) & (query_position >= 0)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.visible(first_query, first_key)

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
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

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return (query_position < self.num_queries) & (key_position >= 0)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.visible(first_query, first_key)

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.visible(last_query, first_key)


@dataclasses.dataclass(frozen=True)
class LastOfBlocks(Pattern):
    """The last keys of every block, for every query.

    `LastOfBlocks(2, 1)`::

        0 1 0 1
        0 1 0 1
        0 1 0 1
        0 1 0 1
    """

    block_size: int
    num_keys: int  # at most block_size

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return (key_position % self.block_size >= self.block_size - self.num_keys) & (query_position >= 0)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return (self._before(last_key + 1) > self._before(first_key)) & (first_query >= 0)

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        shown = self._before(last_key + 1) - self._before(first_key)
        return (shown == last_key + 1 - first_key) & (first_query >= 0)

    def _before(self, position: Any) -> Any:
        """Counts the keys shown before a position."""
        whole, rest = position // self.block_size, position % self.block_size
        return whole * self.num_keys + np.maximum(rest - (self.block_size - self.num_keys), 0)


@dataclasses.dataclass(frozen=True)
class Blockwise(Pattern):
    """What a pattern shows of whole blocks: positions are counted in blocks of queries and of keys.

    `Blockwise(Band(before=0, after=0), 2, 2)` shows every query its own block of 2, and
    `Blockwise(Band(before=None, after=-1), 2, 1)` one key for each earlier block of 2 queries::

        1 1 0 0      0 0 0 0
        1 1 0 0      0 0 0 0
        0 0 1 1      1 0 0 0
        0 0 1 1      1 0 0 0
    """

    blocks: Pattern
    query_block: int
    key_block: int

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return self.blocks.visible(query_position // self.query_block, key_position // self.key_block)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.blocks.touched(*self._in_blocks(first_query, last_query, first_key, last_key))

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.blocks.filled(*self._in_blocks(first_query, last_query, first_key, last_key))

    def _in_blocks(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> tuple[Any, ...]:
        queries, keys = self.query_block, self.key_block
        return first_query // queries, last_query // queries, first_key // keys, last_key // keys


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

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        """Queries past the last listed block see nothing new."""
        table = jnp.asarray(self.key_blocks) if isinstance(query_position, jax.Array) else np.asarray(self.key_blocks)
        row = (query_position // self.block_size).clip(0, len(self.key_blocks) - 1)
        return (table[row] == (key_position // self.block_size)[..., None]).any(-1)

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self._listed(first_query, last_query, first_key, last_key) > 0

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
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
