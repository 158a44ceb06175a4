"""Exact FLOPs of a traced function, and its compiled peak memory.

XLA's own `cost_analysis()` counts the body of a loop once, whatever the trip count. Walking the jaxpr and multiplying
by the length of each `scan` is exact for everything here: `dot_general`, convolutions and triangular solves (n^2 m for
an n x n system with m right-hand sides). Elementwise work is not counted. Loops without a static trip count and custom
kernels cannot be counted and raise.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

_UNCOUNTABLE = ("while", "pallas_call", "custom_call", "ffi_call")


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Counts the FLOPs of matrix products and solves (one multiply-add is 2) of `function(*args)`, dead code included.

    Args:
      function: a traceable function; count `jax.value_and_grad(...)` as it is jitted.
      *args: arrays or `jax.ShapeDtypeStruct`s.

    Raises:
      NotImplementedError: the function holds an operation without a static count.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def peak_memory(function: Callable[..., Any], *args: Any) -> int:
    """Returns the bytes of temporaries that XLA allocates for the compiled `function(*args)`."""
    return temporary_bytes(jax.jit(function).lower(*args).compile())


def temporary_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the bytes of temporaries of a compiled function; raises NotImplementedError if XLA reports none."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise NotImplementedError(f"{jax.default_backend()} does not report the memory of a compiled function.")
    return int(analysis.temp_size_in_bytes)


def _count(jaxpr: core.Jaxpr) -> int:
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        return _dot_flops(equation)
    if name == "conv_general_dilated":
        return _convolution_flops(equation)
    if name == "triangular_solve":
        return _solve_flops(equation)
    if name == "cond":
        return max(_count(branch.jaxpr) for branch in equation.params["branches"])
    if name == "while":
        # A `fori_loop` with static bounds arrives as a scan; what is left has no trip count. Free loops are allowed.
        inner = sum(_count(jaxpr) for jaxpr in _inner_jaxprs(equation.params))
        if inner:
            raise NotImplementedError("cannot count a loop without a static trip count; write it as a `lax.scan`.")
        return 0
    if name in _UNCOUNTABLE:
        raise NotImplementedError(f"cannot count the FLOPs inside `{name}`.")
    times = equation.params["length"] if name == "scan" else 1
    return times * sum(_count(jaxpr) for jaxpr in _inner_jaxprs(equation.params))


def _inner_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the jaxprs an equation runs; those of derivative rules are functions, not jaxprs, and stay out."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _dot_flops(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def _convolution_flops(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    out_features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(equation.outvars[0].aval.shape) * (math.prod(kernel) // out_features)


def _solve_flops(equation: Any) -> int:
    """Substitution takes n (n - 1) / 2 multiply-adds and n divisions for each of m right-hand sides: n^2 m FLOPs."""
    system, right_hand_side = (variable.aval.shape for variable in equation.invars)
    return math.prod(right_hand_side) * system[-1]
