"""One step of training, against what the optimizers define."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.step import follow, initial_state
from tests.experiments.tiny import tiny_run


@pytest.mark.parametrize("optimizer", ["sgd:momentum=0.0", "adamw:weight_decay=0.0"])
def test_a_step_goes_down_a_gradient_by_the_scheduled_rate(optimizer):
    values = {"train.optimizer": optimizer, "train.schedule": "constant:warmup_steps=0", "train.clip_norm": 1e9}
    run = tiny_run(**values)
    state, rate = initial_state(run), 0.01
    gradient = jax.tree.map(lambda leaf: jnp.linspace(-2.0, 1.0, leaf.size).reshape(leaf.shape), state.params)
    after = follow(run, state, gradient, jnp.float32(rate))
    assert int(after.step) == int(state.step) + 1
    moved = jax.tree.map(lambda new, old: new - old, after.params, state.params)
    # The first step of Adam goes as far for every gradient, for it is divided by its own size.
    wanted = jax.tree.map(lambda leaf: -rate * (leaf if optimizer.startswith("sgd") else jnp.sign(leaf)), gradient)
    for ours, theirs, leaf in zip(*map(jax.tree.leaves, (moved, wanted, gradient)), strict=True):
        told = np.abs(leaf) > 1e-3
        np.testing.assert_allclose(np.asarray(ours)[told], np.asarray(theirs)[told], atol=1e-5)
