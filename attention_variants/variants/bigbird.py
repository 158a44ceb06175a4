"""BigBird attention: a window, a few global tokens and a few random blocks."""

import dataclasses
import functools

import numpy as np
from typing_extensions import override

from attention_variants import patterns
from attention_variants.checks import check_integer
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.patterns.matrices import near_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class BigBirdAttention(StaticPatternVariant):
    """Softmax attention over a window, global tokens and random blocks; the pattern is fixed by `seed`.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j in window(i), or j < num_global, or block(j) in random(block(i)), or, not causal, i < num_global

    Each block of `block_size` queries draws `num_random` blocks of keys from the earlier ones that neither its window
    nor the global tokens cover fully, so that a row does not depend on the length. If not causal, the random graph is
    undirected: a block also sees the later ones that drew it.

    Attributes:
      window_size: keys visible around the query (if causal: before it), its own included.
      num_global: first tokens that every query sees and that, if not causal, see every key.
      num_random: random blocks of keys that a block of queries draws.
      block_size: tokens per random block, and per block of the engine.
      seed: fixes the draws; every head and layer shares them.

    References:
      Zaheer et al. 2020, "Big Bird: Transformers for Longer Sequences", arXiv:2007.14062, section 2 and appendix D
      (blocks of 64, three of window, two global, three random). The authors' code makes the first and the last block
      global; ours makes only the first tokens global, because which block is the last depends on the length. The paper
      is bidirectional, and its window and global parts are whole blocks; ours count tokens, and the causal form is our
      restriction. We use the internal construction, with existing tokens as global ones.
    """

    window_size: int = 128
    num_global: int = 64
    num_random: int = 3
    block_size: int = 64
    seed: int = 0

    family = "softmax, static pattern"
    cost_order = "length * (window_size + num_global + num_random * block_size)"
    state_order = "length * (head_dim + value_dim)"
    paper = "Zaheer et al. 2020, arXiv:2007.14062"
    size_field = "window_size"
    examples = {
        16: "window_size=3,num_global=1,num_random=1,block_size=2",
        128: "window_size=16,num_global=4,num_random=1,block_size=16",
    }
    claims_growth = True

    def __post_init__(self) -> None:
        for name, minimum in (("window_size", 1), ("num_global", 0), ("num_random", 0), ("block_size", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), minimum)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the union of window, global tokens and random blocks."""
        query_position, key_position = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
        seen = near_keys(query_length, key_length, self.window_size, causal)
        seen |= key_position < self.num_global
        if not causal:
            seen |= query_position < self.num_global
        for row, blocks in enumerate(self._random_blocks(query_length, key_length, causal)):
            for block in blocks:
                if block >= 0:
                    queries = slice(row * self.block_size, (row + 1) * self.block_size)
                    seen[queries, block * self.block_size : (block + 1) * self.block_size] = True
        return seen & (key_position <= query_position) if causal else seen

    @override
    def block_pattern(self, query_length: int, key_length: int, causal: bool) -> patterns.Pattern:
        parts: list[patterns.Pattern] = [patterns.window(self.window_size, causal)]
        if self.num_global:
            parts.append(patterns.FirstKeys(self.num_global))
            if not causal:
                parts.append(patterns.FirstQueries(self.num_global))
        if self.num_random:
            drawn = self._random_blocks(query_length, key_length, causal)
            parts.append(patterns.ListedBlocks(self.block_size, drawn))
        return patterns.AllOf((patterns.causal_or_full(causal), patterns.AnyOf(tuple(parts))))

    def engine_block(self, query_length: int, key_length: int) -> int:
        """Returns the block of the random draws."""
        return self.block_size

    def _random_blocks(self, query_length: int, key_length: int, causal: bool) -> tuple[tuple[int, ...], ...]:
        """Returns the random key blocks of each block of queries, padded with -1 to equal counts."""
        rows, columns = (-(-length // self.block_size) for length in (query_length, key_length))
        drawn = [_draw(self, row, causal) for row in range(max(rows, columns))]
        if not causal:
            later: list[list[int]] = [[] for _ in drawn]
            for row, blocks in enumerate(drawn):
                for block in blocks:
                    later[block].append(row)
            drawn = [(*blocks, *more) for blocks, more in zip(drawn, later, strict=True)]
        drawn = [tuple(block for block in blocks if block < columns) for blocks in drawn[:rows]]
        most = max(len(blocks) for blocks in drawn)
        return tuple(blocks + (-1,) * (most - len(blocks)) for blocks in drawn)


@functools.lru_cache(maxsize=65536)
def _draw(variant: BigBirdAttention, row: int, causal: bool) -> tuple[int, ...]:
    """Returns up to `num_random` key blocks before `row` that one block of queries draws."""
    first = row * variant.block_size
    block_starts = np.arange(row) * variant.block_size
    block_ends = block_starts + variant.block_size - 1
    band = patterns.window(variant.window_size, causal)
    in_window = band.filled(first, first + variant.block_size - 1, block_starts, block_ends)
    candidates = np.flatnonzero(~in_window & (block_ends >= variant.num_global))
    # RandomState, unlike Generator, promises the same stream in every NumPy version.
    drawn = np.random.RandomState([variant.seed, row]).permutation(candidates)[: variant.num_random]
    return tuple(int(block) for block in drawn)
