"""The checks of the contract: what is wrong is named, what is unsupported is refused, and the shared pieces hold."""

import dataclasses
import functools
import pickle
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from attention_variants.conformance.cases import CASES
from attention_variants.conformance.inputs import make_arguments
from attention_variants.interface import AttentionVariant, HeadSizes
from attention_variants.registry import VARIANTS, make_variant
from tests.attention_variants.learned_decay import LearnedDecayAttention

BATCH, LENGTH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 7, 6, 3, 5, 4
SIZES = HeadSizes(HEADS, KV_HEADS, DIM, VALUE_DIM)
FULL = make_variant("full")
VALID = {
    "query": jnp.ones((BATCH, LENGTH, HEADS, DIM)),
    "key": jnp.ones((BATCH, LENGTH, KV_HEADS, DIM)),
    "value": jnp.ones((BATCH, LENGTH, KV_HEADS, VALUE_DIM)),
}


@functools.cache
def valid(variant: AttentionVariant) -> dict[str, Any]:
    """Returns arguments with the variant's controls, if it has any."""
    module = variant.make_controls(11, SIZES, rngs=nnx.Rngs(0))
    return VALID if module is None else VALID | {"controls": module(jnp.ones((BATCH, LENGTH, 11)))}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"query": jnp.ones((7, 6, 5))}, ValueError, "`query` must be non-empty [batch, query_length, num_heads, head"),
        ({"query": jnp.ones((0, 7, 6, 5))}, ValueError, "got (0, 7, 6, 5)"),
        ({"key": jnp.ones((2, 7, 3, 4))}, ValueError, "`value` must be|`key` must have the head_dim of `query`"),
        ({"key": jnp.ones((3, 7, 3, 5))}, ValueError, "`key` must be [batch, key_length, num_kv_heads, dim] with the"),
        ({"key": jnp.ones((2, 7, 15))}, ValueError, "got (2, 7, 15)"),
        ({"value": jnp.ones((2, 6, 3, 5))}, ValueError, "`value` must be"),
        ({"value": jnp.ones((2, 7, 2, 5))}, ValueError, "`value` must be"),
        ({"query": jnp.ones((2, 7, 4, 5))}, ValueError, "num_kv_heads must divide num_heads; got 3 and 4."),
        ({"query": jnp.ones((2, 7, 6, 5), int)}, ValueError, "must be floating; got int32 and float32."),
        ({"value": jnp.ones((2, 7, 3, 5), bool)}, ValueError, "must be floating; got float32 and bool."),
        ({"key_mask": jnp.ones((2, 6), bool)}, ValueError, "`key_mask` must be [batch, key_length] (2, 7); got (2, 6)"),
        ({"key_mask": jnp.ones((2, 7))}, ValueError, "`key_mask` must be boolean, True = may be attended; got dtype"),
        ({"query": jnp.ones((2, 6, 6, 5))}, ValueError, "causal attention needs equal lengths; got query_length 6 and"),
        ({"controls": jnp.ones((2, 7, 3))}, NotImplementedError, "implementation='auto') has no controls; got "),
    ],
)
def test_wrong_argument_is_named(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        FULL(**(VALID | changed))
    assert any(part in str(caught.value) for part in message.split("|"))
    if "value" not in changed:
        arguments = {name: argument for name, argument in (VALID | changed).items() if name != "value"}
        with pytest.raises(error):
            FULL.dense_weights(**arguments)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", VARIANTS)
def test_output_has_the_dtype_of_the_value(name: str, dtype: Any) -> None:
    variant = make_variant(name)
    arguments = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), valid(variant))
    out = jax.eval_shape(lambda a: variant(**a, causal=variant.supports_causal), arguments)
    assert (out.shape, out.dtype) == ((BATCH, LENGTH, HEADS, VALUE_DIM), dtype)


@pytest.mark.parametrize(
    ("attribute", "options", "message"),
    [
        ("supports_causal", {"causal": True}, "Limited does not support causal=True."),
        ("supports_bidirectional", {"causal": False}, "Limited does not support causal=False."),
        ("supports_bias", {"bias": object()}, "Limited does not support an additive position bias."),
        ("supports_cross", {"causal": False, "query": VALID["query"][:, :4]}, "Limited does not support cross-att"),
    ],
)
def test_what_is_unsupported_is_refused(attribute: str, options: dict[str, Any], message: str) -> None:
    limited = type("Limited", (type(FULL),), {attribute: False})()
    with pytest.raises(NotImplementedError, match=message):
        limited(**VALID | options)


CONTROLLED = [name for name in VARIANTS if make_variant(name).has_controls]


@pytest.mark.parametrize("name", CONTROLLED)
def test_controls_are_checked_once_for_all(name: str) -> None:
    variant = make_variant(name)
    causal, expected = variant.supports_causal, variant.controls_type.__name__
    for given, got in ((None, "NoneType"), (VALID["key"], "Array"), ({"gates": VALID["key"]}, "dict")):
        with pytest.raises(
            ValueError, match=f"needs `controls`, the {expected} that the module .* got {got}|ArrayImpl"
        ):
            variant(**VALID | {"controls": given}, causal=causal)
    controls = make_arguments(variant, LENGTH, batch=BATCH).controls
    for short in (lambda leaf: jnp.ones((5, *leaf.shape[1:])), lambda leaf: jnp.ones((BATCH, 4, *leaf.shape[2:]))):
        with pytest.raises(ValueError, match=r"must begin with \[batch 2 or 1, length 7 or 1\]; one has the shape \("):
            variant(**VALID | {"controls": jax.tree.map(short, controls)}, causal=causal)
    with pytest.raises(ValueError, match="must begin with .* shape \\(\\)"):
        variant(**VALID | {"controls": jax.tree.map(jnp.sum, controls)}, causal=causal)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in CONTROLLED])
def test_a_variant_without_controls_refuses_any(name: str) -> None:
    variant = make_variant(name)
    with pytest.raises(NotImplementedError, match=r"Attention\(.*\) has no controls; got "):
        variant(**VALID | {"controls": VALID["key"]}, causal=variant.supports_causal)


def test_controls_left_out_are_named() -> None:
    variant = LearnedDecayAttention()
    cache = variant.init_cache(BATCH, LENGTH, SIZES, jnp.float32)
    for run in (lambda: variant(**VALID), lambda: variant.extend(cache, **VALID)):
        with pytest.raises(
            ValueError, match="LearnedDecayAttention needs `controls`, the .*Array that .* got NoneType"
        ):
            run()


@pytest.mark.parametrize("name", [name for name, kind in VARIANTS.items() if kind.supports_causal])
def test_a_full_cache_raises_and_names_its_size(name: str) -> None:
    variant = make_variant(name)
    cache = variant.init_cache(BATCH, LENGTH - 1, SIZES, jnp.float32)
    with pytest.raises(ValueError, match="made for 6 tokens and holds 0; cannot extend it by 7"):
        variant.extend(cache, **valid(variant))


@pytest.mark.parametrize("name", [name for name, kind in VARIANTS.items() if not kind.supports_causal])
def test_what_is_never_causal_has_no_cache(name: str) -> None:
    with pytest.raises(NotImplementedError):
        make_variant(name).init_cache(BATCH, LENGTH, SIZES, jnp.float32)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_frozen_keyword_only_and_described(name: str) -> None:
    variant = VARIANTS[name]()
    assert pickle.loads(pickle.dumps(variant)) == variant
    assert all(field.kw_only for field in dataclasses.fields(variant))
    assert all(isinstance(getattr(variant, text), str) for text in ("family", "cost_order", "state_order", "paper"))
    assert "References:" in type(variant).__doc__
    with pytest.raises(dataclasses.FrozenInstanceError):
        variant.family = "other"


def test_the_contract_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        AttentionVariant()


@pytest.mark.parametrize("name", ["full", "sliding_window:window_size=3", "linear"])
@pytest.mark.parametrize(
    ("batch", "other"), [(3, {}), (2, {"num_kv_heads": 1}), (2, {"head_dim": 4}), (2, {"value_dim": 5})]
)
def test_a_cache_of_another_shape_is_refused(name: str, batch: int, other: dict[str, int]) -> None:
    variant = make_variant(name)
    cache = variant.init_cache(batch, LENGTH, SIZES._replace(**other), jnp.float32)
    with pytest.raises(ValueError, match=re.escape(f"must come from `init_cache` for batch 2 and {SIZES}; its `")):
        variant.extend(cache, **VALID)


@pytest.mark.parametrize("value_dim", [2, 11])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.variant.supports_causal])
def test_the_state_is_as_large_as_the_cost_says(name: str, value_dim: int) -> None:
    variant, heads = CASES[name].variant, SIZES._replace(value_dim=value_dim)
    cache = jax.eval_shape(lambda: variant.init_cache(1, LENGTH, heads, jnp.float32))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache) if leaf.ndim)
    assert variant.cost(LENGTH, LENGTH, heads, True).cache_bytes == held


def test_values_twice_as_wide_have_twice_the_memory() -> None:
    variant, narrow, wide = make_variant("linear"), HeadSizes(4, 2, 32, 32), HeadSizes(4, 2, 32, 64)
    memory, twice = (variant.init_cache(1, LENGTH, heads, jnp.float32).memory for heads in (narrow, wide))
    assert twice.nbytes == 2 * memory.nbytes
    normaliser = 4 * 2 * 32
    held, held_wide = (variant.cost(LENGTH, LENGTH, heads, True).cache_bytes for heads in (narrow, wide))
    assert held_wide - normaliser == 2 * (held - normaliser) == twice.nbytes


@pytest.mark.parametrize("name", ["batch", "max_length", *HeadSizes._fields])
def test_a_size_of_a_cache_that_is_not_positive_is_named(name: str) -> None:
    sizes = {"batch": BATCH, "max_length": LENGTH} | SIZES._asdict() | {name: 0}
    batch, max_length = sizes.pop("batch"), sizes.pop("max_length")
    with pytest.raises(ValueError, match=f"`{name}` must be an integer >= 1; got 0"):
        FULL.init_cache(batch, max_length, HeadSizes(**sizes), jnp.float32)
