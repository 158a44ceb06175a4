"""Controls, the learned inputs beyond query, key and value, work from the engine to the module."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.conformance.inputs import (
    call_dense,
    cast,
    expect_close,
    make_arguments,
    ones_of_output,
    with_gradients,
)
from attention_variants.layer_options import LayerOptions
from attention_variants.module import MultiHeadAttention
from attention_variants.registry import make_variant
from tests.attention_variants.learned_decay import LearnedDecayAttention

VARIANT = LearnedDecayAttention(chunk_size=64)


@pytest.mark.parametrize("decay", [0.001, 0.9, 1 - 1e-6])
def test_any_decay_equals_the_definition_far_past_a_chunk(decay: float) -> None:
    """257 tokens: products of decays reach 1e-771, which only differences of logs survive."""
    arguments = make_arguments(VARIANT, 257)
    arguments = arguments._replace(controls=jnp.full_like(arguments.controls, np.log(decay)))
    cotangent = ones_of_output(arguments)
    actual = with_gradients(lambda a: VARIANT(a.query, a.key, a.value, controls=a.controls))(arguments, cotangent)
    with jax.enable_x64(True):
        wide = cast((arguments, cotangent), jnp.float64)
        expected = with_gradients(lambda a: call_dense(VARIANT, a))(*wide)
    expect_close("output", actual[0], expected[0], 1e-5)
    # Float32 sums of logs reach -440 within a chunk: what they multiply is known to 3e-5 only.
    expect_close("gradients", actual[1], expected[1], 1e-5 if decay > 0.5 else 1e-4)


def make_layer(variant: Any, **options: Any) -> MultiHeadAttention:
    return MultiHeadAttention(variant, 12, 6, num_kv_heads=3, rngs=nnx.Rngs(params=0, controls=1), **options)


def make_x(length: int) -> Any:
    return jnp.asarray(np.random.RandomState(0).standard_normal((2, length, 12)), jnp.float32)


def test_layer_decodes_as_it_runs_in_parallel() -> None:
    layer, x = make_layer(LearnedDecayAttention(chunk_size=4), options=LayerOptions(short_conv=3)), make_x(11)

    @jax.jit
    def decode(x: Any) -> Any:
        cache, outputs = layer.init_cache(2, 11), []
        for start, end in ((0, 1), (1, 6), (6, 7), (7, 11)):
            out, cache = layer.extend(cache, x[:, start:end])
            outputs.append(out)
        return jnp.concatenate(outputs, axis=1), layer(x)

    np.testing.assert_allclose(*decode(x), atol=1e-5)


def test_gradients_reach_the_controls() -> None:
    definition, parameters = nnx.split(make_layer(VARIANT))

    def loss(parameters: nnx.State) -> jax.Array:
        return (nnx.merge(definition, parameters)(make_x(11)) ** 2).sum()

    gradients = jax.jit(jax.grad(loss))(parameters)
    gate = jax.tree.leaves(gradients["controls"])
    assert len(gate) == 2 and all(jnp.abs(leaf).min() > 0 for leaf in gate)


def test_controls_leave_the_shared_projections_alone() -> None:
    ours, plain = (nnx.state(make_layer(variant)) for variant in (VARIANT, make_variant("linear")))
    assert set(ours) - set(plain) == {"controls"}
    for name in plain:
        jax.tree.map(np.testing.assert_array_equal, ours[name], plain[name])


def test_nan_in_padding_does_not_reach_the_controls() -> None:
    layer, x = make_layer(VARIANT), make_x(11)
    key_mask = jnp.broadcast_to(jnp.arange(11) < 8, (2, 11))
    dirty = jnp.where(key_mask[:, :, None], x, jnp.nan)
    both = jax.jit(lambda dirty, x: (layer(dirty, key_mask=key_mask)[:, :8], layer(x[:, :8])))
    np.testing.assert_allclose(*both(dirty, x), atol=1e-6)


def test_a_context_has_no_controls() -> None:
    with pytest.raises(NotImplementedError, match="LearnedDecayAttention does not support"):
        make_layer(VARIANT)(make_x(5), context=make_x(7), causal=False)
