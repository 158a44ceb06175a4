"""Softmax over keys or blocks listed per query against dense softmax: values, gradients, how tiles are laid."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import cost
from attention_variants.engines import chosen_blocks, gathered_softmax
from attention_variants.interface import dense_logits, masked_softmax, repeat_heads

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4


def make_arrays(length: int, key_length: int) -> tuple[Any, Any, Any]:
    random = np.random.RandomState(0)
    shapes = (length, HEADS, DIM), (key_length, KV_HEADS, DIM), (key_length, KV_HEADS, VALUE_DIM)
    return tuple(jnp.asarray(random.standard_normal((BATCH, *shape)), jnp.float32) for shape in shapes)


def make_lists(length: int, choices: int, listed: int) -> Any:
    """Returns distinct choices per query, [batch, heads, length, listed], a quarter of them -1."""
    random = np.random.RandomState(1)
    lists = random.random_sample((BATCH, HEADS, length, choices)).argsort(-1)[..., :listed]
    return np.where(random.random_sample(lists.shape) < 0.25, -1, lists)


def assert_same(function: Any, seen: Any, arrays: tuple[Any, Any, Any]) -> None:
    """Compares output and gradients with dense softmax over the keys `seen` [batch, heads, length, key_length]."""

    def dense(query: Any, key: Any, value: Any) -> Any:
        weights = masked_softmax(dense_logits(query, key), jnp.asarray(seen))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, HEADS))

    def run(function: Any) -> Any:
        out, pull = jax.vjp(function, *arrays)
        return out, pull(jnp.asarray(np.random.RandomState(2).standard_normal(out.shape), jnp.float32))

    actual, expected = jax.jit(lambda: (run(function), run(dense)))()
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, atol=1e-5 * max(1, np.abs(e).max())), actual, expected)


@pytest.mark.parametrize(("length", "key_length", "listed"), [(37, 37, 5), (1, 7, 3), (61, 129, 100)])
def test_gathered_softmax_equals_dense(length: int, key_length: int, listed: int) -> None:
    lists = make_lists(length, key_length, listed)
    lists[0, 0, 0] = -1  # a query without keys
    seen = (lists[..., None] == np.arange(key_length)).any(3)
    arrays, indices = make_arrays(length, key_length), jnp.asarray(lists)
    assert_same(lambda *a: gathered_softmax.gathered_softmax(*a, indices), seen, arrays)
    flops = cost.count_flops(lambda *a: gathered_softmax.gathered_softmax(*a, indices), *arrays)
    said = gathered_softmax.gathered_flops(length, listed, HEADS, DIM) * (DIM + VALUE_DIM) // (2 * DIM)
    assert flops == BATCH * said


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
    run = lambda *a: chosen_blocks.chosen_blocks_softmax(*a, chosen, block_size, **options)  # noqa: E731
    assert_same(run, seen, make_arrays(length, key_length))


EVERYONE_CHOOSES_THE_SAME = np.tile([[3, 0]], (41, 1))
NOBODY_CHOOSES = np.full((41, 2), -1)
ONE_MORE_THAN_A_TILE = np.array([[i % 5, -1] for i in range(40)])  # 8 queries for each of 5 blocks, tiles of 7


@pytest.mark.parametrize("chosen", [EVERYONE_CHOOSES_THE_SAME, NOBODY_CHOOSES, ONE_MORE_THAN_A_TILE])
def test_tiles_hold_every_choice_once(chosen: np.ndarray) -> None:
    length, blocks, block_size = len(chosen), 5, 7
    tile, num_tiles = chosen_blocks._tiling(length, blocks, 2, block_size)
    tiles = chosen_blocks._lay_tiles(jnp.asarray(chosen), blocks, tile, num_tiles)
    assert tiles.rows.shape == (num_tiles, tile)
    laid = [(q, b) for rows, b in zip(*map(np.asarray, tiles), strict=True) for q in rows if q < length]
    assert sorted(laid) == sorted((q, b) for q, row in enumerate(chosen) for b in row if b >= 0)


def test_the_bound_on_tiles_is_met() -> None:
    """Tiles of 4 filled as badly as can be: three blocks, each chosen by one query more than its tiles before hold."""
    counts = {0: 5, 1: 9, 2: 5}  # 19 of 20 choices
    flat = [block for block, count in counts.items() for _ in range(count)]
    tile, num_tiles = chosen_blocks._tiling(20, 3, 1, 4)
    chosen = jnp.asarray([*flat, -1])[:, None]
    rows = np.asarray(chosen_blocks._lay_tiles(chosen, 3, tile, num_tiles).rows)
    assert (tile, num_tiles) == (4, 7) and (rows < 20).any(1).all() and (rows < 20).sum() == 19
