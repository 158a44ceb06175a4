"""Norms: laws that every registered one keeps, and the equations of some."""

import jax
import numpy as np
import pytest

from experiments.components.norms import NORMS, make_norm

X = np.asarray(jax.random.normal(jax.random.key(0), (5, 7))) * 3 + 1
EQUATIONS = {
    "rms": X / np.sqrt((X**2).mean(-1, keepdims=True)),
    "layer": (X - X.mean(-1, keepdims=True)) / X.std(-1, keepdims=True),
}


@pytest.mark.parametrize("name", NORMS)
def test_each_token_is_normalised_by_itself(name):
    layer = make_norm(name).make_layer(7)
    out = np.asarray(layer(X))
    assert out.shape == X.shape
    np.testing.assert_allclose(layer(X[::-1]), out[::-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(X[:2]), out[:2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_the_output_does_not_grow_with_the_input(name):
    layer = make_norm(name).make_layer(7)
    large, larger = (np.abs(layer(factor * X)).max() for factor in (10, 1e4))
    assert 0.1 < large < 10 and larger == pytest.approx(large, rel=0.1)


@pytest.mark.parametrize("name", NORMS)
def test_zero_has_a_finite_output_and_gradient(name):
    layer = make_norm(name).make_layer(7)
    assert np.isfinite(layer(0 * X)).all()
    assert np.isfinite(jax.grad(lambda x: layer(x).sum())(0 * X)).all()


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_layer_computes_its_equation(name):
    layer = make_norm(name).make_layer(7)
    np.testing.assert_allclose(layer(X), EQUATIONS[name], rtol=1e-5, atol=1e-5)
    layer.scale[...] = layer.scale[...] * 2
    np.testing.assert_allclose(layer(X), 2 * EQUATIONS[name], rtol=1e-5, atol=1e-5)


def test_epsilon_counts():
    small = 1e-4 * X
    loose, tight = (make_norm(f"rms:epsilon={epsilon}").make_layer(7)(small) for epsilon in ("1.0", "1e-12"))
    assert np.abs(loose).max() < 1e-3 < np.abs(tight).max()
