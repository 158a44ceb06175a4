"""What mixes a layer in place of attention: the equations, the costs, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.cost import count_flops
from attention_variants.layer_options import LayerOptions
from experiments.analysis.receptive_field import ceiling
from experiments.components.convolution import GatedConvolution
from experiments.components.mixers import Call, LayerSizes
from experiments.components.recurrent import GRU, LSTM
from experiments.components.registry import MIXERS, make_mixers
from experiments.training.loop import train, validate
from tests.experiments.tiny import tiny_cost, tiny_run

DIM = 7
SIZES = LayerSizes(DIM, 1, 1)


def test_the_gated_convolution_is_its_equation():
    layer = GatedConvolution(kernel_size=3).make_layer(SIZES, nnx.Rngs(0))
    u = np.asarray(jax.random.normal(jax.random.key(1), (2, 5, 7)))
    kernel, matrix = np.asarray(layer.kernel[...]), np.asarray(layer.gate.kernel[...])
    layer.gate.bias[...] = jnp.arange(7.0)
    expected = np.zeros_like(u)
    for t in range(5):
        taps = sum(kernel[2 - back] * u[:, t - back] for back in range(3) if t >= back)
        expected[:, t] = taps * (u[:, t] @ matrix + np.arange(7.0)) + u[:, t]
    np.testing.assert_allclose(jax.jit(lambda u: layer(u))(u), expected, rtol=1e-5, atol=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def matrices(layer):
    """Returns the cell's input matrix, recurrent matrix and bias, gates side by side."""
    cell = nnx.to_pure_dict(nnx.state(layer.cell, nnx.Param))
    bias = next(part["bias"] for part in (cell["dense_i"], cell["dense_h"]) if "bias" in part)
    return np.asarray(cell["dense_i"]["kernel"]), np.asarray(cell["dense_h"]["kernel"]), np.asarray(bias)


def test_the_lstm_is_its_equation():
    layer = LSTM().make_layer(SIZES, nnx.Rngs(0))
    layer.cell.dense_h.bias[...] = jnp.linspace(-1, 1, 4 * DIM)
    u = np.asarray(jax.random.normal(jax.random.key(1), (2, 5, DIM)))
    of_input, of_state, bias = matrices(layer)
    memory = hidden = np.zeros((2, DIM))
    expected = np.zeros_like(u)
    for t in range(5):
        enter, forget, candidate, leave = np.split(u[:, t] @ of_input + hidden @ of_state + bias, 4, axis=1)
        memory = sigmoid(forget) * memory + sigmoid(enter) * np.tanh(candidate)
        expected[:, t] = hidden = sigmoid(leave) * np.tanh(memory)
    np.testing.assert_allclose(layer(u), expected, atol=1e-5)


def test_the_gru_is_its_equation():
    layer = GRU().make_layer(SIZES, nnx.Rngs(0))
    u = np.asarray(jax.random.normal(jax.random.key(1), (2, 5, DIM)))
    of_input, of_state, bias = matrices(layer)
    hidden, expected = np.zeros((2, DIM)), np.zeros_like(u)
    for t in range(5):
        inputs, states = np.split(u[:, t] @ of_input + bias, 3, axis=1), np.split(hidden @ of_state, 3, axis=1)
        reset, update = sigmoid(inputs[0] + states[0]), sigmoid(inputs[1] + states[1])
        candidate = np.tanh(inputs[2] + reset * states[2])
        expected[:, t] = hidden = (1 - update) * candidate + update * hidden
    np.testing.assert_allclose(layer(u), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_networks_see_everything_before(name):
    layer = MIXERS[name]().make_layer(SIZES, nnx.Rngs(0))
    u = jax.random.normal(jax.random.key(1), (1, 6, DIM))
    moved = np.stack([np.asarray(layer(u.at[0, t].add(1.0)) != layer(u)).any((0, 2)) for t in range(6)], axis=1)
    np.testing.assert_array_equal(moved, MIXERS[name]().reach(SIZES, 6, True))
    run = tiny_run(model__attention=name)
    assert ceiling(run, run.task) == 1.0


MIXED = ("conv", "conv:kernel_size=5", "lstm", "gru", "full", "linear:chunk_size=2", "sliding_window:window_size=2")


@pytest.mark.parametrize("spec", MIXED)
def test_every_mixer_keeps_one_protocol(spec):
    """Its layer decodes what it computes at once, its reach holds what moves an output, its cost is exact."""
    sizes, length = LayerSizes(6, 3, 3, options=LayerOptions(short_conv=2)), 5
    (mixer,) = make_mixers(spec)
    assert make_mixers(mixer.spec()) == (mixer,)
    layer, u = mixer.make_layer(sizes, nnx.Rngs(0, controls=1)), jax.random.normal(jax.random.key(1), (1, length, 6))
    run, extend = jax.jit(lambda u: layer(u, causal=True)), jax.jit(lambda cache, u: layer.extend(cache, u))
    whole, (first, cache) = run(u), extend(layer.init_cache(1, length, u.dtype), u[:, :2])
    last, _ = extend(cache, u[:, 2:])
    np.testing.assert_allclose(jnp.concatenate([first, last], axis=1), whole, rtol=2e-5, atol=2e-5)
    moved = np.stack([np.asarray(run(u.at[0, t].add(1.0)) != whole).any((0, 2)) for t in range(length)], axis=1)
    assert not (moved & ~mixer.reach(sizes, length, True)).any()
    cost, projections = mixer.cost(sizes, Call(length, length, True)), 4 * 2 * length * 6 * 6 * mixer.attends
    assert count_flops(lambda u: layer(u, causal=True), u) == cost.executed_flops + projections
    assert mixer.surplus_flops(layer, sizes, Call(length, length, True), 1) >= 0 == mixer.control_params(layer)
    assert cost.ideal_flops <= cost.executed_flops and cost.cache_bytes > 0


@pytest.mark.parametrize(("name", "gates", "states"), [("lstm", 4, 2), ("gru", 3, 1)])
def test_flops_parameters_and_state_are_counted(name, gates, states):
    run = tiny_run(model__attention=name)
    model_dim, length = run.model.model_dim, run.task.input_length
    cost, nothing = (tiny_cost(model__attention=spec) for spec in (name, "conv:kernel_size=1"))
    assert cost["cache_bytes"] == 4 * states * model_dim
    assert cost["params"] - nothing["params"] == gates * (2 * model_dim**2 + model_dim) - 2 * model_dim - model_dim**2
    assert cost["train_flops_executed"] == cost["train_flops_ideal"] > length


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_networks_learn(name):
    run = tiny_run(model__attention=name, train__steps=40, train__eval_every=20, train__learning_rate=0.01)
    rows = []
    assert train(run, report=rows.append)["status"] == "done"
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.1


@pytest.mark.parametrize(
    "values",
    [
        *({"model__position": spec} for spec in ("rope", "alibi", "t5", "randomized:encoding=alibi")),
        {"model__short_conv": 2},
        {"model__qk_norm": True},
    ],
)
def test_what_only_attention_uses_is_refused_without_attention(values):
    with pytest.raises(ValueError, match="acts in attention layers; model.attention 'conv.lstm' has none"):
        validate(tiny_run(model__attention="conv+lstm", **values))
    validate(tiny_run(model__attention="full+lstm", **values))
    for position in ("learned", "sinusoidal", "randomized:encoding=learned"):
        validate(tiny_run(model__attention="conv+lstm", model__position=position))


def test_specs_have_fields_and_are_equal():
    assert LSTM() == LSTM() and hash(GRU()) == hash(GRU())
    with pytest.raises(ValueError, match="`kernel_size` must be an integer"):
        GatedConvolution(kernel_size=0)
