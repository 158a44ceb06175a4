"""The FLOP counter against XLA's own figures, and the engines against the dots that XLA is given."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from attention_variants import cost, registry
from attention_variants.conformance.cases import CASES
from attention_variants.conformance.inputs import HEADS, call, make_arguments, modes, ones_of_output, with_gradients
from attention_variants.interface import AttentionVariant
from tests.attention_variants.learned_decay import LearnedDecayAttention
from tests.attention_variants.xla_dots import dots_given_to_xla, unroll_loops

X, W = jax.ShapeDtypeStruct((3, 5), jnp.float32), jax.ShapeDtypeStruct((5, 5), jnp.float32)


def xla_flops(function: Callable[..., Any], *args: Any) -> int:
    """XLA's figure before any optimisation; exact where there is nothing but matrix products and no loop."""
    return int(jax.jit(function).lower(*args).cost_analysis()["flops"])


def chain(x: Any, w: Any, times: int) -> Any:
    for _ in range(times):
        x = x @ w
    return x


def scanned(x: Any, w: Any) -> Any:
    return lax.scan(lambda x, _: (x @ w, None), x, length=7)[0]


def nested(x: Any, w: Any) -> Any:
    def outer(x: Any, _: None) -> tuple[Any, None]:
        inner, _ = lax.scan(lambda x, _: (x @ w, None), x @ w, length=3)
        return inner @ w, None

    return lax.scan(outer, x, length=4)[0]


def mapped(x: Any, w: Any) -> Any:
    return lax.map(lambda row: row @ w, jnp.broadcast_to(x, (6, 3, 5)))


def looped(x: Any, w: Any) -> Any:
    """Static bounds make a scan of it."""
    return lax.fori_loop(0, 9, lambda _, x: x @ w, x)


def solved(x: Any, w: Any) -> Any:
    """Solves w y = x^T: 5 x 5 with 3 right-hand sides."""
    return lax.linalg.triangular_solve(w, x.T, left_side=True, lower=True)


def branched(x: Any, w: Any) -> Any:
    return lax.cond(True, lambda x: chain(x, w, 1), lambda x: chain(x, w, 4), x)


def pulled_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function and its gradients: only matrix products for a chain of them."""

    def both(x: Any, w: Any) -> Any:
        out, pull = jax.vjp(function, x, w)
        return out, pull(out)

    return both


@jax.custom_vjp
def custom(x: Any, w: Any) -> Any:
    return chain(x, w, 2)


custom.defvjp(lambda x, w: (custom(x, w), (x, w)), lambda saved, ct: (chain(ct, saved[1], 3), saved[1]))


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (functools.partial(chain, times=3), 3),
        (jax.jit(functools.partial(chain, times=3)), 3),
        (scanned, 7),
        (nested, 4 * (1 + 3 + 1)),
        (mapped, 6),
        (looped, 9),
        (branched, 4),
        (jax.checkpoint(functools.partial(chain, times=3)), 3),
        (custom, 2),
        (pulled_back(custom), 2 + 3),
        (pulled_back(functools.partial(chain, times=3)), 3 + 2 * 3),
        (pulled_back(jax.checkpoint(functools.partial(chain, times=3))), 3 + 2 + 2 * 3),  # no one needs the last again
        (jax.vmap(functools.partial(chain, times=3), in_axes=(0, None)), 3),
    ],
)
def test_counter_counts_products(function: Callable[..., Any], products: int) -> None:
    assert cost.count_flops(function, X, W) == 150 * products


@pytest.mark.parametrize(
    ("looping", "unrolled"),
    [
        (scanned, functools.partial(chain, times=7)),
        (nested, functools.partial(chain, times=20)),
        (looped, functools.partial(chain, times=9)),
    ],
)
def test_counter_equals_xla_unrolled_where_xla_sees_a_loop_once(looping: Any, unrolled: Any) -> None:
    assert cost.count_flops(looping, X, W) == xla_flops(unrolled, X, W) > xla_flops(looping, X, W)


@pytest.mark.parametrize(
    "function",
    [
        custom,
        pulled_back(custom),
        pulled_back(lambda x, w: x @ w @ jnp.ones((5, 7))),
        lambda x, w: jnp.einsum("bhqd,bhkd->bhqk", jnp.ones((2, 3, 7, 5)) @ w, jnp.ones((2, 3, 11, 5)) @ w),
        lambda x, w: lax.dot_general(x, w, (((), ()), ((), ()))),  # an outer product
        lambda x, w: lax.conv_general_dilated(jnp.ones((2, 6, 13)), jnp.ones((4, 6, 3)), (1,), "VALID"),
        lambda x, w: lax.conv_general_dilated(jnp.ones((2, 6, 13)), jnp.ones((4, 6, 3)), (2,), "VALID"),
        lambda x, w: lax.conv_general_dilated(
            jnp.ones((2, 6, 13)), jnp.ones((6, 1, 3)), (1,), "VALID", feature_group_count=6
        ),
        lambda x, w: lax.conv_general_dilated(
            jnp.ones((2, 13, 6)),
            jnp.ones((3, 2, 9)),
            (1,),
            "VALID",
            feature_group_count=3,
            dimension_numbers=("NHC", "HIO", "NHC"),
        ),
    ],
)
def test_counter_equals_xla_without_loops(function: Callable[..., Any]) -> None:
    assert cost.count_flops(function, X, W) == xla_flops(function, X, W) > 0


def test_a_triangular_solve_counts_its_substitution() -> None:
    """For each of 3 right-hand sides n (n - 1) / 2 multiply-adds and n divisions, n = 5; so does its transpose."""
    substitution = 3 * (2 * 5 * 4 // 2 + 5)
    assert cost.count_flops(solved, X, W) == substitution == 5**2 * 3
    assert cost.count_flops(jax.vmap(solved, in_axes=(None, 0)), X, jnp.ones((7, 5, 5))) == 7 * substitution
    assert cost.count_flops(lambda x, w: lax.linalg.triangular_solve(w, x), X, W) == substitution
    assert cost.count_flops(lambda x, w: jax.vjp(lambda x: solved(x, w), x)[1](x.T), X, W) == 2 * substitution


def test_elementwise_work_is_free() -> None:
    assert cost.count_flops(lambda x, w: jnp.tanh(x).sum() + jnp.cumsum(w), X, W) == 0
    assert cost.count_flops(lambda x, w: lax.while_loop(lambda x: x.sum() < 9, lambda x: x + 1, x), X, W) == 0


def test_a_loop_without_a_trip_count_is_refused() -> None:
    def until(x: Any, w: Any) -> Any:
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x)

    for function in (until, jax.jit(until), lambda x, w: lax.scan(lambda x, _: (until(x, w), None), x, length=2)):
        with pytest.raises(NotImplementedError, match="without a static trip count; write it as a `lax.scan`"):
            cost.count_flops(function, X, W)


def test_a_call_out_of_jax_is_refused() -> None:
    out = jax.ShapeDtypeStruct((3, 5), jnp.float32)
    with pytest.raises(NotImplementedError, match="cannot count the FLOPs inside `ffi_call`"):
        cost.count_flops(lambda x, w: jax.ffi.ffi_call("elsewhere", out)(x, w), X, W)


def test_peak_memory_sees_what_is_held() -> None:
    square = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    assert cost.peak_memory(lambda x: x + 1, square) < 1000
    assert cost.peak_memory(lambda x: jnp.sort(x @ x) @ x, square) >= 4 * 256 * 256


def test_dots_are_read_off_the_text() -> None:
    function = pulled_back(jax.jit(functools.partial(chain, times=3)))
    text = jax.jit(lambda x, w: (function(x, w), function(x + 1, w))).lower(X, W).as_text()
    assert dots_given_to_xla(text) == 2 * 9 * 150
    with pytest.raises(AssertionError, match="a loop is left"):
        dots_given_to_xla(jax.jit(scanned).lower(X, W).as_text())


VARIANTS = {name: case.variant for name, case in CASES.items()} | {"learned": LearnedDecayAttention(chunk_size=8)}


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", VARIANTS)
def test_cost_is_what_xla_is_given_with_loops_unrolled(
    name: str, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant: AttentionVariant = VARIANTS[name]
    if causal not in modes(variant):
        with pytest.raises(NotImplementedError):
            call(variant, make_arguments(variant, 5), causal=causal)
        return
    unroll_loops(monkeypatch)
    arguments = jax.eval_shape(lambda: make_arguments(variant, 37, batch=1))
    text = jax.jit(lambda arguments: call(variant, arguments, causal=causal)).lower(arguments).as_text()
    assert variant.cost(37, 37, HEADS, causal).executed_flops == dots_given_to_xla(text) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.VARIANTS)
def test_counted_gradients_are_what_xla_is_given_with_loops_unrolled(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = CASES[name].variant
    shapes = jax.eval_shape(lambda: make_arguments(variant, 37, batch=1))
    shapes = shapes, jax.eval_shape(ones_of_output, shapes)

    def step() -> Callable[..., Any]:  # a new one each time, so that no trace is reused
        return with_gradients(lambda arguments: call(variant, arguments, causal=modes(variant)[0]))

    counted = cost.count_flops(step(), *shapes)
    unroll_loops(monkeypatch)
    assert counted == dots_given_to_xla(jax.jit(step()).lower(*shapes).as_text()) > 0


def rows(length: int) -> Any:
    return jax.ShapeDtypeStruct((3, 5, length), jnp.float32)


ITEMS = jnp.zeros((4,), jnp.int32)
CHOOSING: dict[str, tuple[Callable[..., Any], cost.Work]] = {
    # 15 rows of 8 take 3 comparisons a key, of 9 take 4; the 3 best need a heap of two levels, the 4 best of three.
    "sort": (lambda x: jnp.sort(x), cost.Work(0, 15 * 8 * 3, 0, 0, 0, 0)),
    "sort along another axis": (lambda x: jnp.sort(x, axis=1), cost.Work(0, 3 * 8 * 5 * 3, 0, 0, 0, 0)),
    "sort by key": (lambda x: lax.sort_key_val(x, x), cost.Work(0, 15 * 8 * 3, 0, 0, 0, 0)),
    "sort of nine": (lambda x: jnp.sort(jnp.pad(x, ((0, 0), (0, 0), (0, 1)))), cost.Work(0, 15 * 9 * 4, 0, 0, 0, 0)),
    "the 3 best": (lambda x: lax.top_k(x, 3), cost.Work(0, 0, 15 * 8 * 2, 0, 0, 0)),
    "the 4 best": (lambda x: lax.top_k(x, 4), cost.Work(0, 0, 15 * 8 * 3, 0, 0, 0)),
    "the best": (lambda x: jnp.argmax(x, -1), cost.Work(0, 0, 0, 15 * 8, 0, 0)),
    "gather": (lambda x: x[:, ITEMS], cost.Work(0, 0, 0, 0, 3 * 4 * 8, 0)),
    "scatter": (lambda x: x.at[:, ITEMS].set(1.0), cost.Work(0, 0, 0, 0, 0, 3 * 4 * 8)),
    "add by index": (lambda x: x.at[:, ITEMS].add(1.0), cost.Work(0, 0, 0, 0, 0, 3 * 4 * 8)),
    "in a loop, beside a product": (
        lambda x: lax.scan(lambda x, _: (jnp.sort(x) @ jnp.ones((8, 8)), None), x, length=7)[0],
        cost.Work(7 * 2 * 15 * 64, 7 * 15 * 8 * 3, 0, 0, 0, 0),
    ),
    "the larger of two branches": (
        lambda x: lax.cond(True, lambda x: jnp.sort(jnp.sort(x)), lambda x: x[:, jnp.arange(5)], x),
        cost.Work(0, 2 * 15 * 8 * 3, 0, 0, 15 * 8, 0),
    ),
    "elementwise": (lambda x: jnp.tanh(x).sum(), cost.Work(0, 0, 0, 0, 0, 0)),
}


@pytest.mark.parametrize("name", CHOOSING)
def test_what_choosing_takes_is_counted_apart_from_flops(name: str) -> None:
    function, work = CHOOSING[name]
    assert cost.count_work(function, rows(8)) == work
    assert cost.count_flops(function, rows(8)) == work.flops


def test_choosing_in_a_loop_without_a_trip_count_is_refused() -> None:
    def until(x: Any) -> Any:
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: jnp.sort(x) + 1, x)

    assert cost.count_flops(until, rows(8)) == 0
    with pytest.raises(NotImplementedError, match="sorts, chooses or gathers"):
        cost.count_work(lambda x: lax.scan(lambda x, _: (until(x), None), x, length=2), rows(8))
