"""The FLOP counter against XLA's own figures, and the engines against the dots that XLA is given."""

import functools
import importlib
import math
import pkgutil
import re
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from attention_variants import cost, engines, families, variants
from attention_variants.conformance.cases import CASES
from attention_variants.conformance.inputs import HEADS, call, make_arguments, modes
from attention_variants.engines import block_softmax
from attention_variants.interface import AttentionVariant
from tests.attention_variants.learned_decay import LearnedDecayAttention

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


_DOT = re.compile(
    r"stablehlo\.dot_general .* contracting_dims = \[([\d, ]*)\] x .* : \(tensor<([\dx]*)xf32>, .* -> (.*)"
)
_SOLVE = re.compile(r"@lapack_[sd]trsm_ffi\(.* : \(tensor<([\dx]*)xf\d+>, tensor<([\dx]*)xf\d+>\)")


def dots_given_to_xla(text: str) -> int:
    """Sums the FLOPs of the dots and triangular solves in StableHLO, functions as often as they are called."""
    bodies = {name: body for name, body in re.findall(r"func\.func \w+ @(\w+)\((.*?)\n  }", text, re.DOTALL)}

    @functools.lru_cache
    def flops(name: str) -> int:
        total = sum(flops(called) for called in re.findall(r"(?<!custom_)call @(\w+)\(", bodies[name]))
        lines = [line for line in bodies[name].splitlines() if "stablehlo.dot_general" in line]
        for line in lines:
            contracted, left, out = _DOT.search(line).groups()
            sizes = [int(size) for size in left.split("x")]
            out_sizes = [int(size) for size in re.search(r"tensor<([\dx]*)xf32>", out)[1].split("x")]
            total += 2 * math.prod(out_sizes) * math.prod(sizes[int(axis)] for axis in re.findall(r"\d+", contracted))
        for system, right_hand_side in _SOLVE.findall(bodies[name]):
            total += int(system.split("x")[-1]) * math.prod(int(size) for size in right_hand_side.split("x"))
        assert not total or "stablehlo.while" not in bodies[name], "a loop is left"
        return total

    return flops("main")


def python_scan(step: Callable[..., Any], carry: Any, xs: Any) -> Any:
    outputs = []
    for i in range(jax.tree.leaves(xs)[0].shape[0]):
        carry, out = step(carry, jax.tree.map(lambda leaf, i=i: leaf[i], xs))
        outputs.append(out)
    # A loop writes its last carry even where nobody reads it.
    return lax.optimization_barrier((carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)))


def python_map(function: Callable[..., Any], xs: Any) -> Any:
    return python_scan(lambda _, x: (None, function(x)), None, xs)[1]


def python_loop(first: int, end: int, step: Callable[..., Any], carry: Any) -> Any:
    return functools.reduce(lambda carry, i: step(i, carry), range(first, end), carry)


UNROLLED = types.SimpleNamespace(**vars(lax) | {"scan": python_scan, "map": python_map, "fori_loop": python_loop})


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
    monkeypatch.setattr(block_softmax, "_UNROLLED_PAIRS", 10**9)
    for package in (engines, families, variants):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if hasattr(importlib.import_module(module.name), "lax"):
                monkeypatch.setattr(f"{module.name}.lax", UNROLLED)
    arguments = jax.eval_shape(lambda: make_arguments(variant, 37, batch=1))
    text = jax.jit(lambda arguments: call(variant, arguments, causal=causal)).lower(arguments).as_text()
    assert variant.cost(37, 37, HEADS, causal).executed_flops == dots_given_to_xla(text) > 0
