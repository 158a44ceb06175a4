"""What is left of a token against products of decays in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines.decays import chunk_decays

BATCH, KV_HEADS, CHUNK, CHANNELS = 2, 3, 7, 5


def draw(channels: int) -> np.ndarray:
    """Strong decays next to weak ones, [batch, kv_heads, chunk, channels]."""
    return np.random.RandomState(0).choice(np.log([0.001, 0.9, 1 - 1e-6]), (BATCH, KV_HEADS, CHUNK, channels))


@pytest.mark.parametrize("channels", [1, CHANNELS])
@pytest.mark.parametrize("with_bonus", [False, True])
def test_factors_are_products_of_the_decays_between(channels: int, with_bonus: bool) -> None:
    log_decay = draw(channels)
    bonus = np.random.RandomState(1).standard_normal(log_decay.shape) if with_bonus else None
    found = chunk_decays(
        jnp.asarray(log_decay, jnp.float32), None if bonus is None else jnp.asarray(bonus, jnp.float32)
    )
    late = 1 if with_bonus else 0  # with a bonus a token reads before it decays
    for reader in range(CHUNK):
        before = np.exp(log_decay[:, :, : reader + 1 - late].sum(2))
        np.testing.assert_allclose(found.from_start[:, :, reader], before, rtol=2e-5)
        for writer in range(CHUNK):
            left = np.exp(log_decay[:, :, writer + 1 : reader + 1 - late].sum(2)) * (writer < reader)
            if writer == reader:
                left = np.ones_like(left) if bonus is None else bonus[:, :, reader]
            np.testing.assert_allclose(found.between[:, :, reader, writer], left, rtol=2e-5)
    np.testing.assert_allclose(found.over, np.exp(log_decay.sum(2)), rtol=2e-5)
    for writer in range(CHUNK):
        left = np.exp(log_decay[:, :, writer + 1 :].sum(2))
        np.testing.assert_allclose(found.to_end[:, :, writer], left, rtol=2e-5)


def test_the_gradient_of_the_diagonal_is_exactly_zero() -> None:
    def own(log_decay: jax.Array) -> jax.Array:
        return jnp.diagonal(chunk_decays(log_decay).between, axis1=2, axis2=3).sum()

    assert not jax.grad(own)(jnp.asarray(draw(1), jnp.float32)).any()
