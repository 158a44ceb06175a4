"""A law about compilers: a variant can be lowered for accelerators, which needs no accelerator."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from attention_variants.conformance.inputs import (
    BATCH,
    HEADS,
    Case,
    call,
    expect,
    make_arguments,
    modes,
    ones_of_output,
    with_gradients,
)

PLATFORMS = ("cuda", "tpu")


def lowers_for_accelerators(case: Case) -> None:
    """Calls with their gradients, and `extend`, lower for CUDA and TPU in bfloat16, with a float32 cache too.

    Lowering finds operations that a platform lacks. It does not show what a compiler or device makes of the rest.
    """
    variant = case.variant
    arguments = make_arguments(variant, case.length, dtype=jnp.bfloat16)
    for causal in modes(variant):
        step = with_gradients(lambda arguments, causal=causal: call(variant, arguments, causal=causal))
        _lower(f"a call with its gradient, causal={causal},", step, arguments, ones_of_output(arguments))
    if variant.supports_causal:
        cache = variant.init_cache(BATCH, case.length, HEADS, jnp.float32)
        _lower("`extend`", case.extend, cache, arguments)


def _lower(what: str, function: Callable[..., Any], *arguments: Any) -> None:
    try:
        # `export` also refuses custom calls that it does not know to be stable.
        lowered = export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    except (NotImplementedError, ValueError) as error:
        expect(False, f"{what} does not lower for {' and '.join(PLATFORMS)}: {' '.join(str(error).split())}")
    else:
        expect(lowered.platforms == PLATFORMS, f"{what} was lowered for {lowered.platforms}; expected {PLATFORMS}.")
