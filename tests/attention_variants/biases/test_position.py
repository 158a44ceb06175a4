"""ALiBi and T5: the published numbers, and that a layer adds them in every form of a call."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.biases.position import alibi_slopes, relative_buckets
from attention_variants.module import MultiHeadAttention
from attention_variants.positions import POSITIONS, make_position
from attention_variants.registry import VARIANTS, make_variant

BATCH, LENGTH, DIM, HEADS = 2, 13, 36, 6
BIASES = [name for name, kind in POSITIONS.items() if kind().make_bias(2, rngs=nnx.Rngs(0)) is not None]
SPECS = [*BIASES, "t5:num_buckets=6,max_distance=8", "randomized:encoding=alibi", "randomized:encoding=t5"]


def make_layer(position: str, variant: str = "full") -> MultiHeadAttention:
    encoding, rngs = make_position(position), nnx.Rngs(1, controls=2)
    layer = MultiHeadAttention(make_variant(variant), DIM, HEADS, num_kv_heads=3, position=encoding, rngs=rngs)
    if hasattr(layer.bias, "table"):  # zero at first, which would hide it
        layer.bias.table[...] = jax.random.normal(jax.random.key(3), layer.bias.table.shape)
    return layer


def stream() -> jax.Array:
    return jax.random.normal(jax.random.key(4), (BATCH, LENGTH, DIM))


def test_there_are_biases() -> None:
    assert BIASES == ["alibi", "t5"]


@pytest.mark.parametrize(
    ("num_heads", "expected"),
    [
        (1, [2**-8]),
        (4, [2**-2, 2**-4, 2**-6, 2**-8]),
        (8, [2.0**-n for n in range(1, 9)]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),
    ],
)
def test_alibi_slopes(num_heads: int, expected: list[float]) -> None:
    np.testing.assert_allclose(alibi_slopes(num_heads), expected)


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (16, 128), (4, 5), (7, 23)])
def test_t5_buckets_are_the_published_formula(num_buckets: int, max_distance: int) -> None:
    """Bucket exact + floor(log(d / exact) / log(max / exact) * (buckets - exact)), the last one for all that is far."""
    buckets, exact = relative_buckets(num_buckets, max_distance), num_buckets // 2
    for distance in range(max_distance + 1):
        expected = distance
        if distance >= exact:
            share = math.log(distance / exact) / math.log(max_distance / exact) + 1e-12
            expected = min(exact + int(share * (num_buckets - exact)), num_buckets - 1)
        assert buckets[distance] == expected, distance


@pytest.mark.parametrize("causal", [True, False])
def test_t5_tells_before_from_after_and_far_from_farther(causal: bool) -> None:
    bias = make_layer("t5").bias(causal)
    block = np.asarray(bias.block(jnp.arange(400), jnp.arange(400)))
    distance = np.arange(400)[:, None] - np.arange(400)
    for d in (0, 1, 7, 40, 200):
        assert np.ptp(block[:, distance == d], axis=1).max() == 0, "the distance alone decides"
    assert (block[:, 300, 0] == block[:, 128, 0]).all() and (block[:, 1, 0] != block[:, 2, 0]).all()
    if not causal:
        assert (block[:, 0, 1] != block[:, 1, 0]).all() and (block[:, 0, 300] == block[:, 0, 128]).all()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["full:block_size=8", "sliding_window:window_size=5"])
@pytest.mark.parametrize("spec", SPECS)
def test_a_layer_adds_its_bias_to_the_logits(spec: str, variant: str) -> None:
    layer, x = make_layer(spec, variant), stream()
    positions = layer.position.draw(LENGTH, jax.random.key(7))
    for causal in (True, False):
        readings, pasts = layer._read(x, layer._no_pasts(len(x), x.dtype))
        query, key, value, pasts = layer._project(readings, readings, positions, pasts)
        weights = layer.variant.dense_weights(query, key, causal=causal, bias=layer.bias(causal, positions))
        expected = jnp.einsum("bhqk,bkhd->bqhd", weights, jnp.repeat(value, 2, axis=2))
        actual = layer(x, causal=causal, positions=positions)
        np.testing.assert_allclose(actual, layer._merge(expected, value, readings, pasts, causal)[0], atol=2e-5)
        assert np.abs(actual - make_layer("none", variant)(x, causal=causal)).max() > 1e-3
        if "randomized" in spec:
            assert np.abs(actual - layer(x, causal=causal)).max() > 1e-3, "drawn positions differ from 0, 1, 2"


@pytest.mark.parametrize("spec", SPECS)
def test_decoding_equals_parallel(spec: str) -> None:
    layer, x = make_layer(spec, "sliding_window:window_size=5"), stream()
    extend = jax.jit(layer.extend)
    cache, outputs = layer.init_cache(BATCH, LENGTH), []
    for start, stop in ((0, 4), (4, 5), (5, 6), (6, LENGTH)):
        out, cache = extend(cache, x[:, start:stop])
        outputs.append(out)
    np.testing.assert_allclose(jnp.concatenate(outputs, 1), jax.jit(layer)(x), atol=2e-5)


@pytest.mark.parametrize("positions", [None, jnp.arange(LENGTH) * 3])
def test_gradients_reach_the_table(positions: jax.Array | None) -> None:
    graph, params = nnx.split(make_layer("t5", "full:block_size=5"))
    params = nnx.to_pure_dict(params)
    tangent = jax.random.normal(jax.random.key(8), (BATCH, LENGTH, DIM))

    @jax.jit
    def loss(table: jax.Array) -> jax.Array:
        layer = nnx.merge(graph, params | {"bias": {"table": table}})
        return (layer(stream(), positions=positions) * tangent).sum()

    table = params["bias"]["table"]
    gradient = jax.grad(loss)(table)
    direction = jax.random.normal(jax.random.key(9), table.shape)
    slope = (loss(table + 1e-2 * direction) - loss(table - 1e-2 * direction)) / 2e-2
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=2e-2)
    assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("encoding", ["alibi", "t5"])
def test_randomized_biases_are_those_of_the_distances_between_drawn_positions(encoding: str) -> None:
    """So the same number of tokens is another distance in another row; the own token is at distance 0 in each."""
    position = make_position(f"randomized:encoding={encoding},max_length=64")
    places = position.draw(13, jax.random.key(1))
    bias, plain = (make_layer(spec).bias for spec in (f"randomized:encoding={encoding},max_length=64", encoding))
    assert bias is not None and plain is not None
    tokens, drawn = jnp.arange(13), np.asarray(bias(True, places).block(jnp.arange(13), jnp.arange(13)))
    np.testing.assert_allclose(drawn, plain(True).block(places, places), rtol=1e-6)
    one_before, own = (np.diagonal(drawn, offset, axis1=1, axis2=2) for offset in (-1, 0))
    assert (np.ptp(one_before, axis=1) > 0).all() and (np.ptp(own, axis=1) == 0).all()
    even = np.diagonal(plain(True).block(tokens, tokens), -1, axis1=1, axis2=2)
    assert (np.ptp(even, axis=1) == 0).all()


@pytest.mark.parametrize("position", ["alibi", "t5", "randomized:encoding=alibi"])
def test_variants_that_cannot_carry_a_bias_raise(position: str) -> None:
    able = {name for name, kind in VARIANTS.items() if kind.supports_bias}
    assert "full" in able and "linear" not in able
    for name in set(VARIANTS) - able:
        with pytest.raises(NotImplementedError, match="does not support an additive position bias"):
            make_layer(position, name)


def test_a_bias_moves_no_other_parameter() -> None:
    plain, biased = (nnx.to_pure_dict(nnx.state(make_layer(name), nnx.Param)) for name in ("none", "t5"))
    assert biased.pop("bias")["table"].shape == (32, HEADS)
    jax.tree.map(np.testing.assert_array_equal, plain, biased)
