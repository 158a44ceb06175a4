"""The modified softmaxes: the limits that tie them to full attention, and what their equations say at the ends."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.conformance.inputs import (
    NUM_HEADS,
    Arguments,
    SlopeBias,
    call,
    call_dense,
    cast,
    expect_close,
    make_arguments,
    ones_of_output,
    output_shape,
    with_gradients,
)
from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant

pytestmark = pytest.mark.slow  # every test compiles; the laws stand in for them in the quick part

CONTROLLED = "forgetting", "differential", "softmax_sink"


def with_controls(name: str, length: int, **controls: Any) -> tuple[Any, Arguments]:
    """A variant in blocks of 8 and its arguments, with all entries of the named controls set."""
    variant = make_variant(f"{name}:block_size=8")
    arguments = make_arguments(variant, length)
    filled = {field: jnp.full_like(getattr(arguments.controls, field), value) for field, value in controls.items()}
    return variant, arguments._replace(controls=arguments.controls._replace(**filled))


def value_and_gradients(variant: Any, arguments: Arguments, **options: Any) -> Any:
    """The output, and the gradients of query, key and value."""
    controls = arguments.controls
    cotangent = jnp.cos(jnp.arange(ones_of_output(arguments).size)).reshape(output_shape(arguments))
    run = with_gradients(lambda a: call(variant, a._replace(controls=controls), **options))
    return run(arguments._replace(controls=None), cotangent)


def full(arguments: Arguments, **options: Any) -> Any:
    return value_and_gradients(make_variant("full:block_size=8"), arguments._replace(controls=None), **options)


def test_forgetting_with_open_gates_is_full_attention() -> None:
    variant, arguments = with_controls("forgetting", 37, log_gate=0.0)
    expect_close("gate 1", value_and_gradients(variant, arguments), full(arguments), 1e-6)


def test_forgetting_with_equal_gates_is_a_slope() -> None:
    """One gate for all tokens is ALiBi, and both biases add up."""
    variant, arguments = with_controls("forgetting", 37, log_gate=-0.2)
    slopes = jnp.linspace(0.1, 0.5, NUM_HEADS)
    actual = value_and_gradients(variant, arguments, bias=SlopeBias(slopes))
    expect_close("slope", actual, full(arguments, bias=SlopeBias(slopes + 0.2)), 1e-5)


@pytest.mark.parametrize(("spec", "gate"), [("forgetting", 0.5), ("forgetting:initial_gate=0.98", 0.98)])
def test_a_token_of_zeros_has_the_initial_gate(spec: str, gate: float) -> None:
    controls = make_variant(spec).make_controls(11, HeadSizes(3, 3, 5, 5), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(jnp.exp(controls(jnp.zeros((1, 2, 11))).log_gate), gate, rtol=1e-6)


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_a_gate_that_could_not_learn_is_refused(gate: float) -> None:
    with pytest.raises(ValueError, match=rf"`initial_gate` must be a number in \(0.0, 0.9+\d*\]; got {gate}"):
        make_variant(f"forgetting:initial_gate={gate}")


def test_a_closed_gate_forgets_everything_before() -> None:
    variant, arguments = with_controls("forgetting", 23, log_gate=-0.1)
    closed = arguments.controls._replace(log_gate=arguments.controls.log_gate.at[:, 11].set(-1e4))
    whole = call(variant, arguments._replace(controls=closed))
    rest = call(variant, jax.tree.map(lambda leaf: leaf[:, 11:], arguments))
    expect_close("after the closed gate", whole[:, 11:], rest, 1e-6)


def test_forgetting_at_extreme_gates_equals_the_definition() -> None:
    """Gates from 0.001 to 1 - 1e-6, in value and gradient."""
    variant, arguments = with_controls("forgetting", 101)
    log_gate = np.random.RandomState(3).choice(np.log([0.001, 0.9, 1 - 1e-6]), arguments.controls.log_gate.shape)
    arguments = arguments._replace(controls=type(arguments.controls)(jnp.asarray(log_gate, jnp.float32)))
    cotangent = ones_of_output(arguments).at[:, ::2].set(-0.5)
    actual = with_gradients(lambda a: call(variant, a))(arguments, cotangent)
    with jax.enable_x64(True):
        expected = with_gradients(lambda a: call_dense(variant, a))(*cast((arguments, cotangent), jnp.float64))
    expect_close("(output, gradients)", actual, expected, 1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_a_sink_that_takes_nothing_is_full_attention_and_one_that_takes_all_is_zero(causal: bool) -> None:
    variant, arguments = with_controls("softmax_sink", 37, sink=-1e4)
    expect_close(
        "sink -> -inf", value_and_gradients(variant, arguments, causal=causal), full(arguments, causal=causal), 1e-6
    )
    _, arguments = with_controls("softmax_sink", 37, sink=1e4)
    assert not any(leaf.any() for leaf in jax.tree.leaves(value_and_gradients(variant, arguments, causal=causal)))


@pytest.mark.parametrize("sink", [-3.0, 0.0, 5.0])
def test_a_sink_is_one_more_key_without_a_value(sink: float) -> None:
    """At sink 0 it is a key of zeros: the softmax that is off by one."""
    variant, arguments = with_controls("softmax_sink", 13, sink=sink)
    weights = variant.dense_weights(arguments.query, arguments.key, controls=arguments.controls, causal=False)
    logits = jnp.log(make_variant("full").dense_weights(arguments.query, arguments.key, causal=False))
    products = jnp.einsum("bqhd,bkhd->bhqk", arguments.query, jnp.repeat(arguments.key, 2, axis=2)) / 5**0.5
    total = jnp.exp(products).sum(-1, keepdims=True)
    expect_close("weights", weights, jnp.exp(logits) * total / (total + np.exp(sink)), 1e-5)


def test_differential_that_takes_nothing_off_is_softmax_over_half_the_channels() -> None:
    """The second half then has no part in it."""
    variant, arguments = with_controls("differential", 37, share=0.0)
    first = arguments._replace(query=arguments.query.at[..., 3:].set(0.0) * (5 / 3) ** 0.5)
    expect_close("lambda 0", call(variant, arguments), full(first)[0], 1e-5)


def test_differential_cancels_what_both_softmaxes_see() -> None:
    """Without queries both are the mean; at lambda 1 nothing is left."""
    variant, arguments = with_controls("differential", 13, share=1.0)
    assert not call(variant, arguments._replace(query=0 * arguments.query)).any()
    assert jnp.abs(call(variant, arguments)).max() > 0.1


def test_differential_rows_sum_to_what_is_not_taken_off() -> None:
    variant, arguments = with_controls("differential", 13)
    weights = variant.dense_weights(arguments.query, arguments.key, controls=arguments.controls)
    share = arguments.controls.share[0, 0]
    assert (jnp.abs(share - 0.8) < 0.2).all() and jnp.ptp(share) > 0
    np.testing.assert_allclose(
        weights.sum(-1), jnp.broadcast_to(1 - share[None, :, None], weights.shape[:3]), atol=1e-5
    )


def test_differential_needs_two_channels() -> None:
    variant, arguments = with_controls("differential", 5)
    query, key, value = (array[..., :1] for array in arguments[:3])
    with pytest.raises(ValueError, match="head_dim, which must be >= 2; got 1"):
        variant(query, key, value, controls=arguments.controls)


def test_sigmoid_of_small_logits_is_nearly_the_mean() -> None:
    """sigmoid(-log n) = 1 / (n + 1) for a query that sees n keys."""
    variant, arguments = make_variant("sigmoid:block_size=8"), make_arguments(make_variant("sigmoid"), 37)
    out = call(variant, arguments._replace(query=0 * arguments.query))
    expected = jnp.cumsum(arguments.value, axis=1) / jnp.arange(2, 39).reshape(1, 37, 1, 1)
    expect_close("mean", out, jnp.repeat(expected, 2, axis=2), 1e-5)


def test_sigmoid_has_the_limits_of_its_bias() -> None:
    """A bias far below 0 shuts every key, one far above takes every value whole."""
    variant, arguments = make_variant("sigmoid:block_size=8"), make_arguments(make_variant("sigmoid"), 37)
    shut, taken = (
        value_and_gradients(variant, arguments, bias=SlopeBias(jnp.full((NUM_HEADS,), slope)), causal=False)
        for slope in (1e4, -1e4)
    )
    own = np.asarray(shut[0])  # the distance to the own key is 0, whatever the slope
    weights = jax.nn.sigmoid(_own_logits(arguments) - np.log(37))[..., None]
    expect_close("shut", own, weights * jnp.repeat(arguments.value, 2, axis=2), 1e-5)
    others = arguments.value.sum(1, keepdims=True) - arguments.value
    expect_close("taken", taken[0] - own, jnp.repeat(others, 2, axis=2), 1e-5)


def _own_logits(arguments: Arguments) -> Any:
    return (arguments.query * jnp.repeat(arguments.key, 2, axis=2)).sum(-1) / 5**0.5


@pytest.mark.parametrize("causal", [True, False])
def test_sigmoid_where_softmax_is_even_is_close_to_it(causal: bool) -> None:
    """Weights of 1 / n apart from 1 / (n + 1): the same to first order, far from it at large logits."""
    variant, arguments = make_variant("sigmoid:block_size=8"), make_arguments(make_variant("sigmoid"), 211)
    weights = variant.dense_weights(0.01 * arguments.query, arguments.key, causal=causal)
    softmax = make_variant("full").dense_weights(0.01 * arguments.query, arguments.key, causal=causal)
    assert jnp.abs(weights - softmax)[..., 150:, :].max() < 1e-4
    assert jnp.abs(variant.dense_weights(9 * arguments.query, arguments.key).sum(-1) - 1).max() > 0.5
