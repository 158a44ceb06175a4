"""Optimizers: laws that every registered one keeps, the equations of some, and that each one learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.components.optimizers import OPTIMIZERS, _hidden_matrices, make_optimizer
from experiments.model.transformer import abstract_model
from experiments.training.loop import train
from tests.experiments.tiny import tiny_run

PARAMS = {
    "layers": {"matrix": jnp.array([[5.0, -5.0], [3.0, 4.0], [1.0, 2.0]]), "scale": jnp.full(3, 5.0)},
    "embedding": {"tokens": jnp.array([[1.0, 2.0], [3.0, -4.0]])},
}


DECAYING = [
    name for name, kind in OPTIMIZERS.items() if "weight_decay" in {field.name for field in dataclasses.fields(kind)}
]
RATES = (0.02, 3e-3, 0.5)  # peaks of the learning rate, of which at least one suits every optimizer


def without_decay(name):
    return f"{name}:weight_decay=0" if name in DECAYING else name


def direction(spec, gradient, params=PARAMS, steps=1):
    transformation = make_optimizer(spec).direction()
    state = transformation.init(params)
    for _ in range(steps):
        found, state = transformation.update(gradient, state, params)
    return found


@pytest.mark.parametrize("name", DECAYING)
def test_only_matrices_decay(name):
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    found = direction(f"{name}:weight_decay=0.25", zero)
    np.testing.assert_allclose(found["layers"]["matrix"], 0.25 * PARAMS["layers"]["matrix"], atol=1e-6)
    np.testing.assert_allclose(found["embedding"]["tokens"], 0.25 * PARAMS["embedding"]["tokens"], atol=1e-6)
    np.testing.assert_array_equal(found["layers"]["scale"], 0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_goes_down(name):
    """The direction is subtracted, so it agrees with the gradient, here that of half the squared parameters."""
    found = direction(without_decay(name), PARAMS)
    for change, gradient in zip(jax.tree.leaves(found), jax.tree.leaves(PARAMS), strict=True):
        assert float(jnp.sum(change * gradient)) > 0


def test_fields_reach_the_equations():
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    np.testing.assert_allclose(direction("adamw:weight_decay=0", gradient)["layers"]["matrix"], 1.0, rtol=1e-4)
    np.testing.assert_allclose(
        direction("adamw:weight_decay=0,epsilon=1.0", gradient)["layers"]["matrix"], 0.5, rtol=1e-4
    )
    np.testing.assert_allclose(direction("sgd:momentum=0.5", gradient, steps=2)["layers"]["scale"], 1.5)
    np.testing.assert_allclose(
        direction("lion:weight_decay=0", PARAMS)["layers"]["matrix"], np.sign(PARAMS["layers"]["matrix"])
    )


def test_muon_makes_hidden_matrices_orthogonal_and_leaves_embeddings_to_adam():
    found = direction("muon:weight_decay=0,iterations=12", PARAMS)
    singular = np.linalg.svd(np.asarray(found["layers"]["matrix"]), compute_uv=False)
    assert singular.max() / singular.min() < 1.6  # of the parameters 2.2; the iteration comes near 1, not to it
    tokens = found["embedding"]["tokens"]
    np.testing.assert_allclose(tokens / tokens[0, 0], np.sign(PARAMS["embedding"]["tokens"]), rtol=1e-4)


MODELS = {
    "convolutions": dict(model__attention="conv+full+gated_linear", model__short_conv=3, model__position="learned"),
    "an encoder": dict(model__attention="lstm", task="translation:max_length=7,min_length=3"),
    "answers by place": dict(model__attention="full", task="compression:length=7"),
    "channels": dict(model__attention="full", task="adding:length=7"),
}
NOT_LINEAR = ("embedding", "places", "taps", "['mixer']['kernel']")


@pytest.mark.parametrize("model", MODELS)
def test_muon_takes_the_matrices_of_linear_layers_and_nothing_else(model):
    _, params = abstract_model(tiny_run(**MODELS[model]))
    taken = _hidden_matrices(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, chosen = jax.tree_util.keystr(path), taken
        for key in path:
            chosen = chosen[key.key]
        linear = leaf.ndim == 2 and not any(word in name for word in NOT_LINEAR)
        assert (chosen is not None) == (linear and name.endswith("['kernel']")), name
    assert any(word in str(params) for word in ("places", "taps", "channels", "encoder"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns(name):
    assert any(learns(name, rate) for rate in RATES)


def learns(name, rate):
    run = tiny_run(train__steps=60, train__eval_every=20, train__optimizer=name, train__learning_rate=rate)
    rows = []
    done = train(run, report=rows.append)["status"] == "done"
    return done and rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.1
