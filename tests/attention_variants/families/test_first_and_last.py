"""A cache of the first tokens and the last ones: what it holds, and that nothing is seen twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant


@pytest.mark.parametrize(
    "sizes", [(2, 5, 2), *(pytest.param(sizes, marks=pytest.mark.slow) for sizes in ((1,) * 9, (9,)))]
)
def test_first_tokens_stay_and_last_ones_roll(sizes: tuple[int, ...]) -> None:
    variant = make_variant("sink_window:window_size=3,num_sinks=2")
    tokens = jnp.broadcast_to(jnp.arange(1.0, 10.0)[None, :, None, None], (1, 9, 1, 4))
    cache, start = variant.init_cache(1, 11, HeadSizes(1, 1, 4, 4), jnp.float32), 0
    extend = jax.jit(lambda cache, new: variant.extend(cache, new, new, new)[1])
    for size in sizes:
        cache = extend(cache, tokens[:, start : start + size])
        start += size
    np.testing.assert_array_equal(cache.first_key[0, :, 0, 0], [1, 2])
    np.testing.assert_array_equal(cache.last_value[0, :, 0, 0], [7, 8, 9])


def test_a_short_cache_holds_no_more_than_it_was_made_for() -> None:
    cache = make_variant("sink_window:window_size=3,num_sinks=2").init_cache(1, 4, HeadSizes(1, 1, 4, 4), jnp.float32)
    assert (cache.first_key.shape[1], cache.last_key.shape[1]) == (2, 2)
