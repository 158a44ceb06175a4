"""The delta-rule variants against their definition at the ends of their ranges, and against each other."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.conformance.inputs import (
    Arguments,
    call,
    call_dense,
    cast,
    expect_close,
    make_arguments,
    ones_of_output,
    output_shape,
    with_gradients,
)
from attention_variants.families.delta_rule import DeltaControls
from attention_variants.registry import make_variant

pytestmark = pytest.mark.slow  # every test compiles; the laws stand in for them in the quick part

NAMES = "delta", "gated_delta", "kimi_delta"


def extreme_controls(controls: DeltaControls) -> DeltaControls:
    """Write strengths exactly 0 and 1 and in between; decays from 0.001 to 1 - 1e-6, mixed."""
    random = np.random.RandomState(3)
    strength = np.clip(random.uniform(-1, 2, controls.write_strength.shape), 0, 1)
    if controls.log_decay is None:
        return DeltaControls(jnp.asarray(strength, jnp.float32))
    log_decay = random.choice(np.log([0.001, 0.9, 1 - 1e-6]), controls.log_decay.shape)
    return DeltaControls(jnp.asarray(strength, jnp.float32), jnp.asarray(log_decay, jnp.float32))


def same(first: tuple[str, Any], second: tuple[str, Any]) -> None:
    """Two variants, each with controls made from the same arrays, agree in value and gradients."""
    arguments = make_arguments(make_variant("gated_delta"), 37)
    arguments = arguments._replace(controls=extreme_controls(arguments.controls))

    def run(name: str, controls: Any) -> Any:
        variant = make_variant(f"{name}:chunk_size=8")
        step = with_gradients(lambda a: call(variant, a._replace(controls=controls(a.controls))))
        return step(arguments, jnp.cos(jnp.arange(ones_of_output(arguments).size)).reshape(output_shape(arguments)))

    expect_close(f"{first[0]} and {second[0]}", run(*first), run(*second), 1e-5)


@pytest.mark.parametrize("equal_keys", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_controls_equal_the_definition(name: str, equal_keys: bool) -> None:
    """Values and gradients, in several chunks; with equal keys each token takes back what the last one wrote."""
    variant = make_variant(f"{name}:chunk_size=16")
    arguments = make_arguments(variant, 41)
    key = jnp.broadcast_to(arguments.key[:, :1], arguments.key.shape) if equal_keys else arguments.key
    arguments = arguments._replace(key=key, controls=extreme_controls(arguments.controls))
    cotangent = ones_of_output(arguments)
    actual = with_gradients(lambda a: call(variant, a))(arguments, cotangent)
    with jax.enable_x64(True):
        expected = with_gradients(lambda a: call_dense(variant, a))(*cast((arguments, cotangent), jnp.float64))
    expect_close("(output, gradients)", actual, expected, 1e-5)


def test_gated_delta_that_keeps_everything_is_delta() -> None:
    def keeps(controls: DeltaControls) -> DeltaControls:
        return controls._replace(log_decay=0.0 * controls.log_decay)

    same(("gated_delta", keeps), ("delta", lambda c: DeltaControls(c.write_strength)))


def test_kimi_delta_with_equal_channels_is_gated_delta() -> None:
    def per_channel(controls: DeltaControls) -> DeltaControls:
        return controls._replace(log_decay=jnp.repeat(controls.log_decay[..., None], 5, axis=-1))

    same(("kimi_delta", per_channel), ("gated_delta", lambda c: c))


@pytest.mark.parametrize("name", NAMES)
def test_a_write_strength_of_zero_writes_nothing(name: str) -> None:
    """A token that does not write may be left out."""
    variant = make_variant(f"{name}:chunk_size=8")
    arguments = make_arguments(variant, 23)
    silent = 11
    strength = arguments.controls.write_strength.at[:, silent].set(0.0)
    controls = arguments.controls._replace(write_strength=strength)
    if controls.log_decay is not None:
        controls = controls._replace(log_decay=controls.log_decay.at[:, silent].set(0.0))
    arguments = arguments._replace(controls=controls)
    without = jax.tree.map(lambda leaf: jnp.delete(leaf, silent, axis=1), arguments)
    expected = call(variant, Arguments(*without))
    expect_close("the others", jnp.delete(call(variant, arguments), silent, axis=1), expected, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_decays_begin_long(name: str) -> None:
    """Fresh controls keep more than half of the past at most tokens."""
    controls = make_arguments(make_variant(name), 37).controls
    assert ((controls.write_strength > 0) & (controls.write_strength < 1)).all()
    if name == "delta":
        assert controls.log_decay is None
    else:
        assert (controls.log_decay < 0).all() and jnp.median(jnp.exp(controls.log_decay)) > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_controls_that_do_not_fit_are_named(name: str) -> None:
    variant = make_variant(name)
    query, key, value, controls = make_arguments(variant, 7, batch=2)
    with pytest.raises(ValueError, match="needs `controls`, the DeltaControls that .* got NoneType"):
        variant(query, key, value)
    cut = jax.tree.map(lambda leaf: leaf[:, :-1], controls)
    with pytest.raises(
        ValueError, match=r"must begin with \[batch 2 or 1, length 7 or 1\]; one has the shape \(2, 6, 3\)"
    ):
        variant(query, key, value, controls=cut)
    wrong = controls._replace(log_decay=jnp.zeros((2, 7, 3, 4)))
    with pytest.raises(ValueError, match="must have the shapes"):
        variant(query, key, value, controls=wrong)
