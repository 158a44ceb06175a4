"""What every definition is made of."""

import jax
import jax.numpy as jnp
import numpy as np

from attention_variants import arrays


def test_masked_softmax_of_an_empty_row_is_zero_with_gradient_zero() -> None:
    logits = jnp.asarray(np.random.RandomState(0).standard_normal((4, 5)), jnp.float32)
    mask = jnp.asarray([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]], bool)
    weights, pull = jax.vjp(lambda logits: arrays.masked_softmax(logits, mask), logits)
    np.testing.assert_allclose(weights.sum(-1), [1, 1, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(weights[0], jax.nn.softmax(logits[0]), rtol=1e-6)
    assert not weights[~mask].any()
    (gradient,) = pull(jnp.asarray(np.random.RandomState(1).standard_normal((4, 5)), jnp.float32))
    assert jnp.isfinite(gradient).all() and not gradient[~mask].any() and gradient[1].any()


def test_grouped_heads_are_repeated_in_order() -> None:
    heads = arrays.repeat_heads(jnp.arange(3.0).reshape(1, 1, 3, 1), 6)
    np.testing.assert_array_equal(heads[0, 0, :, 0], [0, 0, 1, 1, 2, 2])


def test_zero_masked_removes_what_stood_there() -> None:
    mask = jnp.asarray([[True, False]])
    array = jnp.asarray([[1.0, jnp.nan]]).reshape(1, 2, 1, 1)
    np.testing.assert_array_equal(arrays.zero_masked(array, mask).ravel(), [1, 0])
