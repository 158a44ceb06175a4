"""Which outputs of a layer depend on which inputs, as runs of neighbouring positions, and how layers combine.

The matrix [output, input] of a long row does not fit in memory; the runs of a window, a prefix or a few columns do.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from attention_variants.families.every_key import EveryKeyVariant
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import AttentionVariant
from attention_variants.patterns import Pattern

Reach = Bool[np.ndarray, "output_length input_length"]
Moved = Any  # bool or unsigned integers [position, column]: which columns move what stands at a position

_DENSE = 2048  # up to this length a pattern is read from its definition, as a matrix
_ROWS, _TILE = 128, 256  # rows read at once, and keys that are skipped together
_MOST_PAIRS, _MOST_RUNS = 2**33, 2**26  # of one layer: about a minute, and 800 MB
_GATHERED = 2**25  # bytes copied at once


class Runs(NamedTuple):
    """For each output the runs of inputs that it depends on, ascending by output."""

    length: int  # of the outputs, with or without a run
    outputs: Int[np.ndarray, " runs"]
    first: Int[np.ndarray, " runs"]
    last: Int[np.ndarray, " runs"]  # itself included


def spread(runs: Runs, moved: Moved) -> Moved:
    """Returns which columns move each output, where `moved` says which columns move each input.

    Runs that begin at the first input are summed up once. Any other run is the union of two spans of the largest power
    of two that fits in it; spans are built by doubling.
    """
    found = np.zeros((runs.length, moved.shape[1]), moved.dtype)
    levels = np.frexp(runs.last - runs.first + 1)[1] - 1  # the exponent of that power
    prefix = (runs.first == 0) & (levels > 0)
    if prefix.any():
        _gather(found, runs.outputs[prefix], runs.last[prefix], np.bitwise_or.accumulate(moved, axis=0))
    for level in range(levels[~prefix].max(initial=-1) + 1):
        span, chosen = 1 << level, (levels == level) & ~prefix
        _gather(found, runs.outputs[chosen], runs.first[chosen], moved)
        if level:
            _gather(found, runs.outputs[chosen], runs.last[chosen] - (span - 1), moved)
        moved = moved[:-span] | moved[span:]
    return found


def _gather(found: Moved, outputs: np.ndarray, inputs: np.ndarray, moved: Moved) -> None:
    """Adds to each of the outputs, which ascend, what moves its input."""
    size = max(1, _GATHERED // max(1, moved[:1].nbytes))
    for few in (slice(start, start + size) for start in range(0, len(outputs), size)):
        starts = np.flatnonzero(np.diff(outputs[few], prepend=-1))
        found[outputs[few][starts]] |= np.bitwise_or.reduceat(moved[inputs[few]], starts, axis=0)


def prefixes(length: int) -> Runs:
    """Returns everything up to the output itself."""
    return causal_taps(length, length)


def causal_taps(length: int, taps: int) -> Runs:
    """Returns the output's own position and the `taps` - 1 before it."""
    place = np.arange(length, dtype=np.int32)
    return Runs(length, place, np.maximum(place - (taps - 1), 0), place)


def taps_around(length: int, taps: int, causal: bool) -> Runs:
    """Returns `causal_taps`, or as many positions around the output's own; one tap is the residual stream."""
    if causal:
        return causal_taps(length, taps)
    place, after = np.arange(length, dtype=np.int32), (taps - 1) // 2
    last = np.minimum(place + after, length - 1)
    return Runs(length, place, np.maximum(place + after - (taps - 1), 0), last)


def union(runs: Runs, more: Runs) -> Runs:
    """Returns what either depends on."""
    order = np.argsort(np.concatenate([runs.outputs, more.outputs]), kind="stable")
    return Runs(
        runs.length, *(np.concatenate([one, other])[order] for one, other in zip(runs[1:], more[1:], strict=True))
    )


def pattern_runs(variant: AttentionVariant, query_length: int, key_length: int, causal: bool) -> Runs:
    """Returns the pattern of a variant."""
    if max(query_length, key_length) <= _DENSE:
        matrix = variant.pattern(query_length, key_length, causal)
        return _read(query_length, lambda rows: (np.arange(key_length), matrix[rows]))
    if _every_key(variant):
        rows, last = np.arange(query_length, dtype=np.int32), np.full(query_length, key_length - 1, np.int32)
        return Runs(query_length, rows, np.zeros_like(rows), np.minimum(rows, last) if causal else last)
    pattern = variant.block_pattern(query_length, key_length, causal)  # type: ignore[attr-defined]
    return _read(query_length, functools.partial(_visible, pattern, key_length))


@functools.lru_cache(maxsize=256)
def check_pattern(variant: AttentionVariant, length: int, causal: bool) -> None:
    """Raises ValueError where `pattern_runs` would take too long, or too much memory, for a row of this length."""
    if length <= _DENSE or _every_key(variant):
        return
    pattern = variant.block_pattern(length, length, causal)  # type: ignore[attr-defined]
    pairs = runs = 0
    for start in (0, length // 2, length - _ROWS):
        rows = np.arange(start, start + _ROWS, dtype=np.int32)
        columns = _touched(pattern, length, rows)
        pairs = max(pairs, length * len(columns))
        if pairs <= _MOST_PAIRS:
            runs = max(runs, length * len(_runs_of(rows, *_visible(pattern, length, rows))[0]) // _ROWS)
    if pairs > _MOST_PAIRS or runs > _MOST_RUNS:
        raise ValueError(
            f"{type(variant).__name__} has too many scattered keys in rows of {length} tokens to count its ceiling; "
            "take shorter rows, or fewer keys a query."
        )


def _every_key(variant: AttentionVariant) -> bool:
    """Whether no key is ruled out beforehand; a variant that chooses by content, or sums up, may see any."""
    if isinstance(variant, StaticPatternVariant):
        return isinstance(variant, EveryKeyVariant)
    causal = variant.supports_causal
    matrix, everything = variant.pattern(_DENSE, _DENSE, causal), np.ones((_DENSE, _DENSE), bool)
    if not np.array_equal(matrix, np.tril(everything) if causal else everything):
        raise ValueError(f"what {type(variant).__name__} can reach is known for rows of at most {_DENSE} tokens only.")
    return True


def _visible(pattern: Pattern, key_length: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the keys that some of `rows` may see, and which of them each row sees."""
    columns = _touched(pattern, key_length, rows)
    visible = np.asarray(pattern.visible(rows[:, None], columns[None]))
    return columns, np.broadcast_to(visible, (len(rows), len(columns)))


def _touched(pattern: Pattern, key_length: int, rows: np.ndarray) -> np.ndarray:
    """Returns the keys of all tiles that some of `rows` may see."""
    first = np.arange(0, key_length, _TILE, dtype=np.int32)
    touched = pattern.touched(rows[0], rows[-1], first, np.minimum(first + _TILE, key_length) - 1)
    tiles = first[np.broadcast_to(touched, first.shape)]
    columns = (tiles[:, None] + np.arange(_TILE, dtype=np.int32)).ravel()
    return columns[columns < key_length]


def _read(length: int, visible: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Runs:
    """Returns the runs of all rows; `visible` gives keys, and which of them some rows see."""
    blocks = [np.arange(start, min(start + _ROWS, length), dtype=np.int32) for start in range(0, length, _ROWS)]
    parts = [_runs_of(rows, *visible(rows)) for rows in blocks]
    return Runs(length, *(np.concatenate(each) for each in zip(*parts, strict=True)))


def _runs_of(rows: np.ndarray, columns: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns output, first and last input of every run."""
    apart = np.diff(columns) != 1
    begins, ends = visible.copy(), visible.copy()
    begins[:, 1:] &= ~visible[:, :-1] | apart
    ends[:, :-1] &= ~visible[:, 1:] | apart
    (row, first), (_, last) = np.nonzero(begins), np.nonzero(ends)
    return rows[row], columns[first].astype(np.int32), columns[last].astype(np.int32)
