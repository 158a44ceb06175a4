"""A bias of tokens that an engine reads in another order."""

import jax.numpy as jnp
import numpy as np

from attention_variants.biases.moved import MovedBias
from attention_variants.conformance.inputs import SlopeBias


def test_indices_get_the_bias_of_their_positions() -> None:
    bias = SlopeBias(jnp.asarray([1.0, 2.0]))
    moved = MovedBias(bias, lambda index: 10 - index, lambda index: 2 * index)
    queries, keys = jnp.asarray([0, 3]), jnp.asarray([1, 2, 4])
    found = moved.block(queries, keys)
    np.testing.assert_array_equal(found, bias.block(jnp.asarray([10, 7]), jnp.asarray([2, 4, 8])))
    assert found.shape == (2, 2, 3)
