"""The Flax adapter against Flax's own attention, NNX and Linen, with every mask that Flax makes."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from attention_variants.flax_adapter import AttentionFn, attention_fn
from attention_variants.registry import make_variant

BATCH, LENGTH, HEADS, FEATURES = 3, 13, 2, 10
FULL = make_variant("full")
WINDOW = make_variant("sliding_window:window_size=5")
VALID = np.arange(LENGTH) < np.array([LENGTH, 9, 4])[:, None]  # right padding


def _x(length: int = LENGTH, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (BATCH, length, FEATURES))


def _nnx(**options: Any) -> Callable[..., jax.Array]:
    return nnx.MultiHeadAttention(HEADS, FEATURES, decode=False, rngs=nnx.Rngs(1), **options)


def _linen(**options: Any) -> Callable[..., jax.Array]:
    layer = linen.MultiHeadDotProductAttention(HEADS, **options)
    variables = linen.MultiHeadDotProductAttention(HEADS).init(jax.random.key(1), _x())
    return lambda *inputs, **arguments: layer.apply(variables, *inputs, **arguments)


APIS = {"nnx": _nnx, "linen": _linen}
ONE_QUICK = [pytest.param("nnx", marks=pytest.mark.slow), "linen"]

# name -> (mask from x, is it causal)
MASKS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "none": (lambda api: None, False),
    "causal": (lambda api: api.make_causal_mask(np.ones((BATCH, LENGTH))), True),
    "causal_one_row": (lambda api: api.make_causal_mask(np.ones((1, LENGTH))), True),
    "causal_bool": (lambda api: api.make_causal_mask(np.ones((BATCH, LENGTH)), dtype=bool), True),
    "padding": (lambda api: api.make_attention_mask(VALID, VALID), False),
    "padded_keys": (lambda api: api.make_attention_mask(np.ones_like(VALID), VALID), False),
    "padded_keys_short": (lambda api: jnp.asarray(VALID)[:, None, None, :], False),
    "padded_queries": (lambda api: api.make_attention_mask(VALID, np.ones_like(VALID)), False),
    "left_padding": (lambda api: api.make_attention_mask(VALID[:, ::-1], VALID[:, ::-1]), False),
    "causal_padding": (
        lambda api: api.combine_masks(
            api.make_causal_mask(np.ones((BATCH, LENGTH))), api.make_attention_mask(VALID, VALID)
        ),
        True,
    ),
    "causal_left_padding": (
        lambda api: api.combine_masks(
            api.make_causal_mask(np.ones((BATCH, LENGTH))),
            api.make_attention_mask(VALID[:, ::-1], VALID[:, ::-1], dtype=bool),
            dtype=bool,
        ),
        True,
    ),
    "every_head": (
        lambda api: jnp.broadcast_to(api.make_causal_mask(np.ones((BATCH, LENGTH))), (BATCH, HEADS, LENGTH, LENGTH)),
        True,
    ),
}
MODULES = {"nnx": nnx, "linen": linen}


def _rows_with_a_key(mask: Any) -> np.ndarray:
    """Flax gives mean(value) to a query without keys; we give 0. All other rows must agree."""
    if mask is None:
        return np.ones((BATCH, LENGTH), bool)
    return np.broadcast_to(np.asarray(mask, bool).any((1, 3)), (BATCH, LENGTH))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("api", "name"),
    [("nnx", name) for name in MASKS] + [("linen", name) for name in ("none", "causal", "padding", "causal_padding")],
)
def test_equals_flax(api: str, name: str) -> None:
    """Eagerly with nothing declared, under jit with the kind declared."""
    make, causal = MASKS[name]
    mask = make(MODULES[api])
    rows = _rows_with_a_key(mask)
    expected = np.where(rows[:, :, None], APIS[api]()(_x(), mask=mask), 0.0)
    eager = APIS[api](attention_fn=attention_fn(FULL))(_x(), mask=mask)
    jitted = jax.jit(APIS[api](attention_fn=attention_fn(FULL, causal=causal)))(_x(), mask=mask)
    for out in (eager, jitted):
        assert np.isfinite(out).all()
        np.testing.assert_allclose(out * rows[:, :, None], expected, atol=1e-5)


@pytest.mark.parametrize(("api", "name"), [("nnx", "causal_padding"), ("linen", "padding")])
def test_gradients_equal_flax(api: str, name: str) -> None:
    make, causal = MASKS[name]
    mask, rows = make(MODULES[api]), jnp.asarray(VALID)[:, :, None]

    def gradient(layer: Callable[..., jax.Array]) -> jax.Array:
        return jax.jit(jax.grad(lambda x, mask: jnp.square(layer(x, mask=mask) * rows).sum()))(_x(), mask)

    ours = gradient(APIS[api](attention_fn=attention_fn(FULL, causal=causal)))
    np.testing.assert_allclose(ours, gradient(APIS[api]()), atol=2e-5)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("causal", [pytest.param(True, marks=pytest.mark.slow), False])
def test_window_equals_flax_with_a_dense_mask(api: str, causal: bool) -> None:
    band = WINDOW.pattern(LENGTH, LENGTH, causal)[None, None]
    padding = MODULES[api].make_attention_mask(np.ones_like(VALID), VALID)
    given = MODULES[api].combine_masks(np.tri(LENGTH)[None, None] if causal else None, padding)
    dense = MODULES[api].combine_masks(band, padding)
    rows = _rows_with_a_key(dense)[:, :, None]
    ours = APIS[api](attention_fn=attention_fn(WINDOW))(_x(), mask=given)
    np.testing.assert_allclose(ours * rows, APIS[api]()(_x(), mask=dense) * rows, atol=1e-5)
    assert not np.allclose(ours * rows, APIS[api]()(_x(), mask=given) * rows, atol=1e-2)


@pytest.mark.parametrize("api", ONE_QUICK)
def test_cross_attention_equals_flax(api: str) -> None:
    context, mask = _x(7, seed=3), jnp.asarray(VALID[:, None, None, 2:9])
    ours, theirs = APIS[api](attention_fn=attention_fn(FULL)), APIS[api]()
    np.testing.assert_allclose(ours(_x(), context), theirs(_x(), context), atol=1e-5)
    np.testing.assert_allclose(ours(_x(), context, mask=mask), theirs(_x(), context, mask=mask), atol=1e-5)


def test_is_causal_and_declared_causal() -> None:
    expected = _nnx()(_x(), is_causal=True)
    np.testing.assert_allclose(_nnx(attention_fn=attention_fn(FULL))(_x(), is_causal=True), expected, atol=1e-5)
    declared = _nnx(attention_fn=attention_fn(FULL, causal=True))
    np.testing.assert_allclose(declared(_x()), expected, atol=1e-5)
    padding = nnx.make_attention_mask(np.ones_like(VALID), VALID)
    both = _nnx()(_x(), mask=padding, is_causal=True)
    np.testing.assert_allclose(declared(_x(), mask=padding), both, atol=1e-5)
    undeclared = _nnx(attention_fn=attention_fn(FULL))
    np.testing.assert_allclose(
        jax.jit(lambda x, m: undeclared(x, mask=m, is_causal=True))(_x(), padding), both, atol=1e-5
    )
    with pytest.raises(ValueError, match="is_causal=True contradicts"):
        _nnx(attention_fn=attention_fn(FULL, causal=False))(_x(), is_causal=True)


@pytest.mark.parametrize("api", ONE_QUICK)
def test_fully_masked_queries_give_zero(api: str) -> None:
    """Before the output projection, so seen through the function itself."""
    query = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, HEADS, 5))
    mask = MODULES[api].make_attention_mask(VALID, VALID)
    out = attention_fn(FULL)(query, query, query, mask=mask)
    np.testing.assert_array_equal(np.abs(out).max((2, 3)) == 0, ~VALID)
    poisoned = jnp.where(VALID[:, :, None, None], query, jnp.nan)

    def loss(q: jax.Array) -> jax.Array:
        return jnp.square(attention_fn(FULL)(q, q, q, mask=mask)).sum()

    assert np.isfinite(loss(poisoned)) and np.isfinite(jax.grad(loss)(poisoned)).all()


@pytest.mark.slow
def test_grouped_heads_and_any_batch_axes() -> None:
    query = jax.random.normal(jax.random.key(0), (2, 3, LENGTH, 4, 5))
    key, value = jax.random.normal(jax.random.key(1), (2, 2, 3, LENGTH, 2, 5))
    mask = jnp.broadcast_to(nnx.make_causal_mask(np.ones((3, LENGTH))), (2, 3, 1, LENGTH, LENGTH))
    expected = nnx.dot_product_attention(query, key, value, mask=mask)
    np.testing.assert_allclose(attention_fn(FULL)(query, key, value, mask=mask), expected, atol=1e-5)
    one = attention_fn(FULL)(query[0, 0], key[0, 0], value[0, 0], is_causal=True)
    np.testing.assert_allclose(one, expected[0, 0], atol=1e-5)


def _mask(kind: str) -> Any:
    causal = np.tri(LENGTH)
    segments = np.arange(LENGTH) // 4
    return {
        "segments": (segments[:, None] == segments)[None, None],
        "causal segments": ((segments[:, None] == segments) * causal)[None, None],
        "band": WINDOW.pattern(LENGTH, LENGTH, True)[None, None],
        "strictly causal": np.tri(LENGTH, k=-1)[None, None],
        "anti-causal": causal.T[None, None],
        "one hole": np.where(np.arange(LENGTH**2).reshape(LENGTH, LENGTH) == 5 * LENGTH + 2, 0, causal)[None, None],
        "heads differ": np.stack([causal, np.ones_like(causal)])[None],
        "additive": np.where(causal, 0.0, -1e9)[None, None],
        "prefix": np.maximum(causal, np.arange(LENGTH)[None] < 3)[None, None],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "segments",
        "causal segments",
        "band",
        "strictly causal",
        "anti-causal",
        "one hole",
        "heads differ",
        "additive",
        "prefix",
    ],
)
def test_other_masks_raise_or_poison(kind: str) -> None:
    """A mask of other structure raises; where its values are traced, the rows that have it come back as NaN."""
    mask = jnp.asarray(_mask(kind), jnp.float32)
    with pytest.raises(ValueError, match="`mask` must be"):
        _nnx(attention_fn=attention_fn(FULL))(_x(), mask=mask)
    good = jnp.broadcast_to(jnp.tri(LENGTH), mask.shape)
    rows = jnp.concatenate([good, mask, good])
    declared = _nnx(attention_fn=attention_fn(FULL, causal=True))
    if kind == "prefix":  # declared causal, what the prefix adds is cut off again, as with Flax's is_causal
        np.testing.assert_allclose(declared(_x(), mask=rows), _nnx()(_x(), is_causal=True), atol=1e-5)
        return
    out = jax.jit(declared)(_x(), mask=rows)
    assert np.isnan(out).any((1, 2)).tolist() == [False, True, False]
    assert np.isnan(out[1]).all()
    with pytest.raises(ValueError, match="`mask` must be"):
        declared(_x(), mask=rows)


def test_a_traced_mask_needs_a_declaration() -> None:
    layer = _nnx(attention_fn=attention_fn(FULL))
    with pytest.raises(ValueError, match=r"not known under jit; pass attention_fn\(variant, causal=True\)"):
        jax.jit(lambda x, m: layer(x, mask=m))(_x(), nnx.make_causal_mask(_x()[:, :, 0]))
    # One axis for all queries cannot be causal: nothing to declare.
    keys = jnp.asarray(VALID)[:, None, None, :]
    np.testing.assert_allclose(jax.jit(lambda x, m: layer(x, mask=m))(_x(), keys), _nnx()(_x(), mask=keys), atol=1e-5)
    out = jax.jit(lambda x, m: layer(x, mask=m))(_x(), jnp.where(keys, 0.0, -1e9))
    assert np.isnan(out).any((1, 2)).tolist() == [False, True, True]  # zeros alone are a mask that lets nothing through


def test_causal_declared_false_refuses_a_causal_mask() -> None:
    declared, mask = (
        _nnx(attention_fn=attention_fn(FULL, causal=False)),
        nnx.make_causal_mask(jnp.ones((BATCH, LENGTH))),
    )
    with pytest.raises(ValueError, match="`mask` must be padding, for attention that is not causal"):
        declared(_x(), mask=mask)
    assert np.isnan(jax.jit(lambda x, m: declared(x, mask=m))(_x(), mask)).all()


@pytest.mark.slow
def test_an_ambiguous_mask_asks() -> None:
    first = nnx.make_attention_mask(jnp.ones((1, LENGTH)), jnp.arange(LENGTH)[None] < 1)
    with pytest.raises(ValueError, match="both a causal and a padding mask"):
        _nnx(attention_fn=attention_fn(WINDOW))(_x(), mask=first)
    one = _nnx(attention_fn=attention_fn(WINDOW))(_x(1), mask=jnp.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(one, _nnx()(_x(1)), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"mask": jnp.ones((BATCH, 1, LENGTH, LENGTH + 1))},
            r"broadcastable to \(3, 2, 13, 13\); got \(3, 1, 13, 14\)",
        ),
        ({"mask": jnp.ones((1, BATCH, 1, LENGTH, LENGTH))}, "broadcastable to"),
        ({"mask": jnp.ones((2, 1, LENGTH, LENGTH))}, "broadcastable to"),
    ],
)
def test_bad_masks(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _nnx(attention_fn=attention_fn(FULL))(_x(), **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": jnp.ones((1, 1, LENGTH, LENGTH))}, "`bias`"),
        ({"dropout_rate": 0.1}, "`dropout_rate`; got 0.1"),
        ({"precision": "highest"}, "`precision`"),
        ({"module": object()}, "`sow_weights`"),
        ({"input_positions": jnp.arange(LENGTH)}, "`input_positions`"),
        ({"qk_attn_weights_einsum": jnp.einsum}, "`qk_attn_weights_einsum`"),
    ],
)
def test_what_is_not_supported_raises(options: dict[str, Any], message: str) -> None:
    query = jnp.ones((BATCH, LENGTH, HEADS, 5))
    with pytest.raises(NotImplementedError, match=f"do not support Flax's {message}"):
        attention_fn(FULL)(query, query, query, **options)


@pytest.mark.parametrize("api", APIS)
def test_dropout_through_the_layers(api: str) -> None:
    """Refused where it would act, harmless where it is switched off."""
    layer = APIS[api](attention_fn=attention_fn(FULL), dropout_rate=0.5)
    np.testing.assert_allclose(layer(_x(), deterministic=True), APIS[api]()(_x()), atol=1e-5)
    random = {"rngs": nnx.Rngs(dropout=0)} if api == "nnx" else {"dropout_rng": jax.random.key(0)}
    with pytest.raises(NotImplementedError, match="`dropout_rate`; got 0.5"):
        layer(_x(), deterministic=False, **random)
    with pytest.raises(NotImplementedError, match="`sow_weights`"):
        layer(_x(), deterministic=True, sow_weights=True)


def test_controls_have_no_place_in_flax() -> None:
    for name in ("gated_delta", "taylor"):
        with pytest.raises(NotImplementedError, match="Attention needs controls, for which Flax's attention layers"):
            attention_fn(make_variant(name))
    assert attention_fn(make_variant("taylor:feature_dim=0")).variant.feature_dim == 0
    with pytest.raises(ValueError, match="must be an AttentionVariant"):
        attention_fn("full")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(FULL, marks=pytest.mark.slow, id="full"),
        pytest.param(make_variant("linear"), id="linear"),
        pytest.param(WINDOW, id="window"),
    ],
)
def test_flax_decoding(variant: Any) -> None:
    """Decoding equals the causal call where one query may see every key, and raises where its place matters."""
    layer = nnx.MultiHeadAttention(HEADS, FEATURES, rngs=nnx.Rngs(1), attention_fn=attention_fn(variant))
    layer.init_cache((BATCH, LENGTH, FEATURES))
    if variant == WINDOW:
        with pytest.raises(NotImplementedError, match="cannot place one query among 13 keys"):
            layer(_x()[:, :1], decode=True)
        return
    outs = jnp.concatenate([layer(_x()[:, i : i + 1], decode=True) for i in range(LENGTH)], 1)
    np.testing.assert_allclose(outs, layer(_x(), is_causal=True, decode=False), atol=1e-5)


def test_equal_functions_are_equal_and_do_not_retrace() -> None:
    traces = []
    assert attention_fn(make_variant("full")) == attention_fn(FULL)
    call = jax.jit(lambda fn, x: (traces.append(1), fn(x, x, x))[1], static_argnums=0)
    for _ in range(2):
        call(attention_fn(make_variant("full")), jnp.ones((1, 3, 1, 2)))
    assert len(traces) == 1


def test_signature_has_all_that_flax_passes() -> None:
    """Linen drops what a signature lacks; NNX passes everything. So every argument of both must be spelt out."""
    ours = set(inspect.signature(attention_fn(FULL)).parameters)
    for theirs in (nnx.dot_product_attention, linen.dot_product_attention):
        assert set(inspect.signature(theirs).parameters) - {"promote_dtype"} <= ours
    assert all(p.kind is not p.VAR_KEYWORD for p in inspect.signature(AttentionFn.__call__).parameters.values())
