"""The choice of the best candidates, against a plain search in NumPy."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines.top_k import best_of_rows, top_candidates

BATCH, HEADS, KV_HEADS, DIM = 2, 6, 3, 5


@pytest.mark.parametrize("length", [1, 67, 131])  # one strip, a ragged second one, three
def test_top_candidates_are_the_best_visible_ones(length: int) -> None:
    random = np.random.RandomState(0)
    query, key = random.standard_normal((BATCH, length, HEADS, DIM)), random.standard_normal((BATCH, 11, KV_HEADS, DIM))
    mask = random.random_sample((BATCH, 11)) < 0.7

    def visible(position: Any, candidate: Any) -> Any:
        return (position + candidate) % 3 != 0

    arrays = (jnp.asarray(array, jnp.float32) for array in (query, key))
    chosen = np.asarray(top_candidates(*arrays, 5, visible, candidate_mask=jnp.asarray(mask), first_position=2))
    assert chosen.shape == (BATCH, HEADS, length, 5)
    for b, h, i in np.ndindex(BATCH, HEADS, length):
        scores = key[b, :, h // 2] @ query[b, i, h]
        expected = [c for c in np.argsort(-scores) if mask[b, c] and (i + 2 + c) % 3][:5]
        assert [c for c in chosen[b, h, i] if c >= 0] == expected


def test_equal_scores_are_decided_by_position() -> None:
    arrays = jnp.ones((1, 4, 1, 2)), jnp.ones((1, 7, 1, 2))
    chosen = top_candidates(*arrays, 3, lambda position, candidate: candidate >= position)
    np.testing.assert_array_equal(chosen[0, 0], [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]])


def test_best_of_rows_is_the_same_choice() -> None:
    scores = jnp.asarray([[1.0, 3.0, 3.0, 2.0, 3.0]])
    permitted = jnp.asarray([[True, False, True, True, True]])
    np.testing.assert_array_equal(best_of_rows(scores, permitted, 2)[0], [False, False, True, False, True])
    np.testing.assert_array_equal(best_of_rows(scores, permitted, 9)[0], permitted[0])
