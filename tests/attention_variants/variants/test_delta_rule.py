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
from attention_variants.variants.delta_product import ProductControls

pytestmark = pytest.mark.slow  # every test compiles; the laws stand in for them in the quick part

NAMES = "delta", "gated_delta", "kimi_delta", "delta_product", "gated_delta_product"
PRODUCTS = {"delta_product": "delta", "gated_delta_product": "gated_delta"}  # with one step they are the other


def extreme_controls(controls: Any) -> Any:
    """Write strengths exactly 0, 1 and 2 and in between; decays from 0.001 to 1 - 1e-6, mixed."""
    random = np.random.RandomState(3)
    shape = controls.write_strength.shape
    exact = random.randint(0, 6, shape)
    strength = np.where(exact < 3, exact, random.uniform(0, 2, shape))
    controls = controls._replace(write_strength=jnp.asarray(strength, jnp.float32))
    if controls.log_decay is None:
        return controls
    log_decay = random.choice(np.log([0.001, 0.9, 1 - 1e-6]), controls.log_decay.shape)
    return controls._replace(log_decay=jnp.asarray(log_decay, jnp.float32))


def write_by_write(name: str, arguments: Arguments) -> np.ndarray:
    """The rule as the papers have it, in NumPy: token by token and step by step, one head at a time."""

    def unit(x: np.ndarray) -> np.ndarray:
        x = x / (1 + np.exp(-x))
        return x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6)

    query, key, value, controls = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), arguments)
    keys, values, strengths = key[:, :, :, None], value[:, :, :, None], controls.write_strength
    if name in PRODUCTS:
        keys = np.concatenate([keys, controls.further_keys], axis=3)
        values = np.concatenate([values, controls.further_values], axis=3)
    strengths = strengths.reshape(*keys.shape[:4])
    out = np.zeros(output_shape(arguments))
    group = query.shape[2] // key.shape[2]
    for b, h in np.ndindex(query.shape[0], query.shape[2]):
        kv, state = h // group, np.zeros((key.shape[3], value.shape[3]))
        for t in range(query.shape[1]):
            if controls.log_decay is not None:
                state = np.exp(controls.log_decay[b, t, kv]).reshape(-1, 1) * state
            for step in range(keys.shape[3]):
                k = unit(keys[b, t, kv, step])
                state = state + strengths[b, t, kv, step] * np.outer(k, values[b, t, kv, step] - state.T @ k)
            out[b, t, h] = state.T @ unit(query[b, t, h])
    return out


@pytest.mark.parametrize("spec", [*NAMES, *(f"{name}:num_steps=3" for name in PRODUCTS)])
def test_fast_path_and_definition_are_the_rule_step_by_step(spec: str) -> None:
    name = spec.partition(":")[0]
    variant = make_variant(spec, chunk_size=8)
    arguments = make_arguments(variant, 23, batch=2)
    arguments = arguments._replace(controls=extreme_controls(arguments.controls))
    expected = write_by_write(name, arguments)
    for form in (call, call_dense):
        expect_close(form.__name__, jax.jit(lambda a, form=form: form(variant, a))(arguments), expected, 1e-5)


@pytest.mark.parametrize("product", PRODUCTS)
def test_one_step_is_the_rule_with_one_write(product: str) -> None:
    def one_step(controls: Any) -> ProductControls:
        log_decay = controls.log_decay if product == "gated_delta_product" else None
        return ProductControls(controls.write_strength[..., None], None, None, log_decay)

    def plain(controls: Any) -> Any:
        return controls if product == "gated_delta_product" else controls._replace(log_decay=None)

    same((f"{product}:num_steps=1", one_step), (PRODUCTS[product], plain))


@pytest.mark.parametrize("num_steps", [2, 3])
@pytest.mark.parametrize("product", PRODUCTS)
def test_steps_are_tokens_that_are_not_read(product: str, num_steps: int) -> None:
    """Values and gradients: decay 1 on all but the first step of a token, query 0 on all but the last."""
    variant, single = make_variant(product, num_steps=num_steps, chunk_size=8), make_variant(PRODUCTS[product])
    arguments = make_arguments(variant, 19)
    arguments = arguments._replace(controls=extreme_controls(arguments.controls))

    def interleaved(arguments: Arguments) -> Any:
        query, key, value, controls = arguments
        batch, length, kv_heads = key.shape[:3]
        pieces: list[Arguments] = []
        for step in range(num_steps):
            first, last = step == 0, step == num_steps - 1
            decay = controls.log_decay
            pieces.append(
                Arguments(
                    query if last else jnp.zeros_like(query),
                    key if first else controls.further_keys[:, :, :, step - 1],
                    value if first else controls.further_values[:, :, :, step - 1],
                    DeltaControls(
                        controls.write_strength[..., step],
                        decay if decay is None or first else jnp.zeros((batch, length, kv_heads)),
                    ),
                )
            )
        joined = jax.tree.map(lambda *leaves: jnp.stack(leaves, 2).reshape(batch, -1, *leaves[0].shape[2:]), *pieces)
        return call(single, joined)[:, num_steps - 1 :: num_steps]

    cotangent = jnp.cos(jnp.arange(ones_of_output(arguments).size)).reshape(output_shape(arguments))
    actual = with_gradients(lambda a: call(variant, a))(arguments, cotangent)
    expect_close("(output, gradients)", actual, with_gradients(interleaved)(arguments, cotangent), 1e-5)


@pytest.mark.parametrize("name", PRODUCTS.values())
def test_a_strength_of_two_reflects(name: str) -> None:
    """What stood under a key changes its sign, and what stands across it stays."""
    variant = make_variant(name, max_strength=2.0)
    _, key, value, controls = make_arguments(variant, 1)
    key = 30 * key  # next to which 1e-6 under the root of its norm is nothing
    key, value = (jnp.concatenate([first, second], axis=1) for first, second in ((key, key), (value, 0 * value)))
    query = jnp.repeat(key, 2, axis=2)
    strength = jnp.asarray([1.0, 2.0])[None, :, None] * jnp.ones(key.shape[:3])
    controls = controls._replace(write_strength=strength)
    if controls.log_decay is not None:
        controls = controls._replace(log_decay=jnp.zeros(key.shape[:3]))
    out = call(variant, Arguments(query, key, value, controls))
    expected = jnp.repeat(value[:, 0], 2, axis=1)
    expect_close("written", out[:, 0], expected, 1e-5)
    expect_close("reflected", out[:, 1], -expected, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_max_strength_is_the_largest_strength(name: str) -> None:
    """Strengths grow with it, and nothing else of the controls changes."""
    small, large = (make_arguments(make_variant(name, max_strength=m), 13).controls for m in (0.5, 2.0))
    expect_close("controls", large, small._replace(write_strength=4 * small.write_strength), 1e-6)
    assert (large.write_strength < 2).all() and (large.write_strength > 1).any()
    for wrong in (0.0, -1.0, 2.5, float("nan")):
        with pytest.raises(ValueError, match=r"`max_strength` must be a number in \(0.0, 2.0\]; got"):
            make_variant(name, max_strength=wrong)


def test_further_values_that_do_not_fit_are_named() -> None:
    variant = make_variant("delta_product:num_steps=3")
    query, key, value, controls = make_arguments(variant, 5, batch=2)
    for wrong in (None, controls.further_values[..., :-1], controls.further_values[:, :, :, :1]):
        with pytest.raises(ValueError, match=r"further_values.*must have the shape \(2, 5, 3, 2, 7\); got"):
            variant(query, key, value, controls=controls._replace(further_values=wrong))


def same(first: tuple[str, Any], second: tuple[str, Any]) -> None:
    """Two variants, each with controls made from the same arrays, agree in value and gradients."""
    arguments = make_arguments(make_variant("gated_delta"), 37)
    arguments = arguments._replace(controls=extreme_controls(arguments.controls))

    def run(name: str, controls: Any) -> Any:
        variant = make_variant(name, chunk_size=8)
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
    if name in ("delta", "delta_product"):
        assert controls.log_decay is None
    else:
        assert (controls.log_decay < 0).all() and jnp.median(jnp.exp(controls.log_decay)) > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_controls_that_do_not_fit_are_named(name: str) -> None:
    variant = make_variant(name)
    query, key, value, controls = make_arguments(variant, 7, batch=2)
    with pytest.raises(ValueError, match="needs `controls`, the (Delta|Product)Controls that .* got NoneType"):
        variant(query, key, value)
    cut = jax.tree.map(lambda leaf: leaf[:, :-1], controls)
    with pytest.raises(
        ValueError, match=r"must begin with \[batch 2 or 1, length 7 or 1\]; one has the shape \(2, 6, 3"
    ):
        variant(query, key, value, controls=cut)
    wrong = controls._replace(log_decay=jnp.zeros((2, 7, 3, 4)))
    with pytest.raises(ValueError, match="must have the shapes"):
        variant(query, key, value, controls=wrong)
    with pytest.raises(ValueError, match="needs `controls`, the (Delta|Product)Controls that .* got NoneType"):
        variant.dense_values(value)
