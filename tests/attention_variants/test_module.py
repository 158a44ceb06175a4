"""The attention module: equals its written-out form, decodes as it runs in parallel, and shares its projections."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants import arrays
from attention_variants.interface import AttentionVariant, Cost
from attention_variants.layer_options import LayerOptions
from attention_variants.module import MultiHeadAttention
from attention_variants.positions import RotaryPosition, make_position
from attention_variants.registry import make_variant

BATCH, LENGTH, HEADS, MODEL_DIM = 2, 11, 6, 36


class PlainCache(NamedTuple):
    key: Any
    value: Any
    gates: Any
    length: Any
    max_length: Any


def _put(buffer: Any, new: Any, start: Any) -> Any:
    return jax.lax.dynamic_update_slice_in_dim(buffer, new.astype(buffer.dtype), start, axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plain(AttentionVariant):
    """Dense softmax attention, the plainest thing that keeps the contract."""

    def _attend(self, query, key, value, *, causal, key_mask, bias, controls):
        weights = self._dense_weights(query, key, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, arrays.repeat_heads(value, query.shape[2]))

    def _dense_weights(self, query, key, *, causal, key_mask, bias, controls, past=0):
        later = jnp.arange(key.shape[1])[None, :] > past + jnp.arange(query.shape[1])[:, None]
        mask = (~later | (not causal))[None, None]
        mask = mask if key_mask is None else mask & key_mask[:, None, None, :]
        weights = arrays.masked_softmax(arrays.dense_logits(query, key), mask)
        return weights if controls is None else weights * controls.swapaxes(1, 2)[:, :, None, :]

    def _init_cache(self, batch, max_length, heads, dtype):
        empty = jnp.zeros((batch, max_length, heads.num_kv_heads, heads.head_dim), dtype)
        return PlainCache(empty, empty, jnp.zeros((batch, max_length, HEADS)), jnp.int32(0), jnp.int32(max_length))

    def _extend(self, cache, query, key, value, *, bias, controls):
        start, gates = cache.length, cache.gates
        key, value = _put(cache.key, key, start), _put(cache.value, value, start)
        if controls is not None:
            controls = gates = _put(gates, controls, start)
        weights = self._dense_weights(query, key, causal=True, key_mask=None, bias=None, controls=controls, past=start)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights, arrays.repeat_heads(value, query.shape[2]))
        return out, PlainCache(key, value, gates, start + query.shape[1], cache.max_length)

    def pattern(self, query_length, key_length, causal):
        return np.tri(query_length, key_length, dtype=bool) | (not causal)

    def cost(self, query_length, key_length, heads, causal):
        return Cost(0, 0, 0)


class Gate(nnx.Module):
    def __init__(self, model_dim: int, num_heads: int, rngs: nnx.Rngs):
        self.linear = nnx.Linear(model_dim, num_heads, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(self.linear(x))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gated(Plain):
    """Weights times a learned gate per key and head."""

    controls_type = jax.Array

    def make_controls(self, model_dim, heads, *, rngs):
        return Gate(model_dim, heads.num_heads, rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfOnly(Plain):
    supports_cross = False


def _rngs(seed: int = 0) -> nnx.Rngs:
    return nnx.Rngs(params=seed, controls=seed + 100)


def _layer(variant: AttentionVariant = Plain(), **given: Any) -> MultiHeadAttention:  # noqa: B008
    """Options of the layer and arguments of its module, in one list."""
    names = [field.name for field in dataclasses.fields(LayerOptions)]
    options = LayerOptions(**{name: given.pop(name) for name in names if name in given})
    return MultiHeadAttention(variant, MODEL_DIM, HEADS, rngs=given.pop("rngs", _rngs()), options=options, **given)


def _x(length: int = LENGTH, seed: int = 1) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (BATCH, length, MODEL_DIM))


CASES: dict[str, dict[str, Any]] = {
    "grouped_rope": {"num_kv_heads": 2, "position": RotaryPosition()},
    "short_conv": {"short_conv": 3},
    "all": {"variant": Gated(), "num_kv_heads": 3, "position": RotaryPosition(), "qk_norm": True, "short_conv": 4},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "chunks",
    [pytest.param((1,) * LENGTH, marks=pytest.mark.slow, id="tokens"), pytest.param((5, 1, 2, 3), id="ragged")],
)
def test_decoding_equals_the_parallel_call(case: str, chunks: tuple[int, ...]) -> None:
    layer, x = _layer(**CASES[case]), _x()
    extend = jax.jit(layer.extend)
    cache, outs, start = layer.init_cache(BATCH, LENGTH), [], 0
    for size in chunks:
        out, cache = extend(cache, x[:, start : start + size])
        outs.append(out)
        start += size
        assert int(cache.length) == start
    np.testing.assert_allclose(np.concatenate(outs, 1), jax.jit(layer)(x), atol=2e-5)
    with pytest.raises(ValueError, match=r"made for 11 tokens and holds 11; cannot extend it by 1"):
        layer.extend(cache, x[:, :1])


@pytest.mark.parametrize("case", CASES)
def test_causal_and_bidirectional_reach(case: str) -> None:
    """Seen by gradients: output 4 depends on inputs 0 to 4 when causal, on all when not."""
    layer = _layer(**CASES[case])
    for causal, last in ((True, 4), (False, LENGTH - 1)):
        gradient = jax.jit(jax.grad(lambda x, c=causal: jnp.square(layer(x, causal=c)[:, 4]).sum()))(_x())
        assert (np.abs(gradient).max((0, 2)) > 0).tolist() == [i <= last for i in range(LENGTH)]


@pytest.mark.parametrize("spec", ["full", "differential", "retention"])
def test_rope_of_a_layer_is_relative_where_the_variant_says_so(spec: str) -> None:
    """Each part of a head turns by itself: the two maps of `differential` have the same frequencies."""
    layer = MultiHeadAttention(make_variant(spec), 24, 2, position=RotaryPosition(), rngs=_rngs())
    x = jnp.asarray(np.random.RandomState(0).standard_normal((BATCH, LENGTH, 24)), jnp.float32)
    run = jax.jit(lambda positions: layer(x, positions=positions))
    np.testing.assert_allclose(run(jnp.arange(LENGTH) + 53), run(jnp.arange(LENGTH)), atol=1e-5)


def test_equals_the_written_out_form() -> None:
    layer, x = _layer(**CASES["all"]), _x()
    history = np.concatenate([np.zeros((BATCH, 3, MODEL_DIM)), x], 1)
    u = sum(history[:, i : i + LENGTH] * np.asarray(layer.short_conv.taps[...])[i] for i in range(4))
    query, key, value = (
        (u @ np.asarray(linear.kernel[...])).reshape(BATCH, LENGTH, -1, 6)
        for linear in (layer.query, layer.key, layer.value)
    )
    query, key = (a / np.sqrt(np.mean(a**2, -1, keepdims=True) + 1e-6) for a in (query, key))
    query, key = (
        jax.jit(RotaryPosition().rotate)(jnp.asarray(a, jnp.float32), jnp.arange(LENGTH)) for a in (query, key)
    )
    logits = np.einsum("bqhd,bkhd->bhqk", query, np.repeat(key, 2, 2)) / np.sqrt(6)
    logits = np.where(np.tri(LENGTH, dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights = weights / weights.sum(-1, keepdims=True)
    gates = np.asarray(jax.jit(layer.controls)(jnp.asarray(u, jnp.float32))).swapaxes(1, 2)[:, :, None]
    out = np.einsum("bhqk,bkhd->bqhd", weights * gates, np.repeat(value, 2, 2)).reshape(BATCH, LENGTH, MODEL_DIM)
    np.testing.assert_allclose(jax.jit(layer)(x), out @ np.asarray(layer.output.kernel[...]), atol=2e-5)


@pytest.mark.parametrize("case", ["grouped_rope", "all"])
@pytest.mark.parametrize("causal", [True, False])
def test_padding_equals_truncation(case: str, causal: bool) -> None:
    layer, short = _layer(**CASES[case]), _x(length=7)
    x = jnp.concatenate([short, jnp.full((BATCH, 4, MODEL_DIM), jnp.nan)], 1)
    key_mask = jnp.broadcast_to(jnp.arange(LENGTH) < 7, (BATCH, LENGTH))

    def loss(layer_state: Any, x: jax.Array, **options: Any) -> jax.Array:
        return jnp.square(nnx.merge(graph, layer_state)(x, causal=causal, **options)[:, :7]).sum()

    graph, state = nnx.split(layer)
    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    padded, padded_gradient = value_and_gradient(state, x, key_mask=key_mask)
    plain, gradient = value_and_gradient(state, short)
    np.testing.assert_allclose(padded, plain, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), padded_gradient, gradient)


@pytest.mark.slow
def test_cross_attention_reads_the_context() -> None:
    layer, x, context = _layer(short_conv=3, position=RotaryPosition()), _x(5), _x(seed=2)
    out = layer(x, context=context, causal=False)
    assert out.shape == x.shape
    keys = (context @ layer.key.kernel[...]).reshape(BATCH, LENGTH, HEADS, 6)
    values = (context @ layer.value.kernel[...]).reshape(BATCH, LENGTH, HEADS, 6)
    convolved, _ = layer.short_conv(x, jnp.zeros((BATCH, 2, MODEL_DIM)))
    queries = (convolved @ layer.query.kernel[...]).reshape(BATCH, 5, HEADS, 6)
    expected = jax.nn.dot_product_attention(queries, keys, values).reshape(BATCH, 5, MODEL_DIM)
    np.testing.assert_allclose(out, expected @ layer.output.kernel[...], atol=1e-5)

    key_mask = jnp.broadcast_to(jnp.arange(LENGTH) < 8, (BATCH, LENGTH))
    poisoned = jnp.where(key_mask[:, :, None], context, jnp.nan)
    masked = layer(x, context=poisoned, causal=False, key_mask=key_mask)
    np.testing.assert_allclose(masked, layer(x, context=context[:, :8], causal=False), atol=1e-5)


@pytest.mark.parametrize("rngs", [_rngs, lambda: nnx.Rngs(0)], ids=["streams", "one stream"])
def test_projections_are_bit_identical_across_variants(rngs: Any) -> None:
    """In a stack too: what one layer's controls draw must not move the next layer's projections."""

    def stack(variant: AttentionVariant) -> list[MultiHeadAttention]:
        streams = rngs()
        return [_layer(variant, qk_norm=True, short_conv=2, rngs=streams) for _ in range(2)]

    plain, gated = stack(Plain()), stack(Gated())
    for one, other in zip(plain, gated, strict=True):
        assert one.controls is None and other.controls is not None
        other.controls = None
        jax.tree.map(np.testing.assert_array_equal, nnx.state(one), nnx.state(other))
    assert not np.array_equal(plain[0].query.kernel[...], plain[1].query.kernel[...])


def test_options_do_not_move_the_shared_draws() -> None:
    plain, rich = _layer(), _layer(**CASES["all"] | {"num_kv_heads": None})
    for name in ("query", "key", "value", "output"):
        np.testing.assert_array_equal(getattr(plain, name).kernel[...], getattr(rich, name).kernel[...])


def test_computes_in_the_dtype_of_x() -> None:
    layer = _layer(**CASES["all"])
    x = _x().astype(jnp.bfloat16)
    out, cache = jax.jit(layer.extend)(layer.init_cache(BATCH, LENGTH, jnp.bfloat16), x)
    whole = jax.jit(layer)
    assert whole(x).dtype == out.dtype == cache.pasts.short_conv.dtype == jnp.bfloat16
    np.testing.assert_allclose(whole(x).astype(jnp.float32), whole(_x()), atol=0.1)


@pytest.mark.slow
def test_nothing_is_promoted() -> None:
    layer = _layer(make_variant("forgetting"), qk_norm=True, short_conv=3, position=RotaryPosition())
    with jax.numpy_dtype_promotion("strict"):
        out, _ = jax.jit(layer.extend)(layer.init_cache(BATCH, LENGTH, jnp.bfloat16), _x().astype(jnp.bfloat16))
    assert out.dtype == jnp.bfloat16


def test_a_cache_keeps_its_dtypes() -> None:
    layer = _layer(short_conv=3)
    before = layer.init_cache(BATCH, LENGTH, jnp.bfloat16)
    _, after = jax.jit(layer.extend)(before, _x(2))
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(before)]


def test_functional_split_under_jit_and_grad() -> None:
    graph, params = nnx.split(_layer(**CASES["all"]))
    gradient = jax.jit(jax.grad(lambda p: jnp.square(nnx.merge(graph, p)(_x())).sum()))(params)
    norms = jax.tree.map(lambda g: float(jnp.abs(g).sum()), gradient)
    assert all(norm > 0 for norm in jax.tree.leaves(norms)), norms


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 5}, "`num_heads` must divide `model_dim`; got num_heads 5 and model_dim 36"),
        ({"num_kv_heads": 4}, "`num_kv_heads` must divide `num_heads`; got num_kv_heads 4 and num_heads 6"),
        ({"num_heads": 0}, "`num_heads` must be an integer >= 1; got 0"),
        ({"num_kv_heads": 0}, "`num_kv_heads` must be an integer >= 1; got 0"),
        ({"head_dim": 0}, "`head_dim` must be an integer >= 1; got 0"),
        ({"options": {"qk_norm": True}}, "`options` must be LayerOptions, .* got {'qk_norm': True}"),
        (
            {"options": LayerOptions(value_expansion=0.7)},
            "`num_heads` must divide `model_dim` times `value_expansion` 0.7; got num_heads 6 and model_dim 36",
        ),
        ({"variant": "full"}, "`variant` must be an AttentionVariant, .* got 'full'"),
        ({"position": "rope"}, "`position` must be a Position, .* got 'rope'"),
    ],
)
def test_bad_construction(arguments: dict[str, Any], message: str) -> None:
    arguments = {"variant": Plain(), "model_dim": MODEL_DIM, "num_heads": HEADS} | arguments
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(**arguments, rngs=_rngs())


@pytest.mark.parametrize(
    ("variant", "arguments", "error", "message"),
    [
        (Plain(), {"x": jnp.ones((2, 3, 5))}, ValueError, r"`x` must be floating .*=36\]; got float32 \(2, 3, 5\)"),
        (Plain(), {"x": jnp.ones((2, 3, 36), int)}, ValueError, "`x` must be floating .* got int32"),
        (Plain(), {"context": jnp.ones((2, 3, 5)), "causal": False}, ValueError, "`context` must be floating"),
        (Plain(), {"context": jnp.ones((2, 11, 36))}, ValueError, "attention to a `context` needs causal=False"),
        (Plain(), {"key_mask": jnp.ones((2, 3), bool)}, ValueError, r"`key_mask` must be .* \(2, 11\); got \(2, 3\)"),
        (Plain(), {"key_mask": jnp.ones((2, 11), int)}, ValueError, "`key_mask` must be boolean"),
        (SelfOnly(), {"context": jnp.ones((2, 3, 36)), "causal": False}, NotImplementedError, "does not support"),
    ],
)
def test_bad_calls(variant: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _layer(variant)(arguments.pop("x", _x()), **arguments)


def test_extend_refuses_another_batch() -> None:
    layer = _layer(position=make_position("rope"))
    with pytest.raises(ValueError, match=r"cache was made for batch 3; got x of shape \(2, 11, 36\)"):
        layer.extend(layer.init_cache(3, LENGTH), _x())
