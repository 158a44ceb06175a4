"""The causal convolution against NumPy's, and in pieces."""

import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines.causal_convolution import causal_convolution

RANDOM = np.random.RandomState(0)
X, KERNEL = RANDOM.standard_normal((2, 11, 3)), RANDOM.standard_normal((4, 3))


def test_it_is_the_convolution_of_every_channel() -> None:
    out, history = causal_convolution(jnp.asarray(X, jnp.float32), jnp.zeros((2, 3, 3)), jnp.asarray(KERNEL))
    for row, channel in np.ndindex(2, 3):
        expected = np.convolve(X[row, :, channel], KERNEL[::-1, channel])[:11]
        np.testing.assert_allclose(out[row, :, channel], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(history, X[:, -3:].astype(np.float32))


@pytest.mark.parametrize("sizes", [(1,) * 11, (5, 1, 2, 3), (2, 9)])
def test_pieces_continue_each_other(sizes: tuple[int, ...]) -> None:
    x, kernel = jnp.asarray(X, jnp.float32), jnp.asarray(KERNEL, jnp.float32)
    whole, end = causal_convolution(x, jnp.zeros((2, 3, 3)), kernel)
    history, start, pieces = jnp.zeros((2, 3, 3)), 0, []
    for size in sizes:
        out, history = causal_convolution(x[:, start : start + size], history, kernel)
        pieces.append(out)
        start += size
    np.testing.assert_array_equal(jnp.concatenate(pieces, axis=1), whole)
    np.testing.assert_array_equal(history, end)


def test_it_computes_in_the_dtype_of_its_input() -> None:
    out, history = causal_convolution(jnp.asarray(X, jnp.bfloat16), jnp.zeros((2, 3, 3)), jnp.asarray(KERNEL))
    assert out.dtype == history.dtype == jnp.bfloat16


def test_one_tap_has_no_history() -> None:
    out, history = causal_convolution(jnp.asarray(X, jnp.float32), jnp.zeros((2, 0, 3)), jnp.full((1, 3), 2.0))
    np.testing.assert_allclose(out, 2 * X, rtol=1e-6)
    assert history.shape == (2, 0, 3)
