"""Laws about controls: what they are, what each of them reads, and whether anything learns from them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attention_variants.conformance.inputs import (
    BATCH,
    HEADS,
    MODEL_DIM,
    Arguments,
    Case,
    cut,
    draw_zeros,
    expect,
    expect_close,
    make_arguments,
    modes,
    output_shape,
)


def controls_are_as_declared(case: Case) -> None:
    """If `has_controls`, make_controls returns a module that gives a `controls_type`; otherwise None."""
    variant, length = case.variant, case.length
    module = variant.make_controls(MODEL_DIM, HEADS, rngs=nnx.Rngs(0))
    made = type(module).__name__
    expect((module is not None) == variant.has_controls, f"has_controls is {variant.has_controls}; got {made}.")
    if module is None:
        return
    controls = module(jnp.ones((BATCH, length, MODEL_DIM)))
    kind = variant.controls_type or type(None)
    got = type(controls).__name__
    expect(isinstance(controls, kind), f"{made} must return the `controls_type` {kind.__name__}; got {got}.")
    lengths = (1,) if variant.supports_cross else (1, length)  # a context has no controls of its own
    for path, leaf in jax.tree_util.tree_leaves_with_path(controls):
        fits = leaf.ndim >= 2 and leaf.shape[0] in (1, BATCH) and leaf.shape[1] in lengths
        where = f"controls{jax.tree_util.keystr(path)}"
        allowed = " or ".join(map(str, reversed(lengths)))
        expect(fits, f"{where} must begin with [batch {BATCH} or 1, length {allowed}]; got {leaf.shape}.")


def controls_read_their_own_token(case: Case) -> None:
    """The controls of tokens are those of a piece with these tokens alone: no other token, and no place, counts.

    Decoding makes the controls of each piece from that piece, and training may read no later token.
    """
    module, x = _module(case)
    if module is None or not case.variant.supports_causal:
        return
    whole = Arguments(x, x, x, module(x))
    for start, stop in ((0, case.length - 3), (case.length - 7, case.length)):
        own = cut(whole, start, stop).controls
        expect_close(f"controls of the tokens from {start} to {stop} alone", module(x[:, start:stop]), own, 1e-5)


def controls_are_learned(case: Case) -> None:
    """Every parameter of the module that makes controls has a gradient that is not 0."""
    module, x = _module(case)
    if module is None:
        return
    graph, params, *rest = nnx.split(module, nnx.Param, ...)
    arguments = make_arguments(case.variant, case.length)
    cotangent = np.random.RandomState(2).standard_normal(output_shape(arguments)).astype(np.float32)
    _, gradients, _ = case.steps[modes(case.variant)[0]](arguments, cotangent)
    _, pull = jax.vjp(lambda params: nnx.merge(graph, params, *rest)(x), params)
    (found,) = pull(gradients.controls)
    idle = [jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(found) if not leaf.any()]
    expect(not idle, f"the output does not depend on these parameters of {type(module).__name__}: {', '.join(idle)}.")


def _module(case: Case) -> tuple[Any, Any]:
    """Returns the module that makes controls, or None, and what it reads."""
    module = case.variant.make_controls(MODEL_DIM, HEADS, rngs=nnx.Rngs(0))
    random = np.random.RandomState(0)
    if module is not None:
        draw_zeros(module, random)
    return module, jnp.asarray(random.standard_normal((BATCH, case.length, MODEL_DIM)), jnp.float32)
