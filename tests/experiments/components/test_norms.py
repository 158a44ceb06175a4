"""Norms: what they make of tokens."""

import jax
import numpy as np
import pytest

from experiments.components.norms import NORMS, make_norm

X = np.asarray(jax.random.normal(jax.random.key(0), (5, 7))) * 3 + 1
EXPECTED = {
    "rms": X / np.sqrt((X**2).mean(-1, keepdims=True)),
    "layer": (X - X.mean(-1, keepdims=True)) / X.std(-1, keepdims=True),
}


@pytest.mark.parametrize("name", NORMS)
def test_tokens_are_normalised_and_scaled(name):
    layer = make_norm(name).make_layer(7)
    np.testing.assert_allclose(layer(X), EXPECTED[name], rtol=1e-5, atol=1e-5)
    layer.scale[...] = layer.scale[...] * 2
    np.testing.assert_allclose(layer(X), 2 * EXPECTED[name], rtol=1e-5, atol=1e-5)
    assert np.isfinite(layer(0 * X)).all()


def test_epsilon_counts():
    small = 1e-4 * X
    loose, tight = (make_norm(f"rms:epsilon={epsilon}").make_layer(7)(small) for epsilon in ("1.0", "1e-12"))
    assert np.abs(loose).max() < 1e-3 < np.abs(tight).max()
