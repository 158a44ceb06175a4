"""Laws about decoding token by token: `extend` and its cache."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from attention_variants.conformance.inputs import (
    BATCH,
    HEADS,
    Arguments,
    Case,
    call,
    cast,
    cut,
    expect,
    expect_close,
    make_arguments,
    ones_of_output,
    reaching,
)

_FIRST, _LONG = 5, 653  # tokens of a prefill


def decoding_equals_parallel(case: Case) -> None:
    """`extend` one token at a time, in ragged pieces and after a prefill equals the parallel call."""
    variant, length = case.variant, case.length
    if not variant.supports_causal:
        return
    arguments = make_arguments(variant, length)
    expected, *_ = case.steps[True](arguments, ones_of_output(arguments))
    ragged = [5, 1, 7, 5]
    rest = length - sum(ragged)
    pieces = {  # of few different sizes, because each is compiled
        "one token at a time": [1] * length,
        "ragged pieces": [*ragged, rest],
        "a prefill and single tokens": [rest, *[1] * sum(ragged)],
    }
    for name, sizes in pieces.items():
        output, cache = decode(case, arguments, sizes)
        expect_close(f"decoding in {name}", output, expected, 1e-5)
    last = cut(arguments, 0, 1)
    try:
        variant.extend(cache, last.query, last.key, last.value, controls=last.controls)
    except ValueError:
        pass
    else:
        expect(False, "extending a full cache must raise ValueError.")
    poisoned, _ = case.extend(cache, last)
    expect(jnp.isnan(poisoned).all(), "extending a full cache inside jit must give NaN.")


def a_long_prefill_equals_parallel(case: Case) -> None:
    """A prefill so long that caches are read in several strips, after a first piece, equals the parallel call."""
    if not case.variant.supports_causal:
        return
    case = dataclasses.replace(case, variant=dataclasses.replace(case.variant, **reaching(case.variant, _LONG)))
    arguments = make_arguments(case.variant, _LONG, batch=1)
    expected = jax.jit(functools.partial(call, case.variant, causal=True))(arguments)
    cache, outputs = case.variant.init_cache(1, _LONG, HEADS, jnp.float32), []
    for start, stop in ((0, _FIRST), (_FIRST, _LONG)):
        output, cache = case.extend(cache, cut(arguments, start, stop))
        outputs.append(output)
    expect_close(f"a prefill of {_LONG} tokens", jnp.concatenate(outputs, axis=1), expected, 1e-5)


def decode(case: Case, arguments: Arguments, sizes: list[int]) -> tuple[Any, Any]:
    """Returns the outputs of pieces of these sizes, one after the other, and the cache."""
    cache = case.variant.init_cache(BATCH, case.length, HEADS, jnp.float32)
    outputs, start = [], 0
    for size in sizes:
        output, cache = case.extend(cache, cut(arguments, start, start + size))
        outputs.append(output)
        start += size
    return jnp.concatenate(outputs, axis=1), cache


def caches_keep_their_form(case: Case) -> None:
    """A fresh cache can be donated, and `extend` returns one of the same dtypes, whatever those of its arguments."""
    variant = case.variant
    if not variant.supports_causal:
        return
    fresh = variant.init_cache(BATCH, case.length, HEADS, jnp.float32)
    owners: dict[int, str] = {}
    for name, leaf in zip(fresh._fields, fresh, strict=True):
        owner = owners.setdefault(leaf.unsafe_buffer_pointer(), name) if leaf.size else name
        expect(owner == name, f"`{owner}` and `{name}` of a fresh cache are one buffer; it cannot be donated.")
    arguments = make_arguments(variant, 9)  # of more than one chunk
    with jax.enable_x64(True):
        for dtype, given in ((jnp.float32, jnp.float32), (jnp.bfloat16, jnp.float64)):
            cache = variant.init_cache(BATCH, case.length, HEADS, dtype)
            new = cast(arguments, given)
            extend = functools.partial(variant.extend, controls=new.controls)
            _, after = jax.eval_shape(extend, cache, new.query, new.key, new.value)
            for name, old, kept in zip(cache._fields, cache, after, strict=True):
                given_name = jnp.dtype(given).name
                changed = f"extended by {given_name} tokens, `{name}` is {kept.dtype} {kept.shape}"
                same = (old.dtype, old.shape) == (kept.dtype, kept.shape)
                expect(same, f"{changed}; before it was {old.dtype} {old.shape}.")
