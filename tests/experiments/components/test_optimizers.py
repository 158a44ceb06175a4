"""Optimizers: laws that every registered one keeps, the equations of some, and that each one learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.components.optimizers import OPTIMIZERS, _hidden_matrices, make_optimizer
from experiments.model.transformer import abstract_model, decayed_params
from experiments.training.loop import train
from tests.experiments.tiny import tiny_run

PARAMS = {
    "layers": {"kernel": jnp.array([[5.0, -5.0], [3.0, 4.0], [1.0, 2.0]]), "scale": jnp.full(3, 5.0)},
    "map": {"kernel": jnp.array([[1.0, 2.0], [0.0, 3.0], [0.0, 1.0]])},
    "embedding": {"tokens": jnp.array([[1.0, 2.0], [3.0, -4.0]])},
}
DECAYED = {
    "layers": {"kernel": True, "scale": False},
    "map": {"kernel": False},
    "embedding": {"tokens": True},
}

DECAYING = [
    name for name, kind in OPTIMIZERS.items() if "weight_decay" in {field.name for field in dataclasses.fields(kind)}
]
RATES = (0.02, 3e-3, 0.5)  # peaks of the learning rate, of which at least one suits every optimizer


def without_decay(name):
    return f"{name}:weight_decay=0" if name in DECAYING else name


def direction(spec, gradient, steps=1):
    transformation = make_optimizer(spec).direction(DECAYED)
    state = transformation.init(PARAMS)
    for _ in range(steps):
        found, state = transformation.update(gradient, state, PARAMS)
    return found


@pytest.mark.parametrize("name", DECAYING)
def test_what_decays_is_what_was_said(name):
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    found = direction(f"{name}:weight_decay=0.25", zero)
    expected = jax.tree.map(lambda param, decays: 0.25 * param * decays, PARAMS, DECAYED)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6), found, expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_goes_down(name):
    """The direction is subtracted, so it agrees with the gradient, here that of half the squared parameters."""
    found = direction(without_decay(name), PARAMS)
    for change, gradient in zip(jax.tree.leaves(found), jax.tree.leaves(PARAMS), strict=True):
        assert float(jnp.sum(change * gradient)) > 0


def test_fields_reach_the_equations():
    gradient = jax.tree.map(jnp.ones_like, PARAMS)
    np.testing.assert_allclose(direction("adamw:weight_decay=0", gradient)["layers"]["kernel"], 1.0, rtol=1e-4)
    np.testing.assert_allclose(
        direction("adamw:weight_decay=0,epsilon=1.0", gradient)["layers"]["kernel"], 0.5, rtol=1e-4
    )
    np.testing.assert_allclose(direction("sgd:momentum=0.5", gradient, steps=2)["layers"]["scale"], 1.5)
    np.testing.assert_allclose(
        direction("lion:weight_decay=0", PARAMS)["layers"]["kernel"], np.sign(PARAMS["layers"]["kernel"])
    )


def test_muon_makes_hidden_matrices_orthogonal_and_leaves_the_others_to_adam():
    found = direction("muon:weight_decay=0,iterations=12", PARAMS)
    singular = np.linalg.svd(np.asarray(found["layers"]["kernel"]), compute_uv=False)
    assert singular.max() / singular.min() < 1.6  # of the parameters 2.2; the iteration comes near 1, not to it
    np.testing.assert_allclose(np.sqrt(np.mean(found["layers"]["kernel"] ** 2)), 0.2, rtol=0.2)
    size = found["embedding"]["tokens"][0, 0]  # of all steps of Adam here
    for left, name in (("embedding", "tokens"), ("map", "kernel")):
        np.testing.assert_allclose(found[left][name] / size, np.sign(PARAMS[left][name]), rtol=1e-4)


MODELS = {
    "convolutions": dict(model__attention="conv+full+gated_linear", model__short_conv=3, model__position="learned"),
    "an encoder": dict(model__attention="lstm", task="translation:max_length=7,min_length=3"),
    "answers by place": dict(model__attention="full", task="compression:length=7"),
    "channels": dict(model__attention="full", task="adding:length=7"),
}
NOT_LINEAR = ("embedding", "places", "taps", "['mixer']['kernel']")


@pytest.mark.parametrize("model", MODELS)
def test_muon_takes_the_matrices_of_linear_layers_and_nothing_else(model):
    run = tiny_run(**MODELS[model])
    _, params = abstract_model(run)
    taken = _hidden_matrices(decayed_params(run), params)
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
