"""The engines that choose keys by content, each against a plain search in NumPy."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines.hash_buckets import bucket_mates, listed_keys
from attention_variants.engines.top_candidates import best_of_rows, top_candidates

BATCH, HEADS, KV_HEADS, DIM = 2, 6, 3, 5


@pytest.mark.parametrize("length", [1, 67, 131])  # one strip, a ragged second one, three
def test_top_candidates_are_the_best_visible_ones(length: int) -> None:
    random = np.random.RandomState(0)
    query, key = random.standard_normal((BATCH, length, HEADS, DIM)), random.standard_normal((BATCH, 11, KV_HEADS, DIM))
    mask = random.random_sample((BATCH, 11)) < 0.7
    visible = lambda position, candidate: (position + candidate) % 3 != 0  # noqa: E731
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


@pytest.mark.parametrize(("reach", "first"), [((3, 0), 0), ((3, 0), 8), ((2, 1), 0), ((99, 99), 0)])
def test_bucket_mates_are_the_nearest_keys_of_the_bucket(reach: tuple[int, int], first: int) -> None:
    random = np.random.RandomState(0)
    length, key_length, rounds = 13, 23, 2
    query = random.randint(4, size=(BATCH, length, HEADS, rounds))
    key = random.randint(4, size=(BATCH, key_length, KV_HEADS, rounds))
    mask = random.random_sample((BATCH, key_length)) < 0.7
    options: Any = {"key_mask": jnp.asarray(mask), "first_position": first}
    found = np.asarray(bucket_mates(jnp.asarray(query), jnp.asarray(key), 4, reach, **options))
    assert found.shape == (BATCH, HEADS, length, listed_keys(key_length, rounds, sum(reach)))
    for b, h, i in np.ndindex(BATCH, HEADS, length):
        expected = {first + i} if mask[b, first + i] else set()
        for r in range(rounds):
            bucket = np.flatnonzero(mask[b] & (key[b, :, h // 2, r] == query[b, i, h, r]))
            expected |= {*bucket[bucket <= first + i][-reach[0] :]}
            expected |= {*bucket[bucket > first + i][: reach[1]]}
        listed = [j for j in found[b, h, i] if j >= 0]
        assert len(listed) == len(set(listed)) and set(listed) == expected


def test_too_many_buckets_for_32_bits() -> None:
    buckets = jnp.zeros((1, 4, 1, 1), jnp.int32)
    with pytest.raises(ValueError, match="`num_buckets` \\* key_length must be below 2\\*\\*31; got 1073741824 and 4"):
        bucket_mates(buckets, buckets, 2**30, (1, 0))
