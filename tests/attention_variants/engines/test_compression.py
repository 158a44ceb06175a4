"""Compressed blocks against a plain sum in NumPy, at once and token by token."""

import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines import compression

BLOCK, LENGTH, KV_HEADS, DIM = 4, 11, 3, 5
RANDOM = np.random.RandomState(0)
ARRAY, WEIGHTS = RANDOM.standard_normal((2, LENGTH, KV_HEADS, DIM)), RANDOM.standard_normal((KV_HEADS, BLOCK))


def compressed() -> np.ndarray:
    out = np.zeros((2, 3, KV_HEADS, DIM))
    for position in range(LENGTH):
        out[:, position // BLOCK] += WEIGHTS[:, position % BLOCK, None] * ARRAY[:, position]
    return out


def test_a_block_is_the_weighted_sum_of_its_tokens() -> None:
    found = compression.compress(jnp.asarray(ARRAY, jnp.float32), jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(found, compressed(), atol=1e-5)


@pytest.mark.slow
def test_tokens_add_up_to_the_same_blocks() -> None:
    sums, start = jnp.zeros((2, 3, KV_HEADS, DIM)), 0
    for size in (1, 5, 2, 3):
        new = jnp.asarray(ARRAY[:, start : start + size], jnp.float32)
        sums = compression.add_to_blocks(sums, new, jnp.asarray(WEIGHTS), jnp.asarray(start))
        start += size
    np.testing.assert_allclose(sums, compressed(), atol=1e-5)


def test_a_block_counts_where_any_of_its_keys_does() -> None:
    mask = jnp.asarray([[True] * 4 + [False] * 7, [False] * 9 + [True] * 2])
    np.testing.assert_array_equal(compression.any_key(mask, BLOCK), [[True, False, False], [False, False, True]])


def test_a_finished_block_is_seen_from_its_last_token_on() -> None:
    seen = compression.FinishedBlocks(2).matrix(5, 2)
    np.testing.assert_array_equal(seen, [[0, 0], [1, 0], [1, 0], [1, 1], [1, 1]])
