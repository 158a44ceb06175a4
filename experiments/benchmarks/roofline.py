"""The most that the machine can do, measured in this process: FLOP/s of matrix products, bytes/s of memory."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_PRODUCT, _LARGEST_PRODUCT = 1024, 2**14  # the smallest and the largest side of the squares that are multiplied
_ARRAY, _LARGEST_ARRAY = 2**24, 2**30  # numbers of the array that is read and written; far beyond any cache
_LONG_ENOUGH = 0.02  # seconds of one call
_CALLS = 5


class Machine(NamedTuple):
    """The two ceilings of a roofline."""

    matmul_flops: float  # per second, of one large product in float32
    bandwidth: float  # bytes per second at which a large array is read and written


class Share(NamedTuple):
    """How much of the machine some work has used."""

    of_matmul: float  # FLOP/s over those of a large product
    of_bandwidth: float  # bytes/s of the least traffic over those of memory


def measure() -> Machine:
    """Measures both, each at a size at which one call takes long enough; the fastest of several calls counts."""
    product = _grown(_product_seconds, _PRODUCT, _LARGEST_PRODUCT)
    copy = _grown(_copy_seconds, _ARRAY, _LARGEST_ARRAY)
    return Machine(2 * product[0] ** 3 / product[1], 2 * 4 * copy[0] / copy[1])


def share(machine: Machine, flops: float, traffic: float, seconds: float) -> Share:
    """Returns how much of the machine is used by work of these FLOPs and at least this traffic to and from memory."""
    return Share(flops / seconds / machine.matmul_flops, traffic / seconds / machine.bandwidth)


def _grown(seconds_at: Callable[[int], float], size: int, largest: int) -> tuple[int, float]:
    """Doubles the size until a call takes long enough; returns the size and the seconds."""
    while (seconds := seconds_at(size)) < _LONG_ENOUGH and size < largest:
        size *= 2
    return size, seconds


def _product_seconds(size: int) -> float:
    square = jnp.ones((size, size), jnp.float32)
    return _fastest(jax.jit(lambda a: a @ a), square)


def _copy_seconds(size: int) -> float:
    return _fastest(jax.jit(lambda a: a + 1.0), jnp.ones((size,), jnp.float32))


def _fastest(function: Callable[..., Any], argument: Any) -> float:
    """Returns the seconds of the fastest of several calls, leaving out the first."""
    jax.block_until_ready(function(argument))
    found = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        jax.block_until_ready(function(argument))
        found.append(time.perf_counter() - started)
    return min(found)
