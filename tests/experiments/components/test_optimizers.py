import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from experiments.components import optimizers as optimizer
from experiments.config import schema as settings

CONFIG = dataclasses.replace(settings.read(base.get_config().to_dict()).train, steps=110, warmup_steps=10)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (5, 0.5), (10, 1.0), (60, 0.5), (110, 0.0)])
def test_the_rate_rises_linearly_and_falls_along_a_cosine(step, share):
    assert float(optimizer.schedule(CONFIG, jnp.float32(0.3), jnp.int32(step))) == pytest.approx(0.3 * share, abs=1e-7)


def test_without_warm_up_the_rate_starts_at_its_peak():
    config = dataclasses.replace(CONFIG, warmup_steps=0)
    assert float(optimizer.schedule(config, jnp.float32(0.3), jnp.int32(0))) == pytest.approx(0.3)


def test_only_matrices_decay():
    params = {"matrix": jnp.full((2, 3), 5.0), "scale": jnp.full(3, 5.0)}
    direction = optimizer.make_direction(CONFIG)
    change, _ = direction.update(jax.tree.map(jnp.zeros_like, params), direction.init(params), params)
    np.testing.assert_allclose(change["matrix"], 5.0 * CONFIG.weight_decay)
    np.testing.assert_array_equal(change["scale"], 0.0)


def test_gradients_are_clipped_by_their_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    direction = optimizer.make_direction(CONFIG)
    _, moments = direction.update({"a": jnp.full(2, 3e3), "b": jnp.full(2, 4e3)}, direction.init(params), params)
    (adam,) = (part for part in moments if hasattr(part, "mu"))
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in adam.mu.values()))
    np.testing.assert_allclose(norm, 0.1 * CONFIG.clip_norm, rtol=1e-5)  # the first moment takes in a tenth
