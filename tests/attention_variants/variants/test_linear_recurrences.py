"""Linear recurrences: what ties the papers together, what each promises, and decays from 0.001 to 1 - 1e-6."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.conformance.inputs import (
    BATCH,
    HEAD_DIM,
    HEADS,
    NUM_HEADS,
    NUM_KV_HEADS,
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
from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant
from attention_variants.variants import performer, taylor

pytestmark = pytest.mark.slow  # every test compiles; the laws stand in for them in the quick part

DECAYS = (0.001, 0.9, 1 - 1e-6)  # one for each of the three key-value heads
DECAYED = {
    "retention": make_variant("retention:chunk_size=64"),
    "state_space": make_variant("state_space"),
    "gated_linear": make_variant("gated_linear"),
    "rwkv6": make_variant("rwkv6"),
}


def with_decays(arguments: Arguments) -> Arguments:
    """Gives each key-value head its own entry of DECAYS."""
    log_decay = arguments.controls.log_decay
    row = jnp.log(jnp.asarray(DECAYS)).reshape(1, 1, 3, *(1,) * (log_decay.ndim - 3))
    log_decay = jnp.broadcast_to(row, log_decay.shape).astype(log_decay.dtype)
    return arguments._replace(controls=arguments.controls._replace(log_decay=log_decay))


def by_head(tree: Any) -> list[Any]:
    """Splits all leaves at axis 2, the heads: what hardly decays must not hide the rounding of what does."""
    return [jax.tree.map(lambda leaf, h=h: np.split(np.asarray(leaf), 3, axis=2)[h], tree) for h in range(3)]


@pytest.mark.parametrize("name", DECAYED)
def test_any_decay_equals_the_definition(name: str) -> None:
    """Values and gradients, that of the decay included, past several chunks."""
    variant = DECAYED[name]
    arguments = with_decays(make_arguments(variant, 131))
    cotangent = jnp.asarray(np.random.RandomState(2).standard_normal(output_shape(arguments)), jnp.float32)
    actual = with_gradients(lambda a: call(variant, a))(arguments, cotangent)
    with jax.enable_x64(True):
        expected = with_gradients(lambda a: call_dense(variant, a))(*cast((arguments, cotangent), jnp.float64))
    for decay, one, other in zip(DECAYS, by_head(actual), by_head(expected), strict=True):
        expect_close(f"decay {decay}, (output, gradients)", one, other, 1e-5)


def one_by_one(variant: Any, arguments: Arguments) -> Any:
    """Decodes a sequence token by token, in a loop."""
    length = arguments.query.shape[1]
    moving = jax.tree.map(lambda leaf: leaf.shape[1] == length, arguments)
    tokens = jax.tree.map(lambda leaf, moves: jnp.moveaxis(leaf, 1, 0)[:, :, None] if moves else (), arguments, moving)

    def step(cache: Any, token: Any) -> Any:
        now = jax.tree.map(lambda whole, moves, one: one if moves else whole, arguments, moving, token)
        out, cache = variant.extend(cache, now.query, now.key, now.value, controls=now.controls)
        return cache, out[:, 0]

    cache = variant.init_cache(1, length, HEADS, arguments.query.dtype)
    return jnp.moveaxis(jax.lax.scan(step, cache, tokens)[1], 0, 1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", DECAYED)
def test_long_sequences_neither_overflow_nor_differ_token_by_token(name: str, dtype: Any) -> None:
    variant = DECAYED[name]
    arguments = with_decays(make_arguments(variant, 4096, batch=1, dtype=dtype))
    out, gradients = with_gradients(lambda a: call(variant, a))(arguments, ones_of_output(arguments))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    recurrent = jax.jit(lambda a: one_by_one(variant, a))(arguments)
    for decay, one, other in zip(DECAYS, by_head(out), by_head(recurrent), strict=True):
        expect_close(f"decay {decay}", one, other, 2e-5 if dtype == jnp.float32 else 2**-7)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("spec", ["linear", "performer", "cosformer:horizon=4096", "taylor", "hedgehog"])
def test_sums_of_long_sequences_neither_overflow_nor_differ_token_by_token(spec: str, dtype: Any) -> None:
    """States that never decay grow with the length, and their normalisers with them."""
    variant = make_variant(spec)
    arguments = make_arguments(variant, 4096, batch=1, dtype=dtype)
    out, gradients = with_gradients(lambda a: call(variant, a))(arguments, ones_of_output(arguments))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    recurrent = jax.jit(lambda a: one_by_one(variant, a))(arguments)
    expect_close("output", out, recurrent, 2e-5 if dtype == jnp.float32 else 2**-7)


def test_gated_linear_with_an_open_gate_is_unnormalised_linear_attention() -> None:
    variant = make_variant("gated_linear:chunk_size=7")
    arguments = make_arguments(variant, 37)
    arguments = arguments._replace(controls=jax.tree.map(jnp.zeros_like, arguments.controls))

    def textbook(arguments: Arguments) -> Any:
        query, key, value = arguments[:3]
        key, value = (jnp.repeat(array, NUM_HEADS // NUM_KV_HEADS, axis=2) for array in (key, value))
        products = jnp.tril(jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(HEAD_DIM))
        return jnp.einsum("bhqk,bkhd->bqhd", products, value)

    cotangent = ones_of_output(arguments)
    actual, gradients = with_gradients(lambda a: call(variant, a))(arguments, cotangent)
    expected, expected_gradients = with_gradients(textbook)(arguments, cotangent)
    expect_close("output", actual, expected, 1e-5)
    expect_close("gradients", gradients[:3], expected_gradients[:3], 1e-5)


def test_a_state_space_with_constant_decay_is_retention() -> None:
    retention, state_space = make_variant("retention:chunk_size=7"), make_variant("state_space:chunk_size=5")
    arguments = make_arguments(retention, 37)
    controls = make_arguments(state_space, 37).controls
    log_decay = jnp.broadcast_to(arguments.controls.log_decay, controls.log_decay.shape)
    controls = controls._replace(log_decay=log_decay, write_strength=jnp.ones_like(controls.write_strength))
    scaled = arguments._replace(query=arguments.query / np.sqrt(HEAD_DIM), controls=controls)
    expect_close("output", call(state_space, scaled), call(retention, arguments), 1e-5)


def test_retention_rates_are_the_papers_and_have_no_parameters() -> None:
    module = make_variant("retention").make_controls(12, HeadSizes(6, 3, 5, 7), rngs=nnx.Rngs(0))
    assert not jax.tree.leaves(nnx.state(module, nnx.Param))
    np.testing.assert_allclose(np.exp(module(jnp.zeros((2, 4, 12))).log_decay), [[[31 / 32, 63 / 64, 127 / 128]]])


def fresh_controls(spec: str, num_kv_heads: int = 64) -> Any:
    """The controls that a new layer gives an x of zeros."""
    module = make_variant(spec).make_controls(12, HeadSizes(num_kv_heads, num_kv_heads, 5, 7), rngs=nnx.Rngs(0))
    return module(jnp.zeros((1, 1, 12)))


def test_a_fresh_state_space_has_the_papers_steps_and_rates() -> None:
    log_decay, step = fresh_controls("state_space")
    rate = -log_decay / step
    assert 0.001 <= step.min() < 0.002 and 0.05 < step.max() <= 0.1001
    np.testing.assert_allclose(np.log(step).mean(), np.log(0.01), atol=0.5)
    assert 1 <= rate.min() < 3 and 14 < rate.max() <= 16.001


def test_fresh_gates_keep_most_of_the_past() -> None:
    np.testing.assert_allclose(np.exp(fresh_controls("gated_linear").log_decay), 2 ** (-1 / 16), rtol=1e-6)


def test_rwkv6_starts_as_the_last_layer_of_the_published_code() -> None:
    """Its layer_id is n_layer - 1; no decay depends on the token."""
    module = make_variant("rwkv6").make_controls(12, HeadSizes(2, 2, 3, 3), rngs=nnx.Rngs(0))
    log_decay, bonus = module(jnp.asarray(np.random.RandomState(0).randn(2, 5, 12), jnp.float32))
    time_decay = [-6 + 5 * (n / 5) ** (0.7 + 1.3) for n in range(6)]
    time_faaaa = [1 - n / 5 + ((n + 1) % 3 - 1) * 0.1 for n in range(6)]
    np.testing.assert_allclose(log_decay, np.broadcast_to(-np.exp(time_decay).reshape(2, 3), (2, 5, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(bonus, np.reshape(time_faaaa, (1, 1, 2, 3)), atol=1e-6)
    assert 0.009 < np.abs(module.up.kernel[...]).max() <= 0.01, "else nothing would be learned"


def test_rwkv6_reads_before_it_decays() -> None:
    """The own key weighs u, the key before is whole, and the one before that has met one decay."""
    variant = make_variant("rwkv6")
    query, key, _, controls = make_arguments(variant, 7)
    query, key = query[:, :, ::2], key  # one query head per key-value head
    weights = variant.dense_weights(query, key, controls=controls)

    def ahead(steps: int, scale: Any) -> Any:
        return jnp.einsum("blhd,blhd->bhl", query[:, steps:], (scale * key)[:, : 7 - steps])

    def diagonal(steps: int) -> Any:
        return jnp.diagonal(weights, -steps, axis1=2, axis2=3)

    expect_close("own", diagonal(0), ahead(0, controls.bonus), 1e-6)
    expect_close("one before", diagonal(1), ahead(1, 1.0), 1e-6)
    between = jnp.roll(jnp.exp(controls.log_decay), -1, axis=1)  # that of the token after the key
    expect_close("two before", diagonal(2), ahead(2, between), 1e-6)


@pytest.mark.parametrize("width", [1, 2, 7])
def test_taylor_features_are_the_polynomial_exactly(width: int) -> None:
    random = np.random.RandomState(0)
    with jax.enable_x64(True):
        x, y = (jnp.asarray(random.standard_normal((11, width))) for _ in range(2))
        features = taylor._monomials(x)
        product = x @ y.T
        np.testing.assert_allclose(features @ taylor._monomials(y).T, 1 + product + product**2 / 2, rtol=1e-12)
    assert features.shape[1] == 1 + width + width * (width + 1) // 2
    assert np.linalg.matrix_rank(np.asarray(features)) == min(11, features.shape[1]), "no feature is held twice"


@pytest.mark.parametrize("feature_dim", [8, 16, 24])
def test_taylor_state_is_as_large_as_published(feature_dim: int) -> None:
    features = 1 + feature_dim + feature_dim * (feature_dim + 1) // 2
    cost = make_variant("taylor", feature_dim=feature_dim).cost(64, 64, HeadSizes(1, 1, 64, 64), True)
    assert cost.cache_bytes == 4 * (64 * features + features)


def test_performer_converges_to_softmax_attention() -> None:
    """Four times the features halve the error, about."""
    query, key, value, _ = make_arguments(make_variant("performer"), 11)
    query, key = query / 3, key / 3  # far from the tails of the estimate
    full = make_variant("full")(query, key, value)

    def error(num_features: int) -> float:
        draws = [make_variant("performer", num_features=num_features, seed=seed) for seed in range(5)]
        return float(np.sqrt(np.mean([(draw(query, key, value) - full) ** 2 for draw in draws])))

    errors = [error(num_features) for num_features in (64, 256, 1024)]
    assert errors[-1] < 0.01
    ratios = np.divide(errors[:-1], errors[1:])
    assert (ratios > 1.6).all() and (ratios < 2.5).all(), errors


def test_performer_draws_are_orthogonal_gaussian_and_fixed() -> None:
    directions = performer._draw(4096, 16, 0)
    lengths = np.linalg.norm(directions, axis=1)
    units = (directions / lengths[:, None]).reshape(-1, 16, 16)
    np.testing.assert_allclose(units @ units.swapaxes(1, 2), np.broadcast_to(np.eye(16), units.shape), atol=1e-5)
    np.testing.assert_allclose((lengths**2).mean(), 16, rtol=0.03)
    np.testing.assert_allclose(directions.T @ directions / 4096, np.eye(16), atol=0.1)
    expected = [[1.18140, 0.02294], [-0.01259, 0.64841], [-0.56889, -0.00064]]
    np.testing.assert_allclose(performer._draw(3, 2, 7), expected, atol=1e-4)


@pytest.mark.parametrize("head_dim", [1, 64, 256])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_performer_rows_sum_to_one_at_any_size(head_dim: int, scale: float) -> None:
    """Also where every feature of every key underflows, and where one key is a drawn direction itself."""
    variant = make_variant("performer:num_features=64,chunk_size=8")
    random = np.random.RandomState(0)
    query, key = (jnp.asarray(scale * random.standard_normal((1, 19, 1, head_dim)), jnp.float32) for _ in range(2))
    longest = max(performer._draw(64, head_dim, 0), key=np.linalg.norm) * head_dim**0.25
    key = key.at[0, 5, 0].set(longest)
    with_all = with_gradients(lambda qkv: variant(*qkv))
    ones = jnp.ones_like(key)
    out, gradients = with_all((query, key, ones), ones)
    np.testing.assert_allclose(out, 1.0, rtol=1e-5)
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


def test_cosformer_ends_at_its_horizon() -> None:
    variant = make_variant("cosformer:horizon=8")
    arguments = make_arguments(variant, 8)
    call(variant, arguments)
    with pytest.raises(ValueError, match="at most `horizon` 8 tokens; got 9"):
        call(variant, make_arguments(variant, 9))
    cache = variant.init_cache(BATCH, 100, HEADS, jnp.float32)
    query, key, value, _ = arguments
    _, cache = variant.extend(cache, query, key, value)
    with pytest.raises(ValueError, match="the cache was made for 8 tokens"):
        variant.extend(cache, query[:, :1], key[:, :1], value[:, :1])


def test_cosformer_weighs_by_the_cosine_of_the_distance() -> None:
    variant = make_variant("cosformer:horizon=6")
    ones = jnp.ones((1, 5, 1, 3))
    weights = variant.dense_weights(ones, ones)[0, 0, -1]
    cosines = np.cos(np.pi / 2 * np.arange(4, -1, -1) / 6)
    np.testing.assert_allclose(weights, cosines / cosines.sum(), rtol=1e-6)


def test_cosformer_at_the_length_of_its_horizon_is_not_linear_attention() -> None:
    """Of random keys the older half gets 1 - sin(pi/4) = 0.29 of the last query's weight, not one half."""
    query, key = (jnp.asarray(np.random.RandomState(seed).rand(1, 512, 1, 16)) for seed in (0, 1))
    older = {}
    for spec in ("cosformer:horizon=512", "linear:feature_map=relu"):
        older[spec] = float(make_variant(spec).dense_weights(query, key)[0, 0, -1, :256].sum())
    assert list(older.values()) == pytest.approx([1 - np.sin(np.pi / 4), 0.5], abs=0.03)


def test_cosformer_by_default_weighs_a_key_512_tokens_ago_with_nothing_and_128_ago_with_most() -> None:
    ones = jnp.ones((1, 512, 1, 3))
    weights = make_variant("cosformer").dense_weights(ones, ones)[0, 0, -1, ::-1]
    assert float(weights[128] / weights[0]) == pytest.approx(0.92, abs=0.005)
    assert float(weights[511] / weights[0]) < 0.005


def test_hedgehog_starts_with_both_softmaxes_of_the_query() -> None:
    variant = make_variant("hedgehog")
    query, key, _, controls = make_arguments(variant, 7)
    weights = variant.dense_weights(query, key, controls=controls)
    query, key = (jnp.concatenate([jax.nn.softmax(x), jax.nn.softmax(-x)], axis=-1) for x in (query, key))
    products = jnp.einsum("bqhd,bkhd->bhqk", query, jnp.repeat(key, 2, axis=2))
    expected = jnp.tril(products) / jnp.tril(products).sum(-1, keepdims=True)
    expect_close("weights", weights, expected, 1e-4)


@pytest.mark.parametrize(
    "spec",
    ["gated_linear:gate_rank=0", "rwkv6:decay_rank=0", "performer:num_features=0", "taylor:feature_dim=-1"]
    + ["cosformer:horizon=0", "retention:chunk_size=0", "performer:seed=4294967296"]
    + ["performer:num_features=65537", "taylor:feature_dim=1025"],  # drawing or listing more takes for ever
)
def test_fields_out_of_range_are_named(spec: str) -> None:
    field = spec.partition(":")[2].partition("=")[0]
    with pytest.raises(ValueError, match=f"`{field}` must be"):
        make_variant(spec)


def test_taylor_without_projections_refuses_controls() -> None:
    variant = make_variant("taylor:feature_dim=0")
    query, key, value, _ = make_arguments(variant, 5)
    with pytest.raises(NotImplementedError, match=r"feature_dim=0\) has no controls"):
        variant(query, key, value, controls=query)
