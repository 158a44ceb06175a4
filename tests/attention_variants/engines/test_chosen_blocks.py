"""Softmax over blocks listed per query against dense softmax, and how tiles are laid."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.arrays import dense_logits, masked_softmax, repeat_heads
from attention_variants.engines import chosen_blocks
from tests.attention_variants.engines.listed import (
    BATCH,
    assert_same,
    make_arrays,
    make_lists,
)


@pytest.mark.parametrize(("causal", "first"), [(True, 0), (False, 0), (True, 20)])
def test_chosen_blocks_softmax_equals_dense(causal: bool, first: int) -> None:
    length, key_length, block_size = 37, 59, 7  # a ragged last block
    lists = make_lists(length, 9, 4)
    lists[0, 0, 0] = -1
    mask = np.random.RandomState(3).random_sample((BATCH, key_length)) < 0.8
    seen = (lists[..., None] == np.arange(key_length) // block_size).any(3) & mask[:, None, None]
    if causal:
        seen &= np.arange(key_length) <= first + np.arange(length)[:, None]
    chosen, options = jnp.asarray(lists), {"causal": causal, "key_mask": jnp.asarray(mask), "first_position": first}

    def run(*arrays: Any) -> Any:
        return chosen_blocks.chosen_blocks_softmax(*arrays, chosen, block_size, **options)

    assert_same(run, seen, make_arrays(length, key_length))


def test_equal_logits_share_however_large_they_are() -> None:
    """Logits are multiples of 4e7, the largest of a row often in several blocks; the log of how many drowns in them."""
    query, key, value = make_arrays(37, 37)
    lists = make_lists(37, 6, 4)
    seen = (lists[..., None] == np.arange(37) // 7).any(3)

    def run(*arrays: Any) -> Any:
        return chosen_blocks.chosen_blocks_softmax(*arrays, jnp.asarray(lists), 7, causal=False)

    assert_same(run, seen, (1e4 * jnp.sign(query), 1e4 * jnp.sign(key), value))


@pytest.mark.slow
def test_second_derivatives_equal_those_of_dense_softmax() -> None:
    query, key, value = make_arrays(19, 19)
    lists = make_lists(19, 4, 2)
    seen = jnp.asarray((lists[..., None] == np.arange(19) // 5).any(3))

    def run(query: Any) -> Any:
        return chosen_blocks.chosen_blocks_softmax(query, key, value, jnp.asarray(lists), 5, causal=False)

    def dense(query: Any) -> Any:
        weights = masked_softmax(dense_logits(query, key), seen)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, query.shape[2]))

    def second(attend: Any) -> Any:
        first = jax.grad(lambda query: jnp.sin(attend(query)).sum())
        return jax.jit(jax.grad(lambda query: jnp.square(first(query)).sum()))(query)

    np.testing.assert_allclose(second(run), second(dense), atol=1e-5)


EVERYONE_CHOOSES_THE_SAME = np.tile([[3, 0]], (41, 1))
NOBODY_CHOOSES = np.full((41, 2), -1)
ONE_MORE_THAN_A_TILE = np.array([[i % 5, -1] for i in range(40)])  # 8 queries for each of 5 blocks, tiles of 7


lay_tiles = jax.jit(chosen_blocks._lay_tiles, static_argnums=(1, 2, 3))


@pytest.mark.parametrize("chosen", [EVERYONE_CHOOSES_THE_SAME, NOBODY_CHOOSES, ONE_MORE_THAN_A_TILE])
def test_tiles_hold_every_choice_once(chosen: np.ndarray) -> None:
    length, blocks, block_size = len(chosen), 5, 7
    tile, num_tiles = chosen_blocks._tiling(length, blocks, 2, block_size)
    tiles = lay_tiles(jnp.asarray(chosen), blocks, tile, num_tiles)
    assert tiles.rows.shape == (num_tiles, tile)
    laid = [(q, b) for rows, b in zip(*map(np.asarray, tiles), strict=True) for q in rows if q < length]
    assert sorted(laid) == sorted((q, b) for q, row in enumerate(chosen) for b in row if b >= 0)


def test_the_bound_on_tiles_is_met() -> None:
    """Tiles of 4 filled as badly as can be: three blocks, each chosen by one query more than its tiles before hold."""
    counts = {0: 5, 1: 9, 2: 5}  # 19 of 20 choices
    flat = [block for block, count in counts.items() for _ in range(count)]
    tile, num_tiles = chosen_blocks._tiling(20, 3, 1, 4)
    chosen = jnp.asarray([*flat, -1])[:, None]
    rows = np.asarray(lay_tiles(chosen, 3, tile, num_tiles).rows)
    assert (tile, num_tiles) == (4, 7) and (rows < 20).any(1).all() and (rows < 20).sum() == 19


@pytest.mark.parametrize("number", [1, 5, 2**31 // 97 + 1])
def test_equal_labels_keep_their_order_also_where_no_code_holds_both(number):
    labels = jax.random.randint(jax.random.key(0), (97,), max(number - 5, 0), number)
    order, in_order = chosen_blocks._stable_order(labels, number)
    expected = np.argsort(labels, kind="stable")
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(in_order, labels[expected])
