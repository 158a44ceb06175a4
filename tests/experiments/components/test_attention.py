"""Attention as a mixer with options around it: decoded, reached, counted and costed as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.registry import VARIANTS, example_spec
from experiments.analysis.start import mixer_rms, start_rms
from experiments.analysis.state_capacity import state_bytes
from experiments.components.mixers import Call, LayerSizes
from experiments.components.registry import make_attention
from experiments.training.loop import validate
from tests.attention_variants.test_layer_options import FAMILIES, OPTIONS
from tests.experiments.tiny import tiny_cost, tiny_run

LENGTH, SIZES = 7, LayerSizes(12, 6, 3)
CROSSED = [(family, options) for family in FAMILIES for options in OPTIONS]


def sizes_with(options: str, **more) -> LayerSizes:
    return SIZES._replace(options=OPTIONS[options], **more)


def layer_of(mixer, sizes):
    return mixer.make_layer(sizes, nnx.Rngs(params=0, controls=1))


@pytest.mark.parametrize(("family", "options"), CROSSED)
def test_state_and_parameters_are_counted(family, options):
    mixer, sizes = make_attention(FAMILIES[family]), sizes_with(options)
    cache = jax.eval_shape(lambda: layer_of(mixer, sizes).init_cache(1, LENGTH))
    held = sum(4 * leaf.size for leaf in jax.tree.leaves(cache)) - 2 * 4  # without the two counters
    assert mixer.cost(sizes, Call(LENGTH, LENGTH, True)).cache_bytes == held
    layer = nnx.eval_shape(lambda: layer_of(mixer, sizes))
    shared = [layer.query, layer.key, layer.value, layer.output, layer.query_norm, layer.key_norm, layer.short_conv]
    apart = sum(leaf.size for part in shared if part is not None for leaf in jax.tree.leaves(nnx.state(part)))
    whole = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(layer)))
    assert mixer.control_params(layer) == whole - apart > 0


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("causal", [True, False])
def test_reach_holds_what_moves_an_output(options, causal):
    """With a window of 2 keys, what convolutions and token shift carry further shows; the reach is no wider."""
    mixer, sizes = make_attention("sliding_window:window_size=2"), sizes_with(options)
    layer, x = layer_of(mixer, sizes), jax.random.normal(jax.random.key(1), (1, LENGTH, 12))
    run = jax.jit(lambda x: layer(x, causal=causal))
    moved = np.stack([np.asarray(run(x.at[0, t].add(1.0)) != run(x)).any((0, 2)) for t in range(LENGTH)], axis=1)
    np.testing.assert_array_equal(moved | np.eye(LENGTH, dtype=bool), mixer.reach(sizes, LENGTH, causal))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "options"), CROSSED)
def test_no_step_is_cheaper_than_its_ideal(family, options):
    mixer, sizes = make_attention(FAMILIES[family]), sizes_with(options)
    layer = nnx.eval_shape(lambda: layer_of(mixer, sizes))
    assert mixer.surplus_flops(layer, sizes, Call(LENGTH, LENGTH, True), 2) >= 0


def test_gates_are_part_of_the_flops():
    """Of one gate per channel, forward and both gradients; the first layer's input needs no gradient but its own."""
    plain, gated = (tiny_cost(model__attention="conv+full", **given) for given in ({}, {"model__output_gate": "silu"}))
    rows, steps, width = 5 * 14, 7, 12
    assert gated["train_flops_ideal"] - plain["train_flops_ideal"] == steps * 3 * 2 * rows * width**2
    assert gated["control_params"] - plain["control_params"] == width**2 and gated["params"] == plain["params"]


def test_state_grows_with_the_widths_of_heads():
    """Linear attention holds head_dim x (value_dim + 1) numbers per head."""
    narrow, wide, values = (
        state_bytes(tiny_run(model__attention="linear", **given), 14)
        for given in (dict(model__head_dim=32), dict(model__head_dim=64), dict(model__head_dim=32, model__value_dim=64))
    )
    assert (narrow, wide, values) == tuple(4 * 3 * key * (value + 1) for key, value in ((32, 32), (64, 64), (32, 64)))


@pytest.mark.parametrize(
    "values",
    [{"model__layer": "paper"}, {"model__output_norm": "head"}, {"model__head_dim": 16}, {"model__qkv_conv": 2}],
)
def test_options_are_refused_without_attention(values):
    with pytest.raises(ValueError, match="acts in attention layers; model.attention 'conv.lstm' has none"):
        validate(tiny_run(model__attention="conv+lstm", **values))
    validate(tiny_run(model__attention="full+lstm", **values))


@pytest.mark.slow
def test_published_layers_start_alike():
    """A factor of 3, at the catalogue's size: else a comparison under one learning rate is one of scales."""
    found = {}
    for name, kind in VARIANTS.items():
        values = dict(model__attention=example_spec(name, 128), model__bidirectional=not kind.supports_causal)
        run = tiny_run(
            task="mqar:length=128,num_pairs=8,vocab_size=160",
            model__layer="paper",
            model__model_dim=64,
            model__num_heads=2,
            **values,
        )
        (found[name],) = start_rms(run)
    assert max(found.values()) <= 3 * min(found.values()), sorted(found.items(), key=lambda item: item[1])


@pytest.mark.slow
def test_the_start_is_the_scale_of_a_mixers_output():
    run = tiny_run(model__attention="conv+full+rwkv6", model__layer="plain+plain+paper")
    _, full, published = start_rms(run)
    plain = start_rms(tiny_run(model__attention="conv+full+rwkv6"))
    assert plain[1] == full and 0.1 < full < 0.9 and plain[2] > 3 * published
    layer = layer_of(run.layers[1], run.built[1][1])
    x = jax.random.normal(jax.random.key(2), (4, 14, 12))
    expected = jnp.sqrt(jnp.mean(jnp.square(layer(x, positions=jnp.arange(14)))))
    assert mixer_rms(*run.built[1], 14, True) == pytest.approx(float(expected), rel=1e-5)
