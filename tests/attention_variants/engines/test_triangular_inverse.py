"""The inverse of unit lower triangular matrices: exact where sums of powers are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.cost import count_flops
from attention_variants.engines.triangular_inverse import inverse_flops, unit_lower_inverse

SIZES = (1, 2, 3, 7, 8, 13, 64)


def strict(size: int, kind: str) -> np.ndarray:
    """Returns matrices that are 0 on and above the diagonal."""
    full = {
        "random": np.random.RandomState(size).uniform(-1, 1, (2, 3, size, size)) / np.sqrt(size),
        "equal keys": np.ones((1, size, size)),  # powers reach binomial coefficients of 64
        "nothing": np.zeros((2, size, size)),
    }[kind]
    return np.tril(full, -1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["random", "equal keys", "nothing"])
def test_it_is_the_inverse(size: int, kind: str) -> None:
    matrix = strict(size, kind)
    inverse = np.asarray(jax.jit(unit_lower_inverse)(jnp.asarray(matrix, jnp.float32)))
    expected = np.linalg.inv(np.eye(size) + matrix)
    assert np.abs(inverse - expected).max() <= 1e-6 * np.abs(expected).max()
    assert not inverse[..., np.triu(np.ones((size, size), bool), 1)].any() and (np.diagonal(inverse.T) == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 8, 13])
def test_gradients_forward_and_backward(size: int) -> None:
    with jax.enable_x64(True):
        matrix = jnp.asarray(strict(size, "random"))
        tangent = jnp.asarray(np.tril(np.random.RandomState(1).standard_normal(matrix.shape), -1))
        cotangent = jnp.asarray(np.random.RandomState(2).standard_normal(matrix.shape))
        step = 1e-6
        slope = (unit_lower_inverse(matrix + step * tangent) - unit_lower_inverse(matrix - step * tangent)) / (2 * step)
        _, forward = jax.jvp(unit_lower_inverse, (matrix,), (tangent,))
        np.testing.assert_allclose(forward, slope, atol=1e-7)
        (gradient,) = jax.vjp(unit_lower_inverse, matrix)[1](cotangent)
        np.testing.assert_allclose((gradient * tangent).sum(), (cotangent * slope).sum(), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_cost_is_exact(size: int) -> None:
    assert inverse_flops(size) == count_flops(unit_lower_inverse, jnp.zeros((size, size)))
