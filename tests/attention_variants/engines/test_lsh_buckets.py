"""The choice of keys by hash bucket, against a plain search in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines.lsh_buckets import bucket_mates, listed_keys

BATCH, HEADS, KV_HEADS = 2, 6, 3


@pytest.mark.parametrize(("reach", "first"), [((3, 0), 0), ((3, 0), 8), ((2, 1), 0), ((99, 99), 0)])
def test_bucket_mates_are_the_nearest_keys_of_the_bucket(reach: tuple[int, int], first: int) -> None:
    random = np.random.RandomState(0)
    length, key_length, rounds = 13, 23, 2
    query = random.randint(4, size=(BATCH, length, HEADS, rounds))
    key = random.randint(4, size=(BATCH, key_length, KV_HEADS, rounds))
    mask = random.random_sample((BATCH, key_length)) < 0.7
    mates = jax.jit(functools.partial(bucket_mates, num_buckets=4, reach=reach, first_position=first))
    found = np.asarray(mates(jnp.asarray(query), jnp.asarray(key), key_mask=jnp.asarray(mask)))
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
