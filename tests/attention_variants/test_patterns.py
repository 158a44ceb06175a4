"""Patterns: pictures, counts, and the promises that the block engine skips by."""

import inspect
import itertools
import re

import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import patterns
from attention_variants.patterns import (
    AllOf,
    AnyOf,
    Band,
    Blockwise,
    EveryNth,
    Everything,
    FirstKeys,
    FirstQueries,
    LastOfBlocks,
    ListedBlocks,
    PowersOfTwo,
)
from attention_variants.registry import make_variant

CAUSAL = Band(before=None, after=0)
PATTERNS = {
    "everything": Everything(),
    "causal": CAUSAL,
    "future": Band(before=-1, after=None),
    "band": Band(before=3, after=2),
    "band past the own key": Band(before=7, after=-2),
    "every 3rd": EveryNth(3),
    "powers of two": PowersOfTwo(),
    "first 4 keys": FirstKeys(4),
    "first 3 queries": FirstQueries(3),
    "last 2 of every 5": LastOfBlocks(5, 2),
    "own block of 3": Blockwise(Band(before=0, after=0), 3, 3),
    "2 keys for each earlier block of 3": Blockwise(Band(before=None, after=-1), 3, 2),
    "listed blocks": ListedBlocks(3, ((2, -1), (-1, -1), (0, 5), (1, 3), (4, 0), (0, 1), (2, 3), (6, 6))),
    "any of": AnyOf((Band(before=2, after=0), FirstKeys(2), EveryNth(7))),
    "all of": AllOf((CAUSAL, AnyOf((Band(before=None, after=-4), EveryNth(2))))),
}
SIZES = [(19, 19), (19, 11), (5, 23)]
ONE_CALL = {
    "strided_sparse": make_variant("strided_sparse:stride=4"),
    "bigbird": make_variant("bigbird:window_size=5,num_global=2,num_random=2,block_size=3"),
    "sliding_window": make_variant("sliding_window:window_size=6"),
    "full": make_variant("full"),
}


@pytest.mark.parametrize(
    ("pattern", "column"),
    [
        (Everything(), 0),
        (CAUSAL, 0),
        (Band(before=1, after=0), 1),
        (EveryNth(2), 0),
        (PowersOfTwo(), 0),
        (FirstKeys(2), 0),
        (FirstQueries(2), 0),
        (LastOfBlocks(2, 1), 0),
        (Blockwise(Band(before=0, after=0), 2, 2), 0),
        (Blockwise(Band(before=None, after=-1), 2, 1), 1),
        (ListedBlocks(2, ((1,), (0,))), 0),
    ],
)
def test_picture_in_the_docstring_is_the_matrix(pattern: patterns.Pattern, column: int) -> None:
    lines = [line for line in inspect.getdoc(type(pattern)).splitlines() if re.fullmatch(r"\s*[01][01 ]+", line)]
    picture = [re.split(r"\s{2,}", line.strip())[column].split() for line in lines]
    np.testing.assert_array_equal(np.array(picture, int), pattern.matrix(4, 4))


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_count_is_the_sum_of_the_matrix(name: str, sizes: tuple[int, int]) -> None:
    assert PATTERNS[name].count(*sizes) == PATTERNS[name].matrix(*sizes).sum()


@pytest.mark.parametrize("pattern", [AllOf((CAUSAL, EveryNth(3))), AllOf((CAUSAL, FirstKeys(300))), PowersOfTwo()])
def test_count_goes_over_more_than_one_tile(pattern: patterns.Pattern) -> None:
    assert pattern.count(601, 530) == pattern.matrix(601, 530).sum()


@pytest.mark.parametrize("name", PATTERNS)
def test_visible_is_the_same_traced_or_not(name: str) -> None:
    rows, columns = jnp.arange(19)[:, None], jnp.arange(17)[None, :]
    traced = jnp.broadcast_to(PATTERNS[name].visible(rows, columns), (19, 17))
    np.testing.assert_array_equal(traced, PATTERNS[name].matrix(19, 17))


def check_blocks(pattern: patterns.Pattern, query_length: int, key_length: int, rng: np.random.RandomState) -> None:
    """Holds `touched` and `filled` against the matrix, over all pairs of blocks of a random cut."""
    matrix = pattern.matrix(query_length, key_length)
    query_edges, key_edges = (
        [0, *sorted(rng.choice(np.arange(1, length), size=3, replace=False)), length]
        for length in (query_length, key_length)
    )
    starts, ends = np.array(query_edges[:-1])[:, None], np.array(query_edges[1:])[:, None]
    key_starts, key_ends = np.array(key_edges[:-1])[None, :], np.array(key_edges[1:])[None, :]
    touched = np.broadcast_to(pattern.touched(starts, ends - 1, key_starts, key_ends - 1), (4, 4))
    filled = np.broadcast_to(pattern.filled(starts, ends - 1, key_starts, key_ends - 1), (4, 4))
    for i, j in itertools.product(range(4), range(4)):
        block = matrix[query_edges[i] : query_edges[i + 1], key_edges[j] : key_edges[j + 1]]
        where = query_edges, key_edges, i, j
        assert touched[i, j] or not block.any(), ("a visible pair is skipped", where)
        assert not filled[i, j] or block.all(), ("a hidden pair is shown", where)


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_blocks_are_touched_and_filled_conservatively(name: str, sizes: tuple[int, int]) -> None:
    rng = np.random.RandomState(0)
    for _ in range(30):
        check_blocks(PATTERNS[name], *sizes, rng)


@pytest.mark.parametrize(
    "name",
    [
        "everything",
        "causal",
        "future",
        "band",
        "first 4 keys",
        "first 3 queries",
        "last 2 of every 5",
        "own block of 3",
        "2 keys for each earlier block of 3",
    ],
)
@pytest.mark.parametrize("block", [1, 2, 5])
def test_simple_patterns_are_exact(name: str, block: int) -> None:
    """No block is visited in vain, none masked in vain: this is what makes skipping worth it."""
    pattern, length = PATTERNS[name], 20
    matrix = pattern.matrix(length, length).reshape(length // block, block, length // block, block)
    first = np.arange(length // block) * block
    ends = first[:, None], first[:, None] + block - 1, first[None, :], first[None, :] + block - 1
    shape = (length // block,) * 2
    np.testing.assert_array_equal(np.broadcast_to(pattern.touched(*ends), shape), matrix.any(axis=(1, 3)))
    np.testing.assert_array_equal(np.broadcast_to(pattern.filled(*ends), shape), matrix.all(axis=(1, 3)))


@pytest.mark.parametrize("name", ["every 3rd", "powers of two", "listed blocks"])
@pytest.mark.parametrize("block", [3, 6])
def test_scattered_patterns_skip_exactly_what_is_hidden(name: str, block: int) -> None:
    pattern, length = PATTERNS[name], 24
    matrix = pattern.matrix(length, length).reshape(length // block, block, length // block, block)
    first = np.arange(length // block) * block
    touched = pattern.touched(first[:, None], first[:, None] + block - 1, first[None, :], first[None, :] + block - 1)
    np.testing.assert_array_equal(touched, matrix.any(axis=(1, 3)))


@pytest.mark.parametrize("name", ONE_CALL)
@pytest.mark.parametrize(
    ("sizes", "causal"), [((31, 31), True), ((31, 31), False), ((31, 13), False), ((7, 29), False)]
)
def test_block_pattern_of_a_variant_is_its_pattern(name: str, sizes: tuple[int, int], causal: bool) -> None:
    """`pattern` is written from the definition, `block_pattern` from pieces."""
    variant = ONE_CALL[name]
    np.testing.assert_array_equal(variant.block_pattern(*sizes, causal).matrix(*sizes), variant.pattern(*sizes, causal))


@pytest.mark.parametrize("name", ONE_CALL)
def test_causal_rows_do_not_depend_on_the_length(name: str) -> None:
    """Decoding relies on it."""
    long, short = (ONE_CALL[name].pattern(length, length, True) for length in (41, 23))
    np.testing.assert_array_equal(long[:23, :23], short)


@pytest.mark.parametrize("window_size", [1, 2, 5, 8])
def test_window_shows_as_many_keys_as_it_says(window_size: int) -> None:
    for causal in (True, False):
        rows = patterns.window(window_size, causal).matrix(40, 40)[20]
        assert rows.sum() == window_size and rows[20]
    assert not patterns.window(window_size, True).matrix(40, 40)[20, 21:].any()


def test_windows_of_other_conventions() -> None:
    left_of_3 = patterns.window(patterns.window_from_left(3), causal=True)
    np.testing.assert_array_equal(np.flatnonzero(left_of_3.matrix(20, 20)[10]), [7, 8, 9, 10])
    three_a_side = patterns.window(patterns.window_from_one_side(3), causal=False)
    np.testing.assert_array_equal(np.flatnonzero(three_a_side.matrix(20, 20)[10]), [7, 8, 9, 10, 11, 12, 13])


def test_a_wrong_promise_would_be_caught() -> None:
    class Forgetful(Band):
        def touched(self, first_query, last_query, first_key, last_key):
            return self.visible(first_query, first_key)

    class Bold(Band):
        def filled(self, first_query, last_query, first_key, last_key):
            return self.touched(first_query, last_query, first_key, last_key)

    for wrong in (Forgetful(before=3, after=2), Bold(before=3, after=2)):
        rng = np.random.RandomState(0)
        with pytest.raises(AssertionError, match="a visible pair is skipped|a hidden pair is shown"):
            for _ in range(30):
                check_blocks(wrong, 19, 19, rng)


AROUND = [
    (patterns.window(5, causal=True), Band(before=4, after=0)),
    (AllOf((Band(before=12, after=3), patterns.EveryNth(3))), Band(before=12, after=3)),
    (AllOf((Band(before=12, after=0), Band(before=None, after=-2))), Band(before=12, after=-2)),
    (patterns.AnyOf((Band(before=2, after=1), Band(before=1, after=4))), Band(before=2, after=4)),
    (patterns.AnyOf((Band(before=2, after=0), patterns.PowersOfTwo())), Band(before=None, after=None)),
    (Band(before=None, after=0), Band(before=None, after=0)),
    (AllOf((Band(before=3, after=0), patterns.FirstKeys(2))), None),
    (patterns.Blockwise(Band(before=1, after=0), 4, 4), None),
]


@pytest.mark.parametrize(("pattern", "band"), AROUND)
def test_a_band_is_around_what_depends_on_the_distance_alone(pattern: patterns.Pattern, band: Band | None) -> None:
    assert patterns.band_around(pattern) == band
    if band is not None:
        shown, within = pattern.matrix(40, 40), band.matrix(40, 40)
        assert not (shown & ~within).any()
        distances = [np.flatnonzero(np.diagonal(shown, -k)).size in (0, 40 - abs(k)) for k in range(-39, 40)]
        assert all(distances), "the same at every place"
