"""What stands around attention: each part against its equation, and all of them decoded, masked, padded and counted."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.conformance.layers import compare_padding, decode
from attention_variants.heads import head_sizes
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.module import MultiHeadAttention
from attention_variants.positions import make_position
from attention_variants.registry import VARIANTS, make_variant
from attention_variants.surroundings import Convolution, OutputGate, OutputNorm, Readings, Skip, TokenShift
from tests.attention_variants.conformance.broken_variants import reads_ahead

BATCH, LENGTH, MODEL_DIM, HEADS, KV_HEADS = 2, 13, 24, 6, 3

# Together they have every option.
OPTIONS = {
    "rwkv6": make_variant("rwkv6").paper_layer,
    "kimi": dataclasses.replace(make_variant("kimi_delta").paper_layer, qk_norm=True),
    "mamba": make_variant("state_space").paper_layer,
    "rest": LayerOptions(
        short_conv=2,
        token_shift="lerp",
        key_expansion=0.5,
        qkv_conv=2,
        conv_residual=True,
        skip=3,
        output_gate="sigmoid",
        gate_per_head=True,
        output_scale=0.7,
    ),
}
FAMILIES = {
    "static pattern": "sliding_window:window_size=5",
    "chosen": "topk:num_keys=4",
    "modified softmax": "forgetting:block_size=4",
    "recurrence": "gated_linear:chunk_size=4",
    "delta rule": "gated_delta_product:chunk_size=4",
}
QUICK = ("delta rule", "rest")  # runs in the quick part, too
CROSSED = [
    pytest.param(family, options, marks=() if (family, options) == QUICK else pytest.mark.slow)
    for family in FAMILIES
    for options in OPTIONS
]


def make_layer(spec: str, options: str | None = None, seed: int = 0, **more: Any) -> MultiHeadAttention:
    return MultiHeadAttention(
        make_variant(spec),
        MODEL_DIM,
        HEADS,
        num_kv_heads=KV_HEADS,
        options=OPTIONS[options] if options else LayerOptions(**more),
        rngs=nnx.Rngs(params=seed, controls=seed + 100),
    )


def make_x(length: int = LENGTH, seed: int = 1) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (BATCH, length, MODEL_DIM))


def test_every_option_is_used_by_some_row() -> None:
    used = {item.partition("=")[0] for row in OPTIONS.values() for item in row.text().split(",")}
    assert used == {field.name for field in dataclasses.fields(LayerOptions)}


@pytest.mark.parametrize(("family", "options"), CROSSED)
def test_padding_and_decoding_equal_the_parallel_call(family: str, options: str) -> None:
    layer, x = make_layer(FAMILIES[family], options), make_x()
    whole = compare_padding(layer, x, causal=True)
    np.testing.assert_allclose(decode(layer, x), whole, atol=3e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("spec", ["nystrom:num_landmarks=3", "sliding_window:window_size=5"])
def test_padding_equals_truncation_in_both_directions(spec: str, options: str) -> None:
    """A convolution carries tokens into the padding behind them, where a centred skip must not find them."""
    compare_padding(make_layer(spec, options), make_x(), causal=False)


def reached(layer: MultiHeadAttention) -> list[bool]:
    """Returns which inputs move output 6."""
    gradient = jax.jit(jax.grad(lambda x: jnp.square(layer(x)[:, 6]).sum()))(make_x())
    return (np.abs(gradient).max((0, 2)) > 0).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_no_part_reads_the_future(options: str) -> None:
    assert reached(make_layer("full:block_size=4", options)) == [place <= 6 for place in range(LENGTH)]


@pytest.mark.slow
@pytest.mark.parametrize("part", [TokenShift, Convolution, OutputGate])
def test_a_part_that_reads_ahead_is_noticed(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads_ahead(part)(monkeypatch)
    assert reached(make_layer("full:block_size=4", "rwkv6" if part is TokenShift else "kimi"))[7]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_everything_is_learned_and_keeps_its_dtype(options: str) -> None:
    layer = make_layer("retention:chunk_size=4", options)
    if options == "rwkv6":  # at A = 0 nothing reaches B
        layer.token_shift.down[...] = jax.random.normal(jax.random.key(3), layer.token_shift.down.shape)
    graph, params = nnx.split(layer)
    gradient = jax.jit(jax.grad(lambda p: jnp.square(nnx.merge(graph, p)(make_x())).sum()))(params)
    assert [path for path, leaf in jax.tree_util.tree_leaves_with_path(gradient) if not leaf.any()] == []
    with jax.numpy_dtype_promotion("strict"):
        cache = layer.init_cache(BATCH, LENGTH, jnp.bfloat16)
        out, cache = jax.jit(layer.extend)(cache, make_x().astype(jnp.bfloat16))
    assert out.dtype == jnp.bfloat16 and all(past.dtype == jnp.bfloat16 for past in cache.pasts)


def test_options_move_no_projection_and_no_control() -> None:
    """Their parameters come from the controls' key by a path of their own."""
    plain = make_layer("gated_delta")
    for options in ("rwkv6", "kimi"):
        rich = make_layer("gated_delta", options)
        for name in ("query", "key", "value", "output", "controls"):
            one, other = (nnx.state(getattr(layer, name)) for layer in (plain, rich))
            jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["softmax_sink", "differential", "hedgehog", "taylor"])
def test_controls_that_do_not_read_x_serve_a_context(spec: str) -> None:
    """As many queries as keys, or not: what the controls were made from does not matter."""
    layer, context = make_layer(spec, "kimi"), make_x(seed=2)
    out = jax.jit(functools.partial(layer, causal=False))(make_x(5), context=context)
    assert out.shape == (BATCH, 5, MODEL_DIM)
    mask = jnp.broadcast_to(jnp.arange(LENGTH) < 8, (BATCH, LENGTH))
    masked = layer(make_x(5), context=context.at[:, 8:].set(jnp.nan), causal=False, key_mask=mask)
    np.testing.assert_allclose(masked, layer(make_x(5), context=context[:, :8], causal=False), atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
def test_keys_and_values_of_a_context_do_not_depend_on_the_queries(options: str) -> None:
    """Nothing that looks back, as a token shift does, finds the queries before the first token of the context."""
    layer, context = make_layer("full", **{**dataclasses.asdict(OPTIONS[options]), "skip": 0}), make_x(seed=2)
    key, value = (
        [getattr(layer.prepare(x, context=context, causal=False), name) for x in (make_x(5), make_x(3, seed=4))]
        for name in ("key", "value")
    )
    np.testing.assert_array_equal(*key)
    np.testing.assert_array_equal(*value)


def test_a_skip_has_no_place_in_attention_to_a_context() -> None:
    with pytest.raises(NotImplementedError, match="`skip` adds a token's own value"):
        make_layer("full", skip=1)(make_x(5), context=make_x(), causal=False)


def test_a_token_shift_is_its_equation() -> None:
    x, rngs = np.asarray(make_x(), np.float64), nnx.Rngs(0)
    shift = TokenShift(MODEL_DIM, True, rngs)
    shift.down[...] = jax.random.normal(jax.random.key(3), shift.down.shape) / 5
    readings, last = shift(jnp.asarray(x, jnp.float32), jnp.zeros((BATCH, 1, MODEL_DIM)))
    change = np.concatenate([np.zeros((BATCH, 1, MODEL_DIM)), x[:, :-1]], 1) - x
    inner = np.tanh(np.einsum("bld,dnr->blnr", x + change * np.asarray(shift.share), np.asarray(shift.down)))
    shares = np.asarray(shift.shares) + np.einsum("blnr,nrd->blnd", inner, np.asarray(shift.up))
    for place, reading in enumerate(readings):
        np.testing.assert_allclose(reading, x + change * shares[:, :, place], atol=1e-5)
    np.testing.assert_array_equal(last, np.float32(x[:, -1:]))
    ramp = np.arange(MODEL_DIM) / MODEL_DIM
    for name, power in {"query": 0.5, "key": 1, "value": 1, "controls": 1, "gate": 0.5}.items():
        np.testing.assert_allclose(shift.shares[Readings._fields.index(name)], 1 - ramp**power, atol=1e-6)


def test_a_new_token_shift_is_the_same_with_and_without_content() -> None:
    """A is 0 at first."""
    past = jnp.zeros((BATCH, 1, MODEL_DIM))
    lerp, ddlerp = (TokenShift(MODEL_DIM, by_content, nnx.Rngs(0))(make_x(), past)[0] for by_content in (False, True))
    jax.tree.map(np.testing.assert_array_equal, lerp, ddlerp)


@pytest.mark.parametrize(("kind", "axes"), [("head", (-1,)), ("all", (-2, -1)), ("group", (-1,))])
def test_a_norm_is_its_equation(kind: str, axes: tuple[int, ...]) -> None:
    out = 3 + 5 * np.random.RandomState(0).standard_normal((2, 5, 3, 7))
    norm = OutputNorm(kind, 3, 7)
    norm.scale[...] = jnp.asarray(np.random.RandomState(1).standard_normal(norm.scale.shape), jnp.float32)
    expected = out - out.mean(-1, keepdims=True) if kind == "group" else out
    expected = expected / np.sqrt(np.square(expected).mean(axes, keepdims=True)) * np.asarray(norm.scale)
    np.testing.assert_allclose(norm(jnp.asarray(out, jnp.float32)), expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_a_skip_is_a_convolution_of_the_values(causal: bool) -> None:
    value = np.random.RandomState(0).standard_normal((2, 9, 3, 5))
    skip = Skip(3, 3, nnx.Rngs(0))
    taps, after = np.asarray(skip.taps), 0 if causal else 1
    expected = np.zeros_like(value)
    for place in range(9):
        for tap in range(3):
            source = place + after - 2 + tap
            if 0 <= source < 9:
                expected[:, place] += taps[tap][:, None] * value[:, source]
    value = jnp.asarray(value, jnp.float32)
    out, _ = skip(jnp.ones_like(value), value, jnp.zeros((2, 2, 15)), causal)
    np.testing.assert_allclose(out - 1, expected, atol=1e-5)


def test_one_tap_of_a_skip_starts_as_the_values_themselves() -> None:
    value = jnp.asarray(np.random.RandomState(0).standard_normal((2, 9, 3, 5)), jnp.float32)
    np.testing.assert_array_equal(Skip(1, 3, nnx.Rngs(0))(0 * value, value, jnp.zeros((2, 0, 15)), True)[0], value)


@pytest.mark.parametrize(
    "after",
    [pytest.param(True, marks=pytest.mark.slow, id="norm after gate"), pytest.param(False, id="norm before gate")],
)
def test_the_layer_puts_its_parts_in_order(after: bool) -> None:
    options = dict(skip=1, output_gate="silu", output_norm="head", norm_after_gate=after, output_scale=0.7)
    layer, x = make_layer("full", **options), make_x()
    seen: dict[str, Any] = {}
    attend = type(layer.variant).__call__

    def watch(self: Any, query: Any, key: Any, value: Any, **given: Any) -> Any:
        seen.update(out=attend(self, query, key, value, **given), value=value)
        return seen["out"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(layer.variant), "__call__", watch)
        out = layer(x)
    inner = seen["out"] + jnp.repeat(seen["value"], 2, axis=2)
    gate = jax.nn.silu((x @ layer.gate.up.kernel[...]).reshape(BATCH, LENGTH, HEADS, -1))
    inner = layer.norm(inner * gate) if after else layer.norm(inner) * gate
    expected = 0.7 * inner.reshape(BATCH, LENGTH, -1) @ layer.output.kernel[...]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_silu_and_residuals_act_where_they_say() -> None:
    x = make_x()
    layer = make_layer("full", qkv_conv=3, conv_residual=True, conv_silu=True, value_silu=True)
    pasts = layer._no_pasts(BATCH, jnp.float32)
    query, key, value, _ = layer._project(*layer._read(x, pasts)[:1] * 2, jnp.arange(LENGTH), pasts)
    for got, linear, conv, silus in (
        (query, layer.query, layer.query_conv, 1),
        (key, layer.key, layer.key_conv, 1),
        (value, layer.value, layer.value_conv, 2),
    ):
        plain = x @ linear.kernel[...]
        padded = jnp.pad(plain, ((0, 0), (2, 0), (0, 0)))
        expected = plain + sum(padded[:, tap : tap + LENGTH] * conv.taps[...][tap][None, None] for tap in range(3))
        for _ in range(silus):
            expected = jax.nn.silu(expected)
        np.testing.assert_allclose(got.reshape(BATCH, LENGTH, -1), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", ["kimi", "rest"])
def test_further_keys_and_values_get_what_the_first_get(options: str) -> None:
    """With the first projections and convolutions in place of their own, they are the first key and value."""
    position = make_position("rope")
    layer = MultiHeadAttention(
        make_variant("delta_product:num_steps=3"),
        MODEL_DIM,
        HEADS,
        num_kv_heads=KV_HEADS,
        value_dim=10,
        position=position,
        options=dataclasses.replace(OPTIONS[options], token_shift="none", short_conv=0),
        rngs=nnx.Rngs(params=0, controls=1),
    )
    steps: Any = layer.controls
    for linear, further, conv, own in (
        (layer.key, steps.keys, layer.key_conv, layer.further_key_conv),
        (layer.value, steps.values, layer.value_conv, layer.further_value_conv),
    ):
        kernel = linear.kernel[...].reshape(MODEL_DIM, KV_HEADS, 1, -1)
        further.kernel[...] = jnp.tile(kernel, (1, 1, 2, 1))
        taps = conv.taps[...].reshape(-1, KV_HEADS, 1, kernel.shape[3])
        own.taps[...] = jnp.tile(taps, (1, 1, 2, 1)).reshape(own.taps.shape)
    pasts, positions = layer._no_pasts(BATCH, jnp.float32), jnp.arange(LENGTH)
    readings, pasts = layer._read(make_x(), pasts)
    _, key, value, pasts = layer._project(readings, readings, positions, pasts)
    controls, pasts = layer._control(readings, positions, pasts)
    for step in range(2):
        np.testing.assert_allclose(controls.further_keys[:, :, :, step], key, atol=1e-6)
        np.testing.assert_allclose(controls.further_values[:, :, :, step], value, atol=1e-6)
    np.testing.assert_allclose(
        pasts.further_key_conv.reshape(BATCH, -1, KV_HEADS, 2, key.shape[3])[:, :, :, 1],
        pasts.key_conv.reshape(BATCH, -1, KV_HEADS, key.shape[3]),
        atol=1e-6,
    )


def test_shared_queries_and_keys_are_those_of_one_head() -> None:
    layer = make_layer("full", "mamba")
    assert (layer.query.out_features, layer.key.out_features, layer.value.out_features) == (4, 4, 24)
    pasts = layer._no_pasts(BATCH, jnp.float32)
    query, key, value, _ = layer._project(*layer._read(make_x(), pasts)[:1] * 2, jnp.arange(LENGTH), pasts)
    assert (query.shape[2:], key.shape[2:], value.shape[2:]) == ((6, 4), (3, 4), (3, 8))
    np.testing.assert_array_equal(query, jnp.repeat(query[:, :, :1], 6, axis=2))


@pytest.mark.parametrize(
    ("given", "heads"),
    [
        ({}, (6, 3, 4, 4)),
        ({"head_dim": 7}, (6, 3, 7, 7)),
        ({"value_dim": 7}, (6, 3, 4, 7)),
        ({"head_dim": 5, "value_dim": 7}, (6, 3, 5, 7)),
        ({"options": LayerOptions(key_expansion=0.5, value_expansion=2.0)}, (6, 3, 2, 8)),
        ({"options": LayerOptions(value_expansion=2.0), "head_dim": 5}, (6, 3, 5, 5)),
        (
            {"options": LayerOptions(value_expansion=0.14), "model_dim": 300},
            (6, 3, 50, 7),
        ),  # 42.00000000000001 in floats
    ],
)
def test_widths_of_heads(given: dict[str, Any], heads: tuple[int, ...]) -> None:
    assert head_sizes(**{"model_dim": 24, "num_heads": 6, "num_kv_heads": 3, **given}) == HeadSizes(*heads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_conv": -1}, "`short_conv` must be an integer >= 0; got -1"),
        ({"token_shift": "lerpp"}, "`token_shift` must be one of ddlerp, lerp, none; got 'lerpp'"),
        ({"output_norm": True}, "`output_norm` must be one of all, group, head, none; got True"),
        ({"output_gate": "relu"}, "`output_gate` must be one of none, sigmoid, silu; got 'relu'"),
        ({"value_expansion": 0.0}, r"`value_expansion` must be a number in \[0.001, 1000.0\]; got 0.0"),
        ({"conv_silu": True}, "`conv_silu` needs `qkv_conv`, which is off"),
        ({"conv_residual": True}, "`conv_residual` needs `short_conv` or `qkv_conv`, which is off"),
        ({"gate_per_head": True}, "`gate_per_head` needs `output_gate`, which is off"),
        ({"gate_low_rank": True}, "`gate_low_rank` needs `output_gate`, which is off"),
        ({"norm_after_gate": True, "output_gate": "silu"}, "needs `output_gate` and `output_norm`, which is off"),
        (
            {"gate_low_rank": True, "gate_per_head": True, "output_gate": "silu"},
            "`gate_low_rank` is of gates per channel; got `gate_per_head` too",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerOptions(**options)


def test_differential_grows_its_share_with_depth() -> None:
    """Ye et al. 2024, section 2.1; a share that was asked for stays."""
    variant = make_variant("differential")
    shares = [variant.at_depth(depth).initial_share for depth in (0, 1, 9)]
    np.testing.assert_allclose(shares, [0.2, 0.8 - 0.6 * np.exp(-0.3), 0.8 - 0.6 * np.exp(-2.7)])
    assert variant.at_depth(0).paper_layer.output_scale == pytest.approx(0.8)
    assert make_variant("differential:initial_share=0.3").at_depth(5).initial_share == 0.3
    assert make_variant("differential:initial_share=0.999").paper_layer.output_scale == pytest.approx(0.001)
    with pytest.raises(ValueError, match=r"`initial_share` must be a number in \[0.0, 0.999\]; got 1"):
        make_variant("differential:initial_share=1")


def test_presets_are_those_of_the_papers() -> None:
    """PAPERS: Sun 2023, Yang 2023, Dao and Gu 2024, Peng 2024, Yang 2024, Kimi 2025, Ye 2024, Ramapuram 2024 ..."""
    found = {name: kind().paper_layer for name, kind in VARIANTS.items()}
    assert {name for name, options in found.items() if options != LayerOptions()} == {
        *("retention", "gated_linear", "state_space", "rwkv6"),
        *("delta", "gated_delta", "kimi_delta", "delta_product", "gated_delta_product"),
        *("forgetting", "differential", "sigmoid", "hedgehog", "nystrom"),
    }
    assert {name for name, kind in VARIANTS.items() if kind.paper_position != "none"} == {"retention"}
