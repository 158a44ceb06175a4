"""What XLA is given: the FLOPs of the products in StableHLO, and loops unrolled so that none is hidden in a body."""

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

from attention_variants import engines, families, variants
from attention_variants.engines import block_softmax

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
    # A loop computes what reaches its first carry, too, such as a gradient that nobody reads.
    carry, xs = lax.optimization_barrier((carry, xs))
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


def unroll_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets all engines, families and variants write their loops out."""
    monkeypatch.setattr(block_softmax, "_UNROLLED_PAIRS", 10**9)
    for package in (engines, families, variants):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if hasattr(importlib.import_module(module.name), "lax"):
                monkeypatch.setattr(f"{module.name}.lax", UNROLLED)
