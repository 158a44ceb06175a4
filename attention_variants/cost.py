"""Exact FLOPs of a traced function, and its compiled peak memory.

XLA's own `cost_analysis()` counts the body of a loop once, whatever the trip count. Walking the jaxpr and multiplying
by the length of each `scan` is exact for everything here: `dot_general`, convolutions and triangular solves (n^2 m for
an n x n system with m right-hand sides). Of the elementwise work, `count_work` counts what choosing keys takes:
sorting, top-k, hashing and gathering. Loops without a static trip count and custom kernels cannot be counted and raise.
"""

import collections
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax.extend import core

_UNCOUNTABLE = ("pallas_call", "custom_call", "ffi_call")


class Work(NamedTuple):
    """What a function executes: FLOPs of products and, separately, what choosing takes. Both are exact."""

    flops: int  # of matrix products, convolutions and solves; one multiply-add is 2
    sort: int  # comparisons: n ceil(log2 n) for a row of n keys
    top_k: int  # comparisons: n ceil(log2 (k + 1)) for the k best of n, by a heap
    argmax: int  # comparisons: n for a row of n, such as the buckets of a hash
    gather: int  # elements that are read by index
    scatter: int  # elements that are written, or added, by index


def count_flops(function: Callable[..., Any], *args: Any) -> int:
    """Counts the FLOPs of matrix products and solves (one multiply-add is 2) of `function(*args)`, dead code included.

    Args:
      function: a traceable function; count `jax.value_and_grad(...)` as it is jitted.
      *args: arrays or `jax.ShapeDtypeStruct`s.

    Raises:
      NotImplementedError: the function holds an operation without a static count.
    """
    return _tally(jax.make_jaxpr(function)(*args).jaxpr)["flops"]


def count_work(function: Callable[..., Any], *args: Any) -> Work:
    """Counts what `count_flops` does and, separately, the elementwise work of choosing. Arguments as there.

    Raises:
      NotImplementedError: the function holds an operation without a static count.
    """
    tally = _tally(jax.make_jaxpr(function)(*args).jaxpr)
    if tally[_ENDLESS]:
        raise NotImplementedError("cannot count what a loop without a static trip count sorts, chooses or gathers.")
    return Work(**{name: tally[name] for name in Work._fields})


def peak_memory(function: Callable[..., Any], *args: Any) -> int:
    """Returns the bytes of temporaries that XLA allocates for the compiled `function(*args)`."""
    return temporary_bytes(jax.jit(function).lower(*args).compile())


def temporary_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the bytes of temporaries of a compiled function; raises NotImplementedError if XLA reports none."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise NotImplementedError(f"{jax.default_backend()} does not report the memory of a compiled function.")
    return int(analysis.temp_size_in_bytes)


def _tally(jaxpr: core.Jaxpr) -> collections.Counter[str]:
    """Sums up what the equations of a jaxpr execute, by the fields of `Work`."""
    total: collections.Counter[str] = collections.Counter()
    for equation in jaxpr.eqns:
        total.update(_tally_equation(equation))
    return total


def _tally_equation(equation: Any) -> Mapping[str, int]:
    name = equation.primitive.name
    name = "scatter" if name.startswith("scatter") else name  # scatter-add and its like
    if name in _COUNTED:
        kind, count = _COUNTED[name]
        return {kind: count(equation)}
    if name == "cond":
        branches = [_tally(branch.jaxpr) for branch in equation.params["branches"]]
        return {kind: max(branch[kind] for branch in branches) for branch in branches for kind in branch}
    if name in _UNCOUNTABLE:
        raise NotImplementedError(f"cannot count the FLOPs inside `{name}`.")
    inner: collections.Counter[str] = collections.Counter()
    for jaxpr in _inner_jaxprs(equation.params):
        inner.update(_tally(jaxpr))
    if name == "while":
        # A `fori_loop` with static bounds arrives as a scan; what is left has no trip count. Loops without FLOPs are
        # allowed.
        if inner["flops"]:
            raise NotImplementedError("cannot count a loop without a static trip count; write it as a `lax.scan`.")
        return {_ENDLESS: inner.total()}
    times = equation.params["length"] if name == "scan" else 1
    return {kind: times * number for kind, number in inner.items()}


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


def _row(equation: Any) -> tuple[int, int]:
    """Returns the elements of the operand, and how many of them make a row that is compared."""
    shape, params = equation.invars[0].aval.shape, equation.params
    axes = params["axes"] if "axes" in params else (params.get("dimension", params.get("axis", -1)),)
    return math.prod(shape), math.prod(shape[axis] for axis in axes)


def _sort_comparisons(equation: Any) -> int:
    elements, row = _row(equation)
    return elements * (row - 1).bit_length() if row else 0


def _top_k_comparisons(equation: Any) -> int:
    return _row(equation)[0] * int(equation.params["k"]).bit_length()


_ENDLESS = "endless"  # what a loop without a trip count would add each time
_COUNTED: dict[str, tuple[str, Callable[[Any], int]]] = {
    "dot_general": ("flops", _dot_flops),
    "conv_general_dilated": ("flops", _convolution_flops),
    "triangular_solve": ("flops", _solve_flops),
    "sort": ("sort", _sort_comparisons),
    "top_k": ("top_k", _top_k_comparisons),
    **dict.fromkeys(("argmax", "argmin"), ("argmax", lambda equation: _row(equation)[0])),
    "gather": ("gather", lambda equation: math.prod(equation.outvars[0].aval.shape)),
    "scatter": ("scatter", lambda equation: math.prod(equation.invars[2].aval.shape)),
}
