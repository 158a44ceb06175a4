"""A cache that keeps every key at its position."""

import jax.numpy as jnp
import numpy as np

from attention_variants.families.key_value_caches import append, empty_cache, put
from attention_variants.interface import HeadSizes


def test_tokens_land_at_their_positions() -> None:
    cache = empty_cache(2, 5, HeadSizes(3, 3, 4, 4), jnp.float32)
    cache = append(cache, jnp.full((2, 2, 3, 4), 1.0), jnp.full((2, 2, 3, 4), -1.0))
    cache = append(cache, jnp.full((2, 1, 3, 4), 2.0), jnp.full((2, 1, 3, 4), -2.0))
    np.testing.assert_array_equal(cache.key[0, :, 0, 0], [1, 1, 2, 0, 0])
    np.testing.assert_array_equal(cache.value[1, :, 2, 3], [-1, -1, -2, 0, 0])
    assert (int(cache.length), int(cache.max_length)) == (3, 5)


def test_what_is_past_the_last_slot_is_dropped() -> None:
    slots = put(jnp.zeros((1, 3)), jnp.asarray([[1.0, 2.0]]), jnp.asarray(2))
    np.testing.assert_array_equal(slots, [[0, 0, 1]])
