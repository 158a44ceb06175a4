"""Laws about inputs at the limits of floating point: large, tiny, equal, closed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attention_variants.conformance.decoding import decode
from attention_variants.conformance.inputs import (
    NUM_KV_HEADS,
    Case,
    expect,
    expect_close,
    make_arguments,
    modes,
    ones_of_output,
    random_mask,
)


def extremes_stay_finite(case: Case) -> None:
    """Queries and keys at -30 and at +-1e4 give finite outputs and gradients."""
    for causal in modes(case.variant):
        clean = make_arguments(case.variant, case.length)
        for name, extreme in (("-30", lambda x: jnp.full_like(x, -30.0)), ("+-1e4", lambda x: jnp.sign(x) * 1e4)):
            dirty = clean._replace(query=extreme(clean.query), key=extreme(clean.key))
            leaves = jax.tree.leaves(case.steps[causal](dirty, ones_of_output(clean)))
            finite = all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
            expect(finite, f"queries and keys at {name}, causal={causal}: output or gradients are not finite.")


def extremes_match_definition(case: Case) -> None:
    """Output and gradients of queries and keys 1e6 times as large, where the largest logit takes all, are exact too."""
    for causal in modes(case.variant):
        clean = make_arguments(case.variant, case.length)
        large = clean._replace(query=1e6 * clean.query, key=1e6 * clean.key)
        cotangent = ones_of_output(clean)
        actual, expected = (_rescaled(form[causal](large, cotangent)) for form in (case.steps, case.definitions))
        expect_close(f"1e6 times as large, causal={causal}, (output, gradients)", actual, expected, 1e-4)


def _rescaled(result: Any) -> Any:
    """Gradients of queries are as large as keys, and vice versa; this makes them comparable to the output."""
    output, gradients, _ = result
    query, key = (np.asarray(leaf) / 1e6 for leaf in gradients[:2])
    return output, (query, key, gradients.value)


def ties_are_decided_alike(case: Case) -> None:
    """Fast path, definition and decoding agree where keys repeat, and where products of queries and keys underflow."""
    length = case.length
    for causal in modes(case.variant):
        clean = make_arguments(case.variant, length)
        repeated = clean._replace(key=clean.key[:, np.arange(length) % 5])
        tiny = clean._replace(query=1e-20 * clean.query, key=1e-20 * clean.key)
        for name, arguments in (("keys of period 5", repeated), ("1e-20 times as large", tiny)):
            cotangent = ones_of_output(clean)
            expected = case.definitions[causal](arguments, cotangent)[0]
            expect_close(f"{name}, causal={causal}", case.steps[causal](arguments, cotangent)[0], expected, 1e-5)
            if causal:
                decoded, _ = decode(case, arguments, [length - 3, 1, 1, 1])
                expect_close(f"{name}, decoding", decoded, expected, 1e-5)


def closed_gates_match_definition(case: Case) -> None:
    """Decays and gates of 0, logs of -inf, are exact: for one head, for a whole token, and next to masked keys."""
    variant, length = case.variant, case.length
    for causal in modes(variant):
        clean = make_arguments(variant, length)
        logs = [name for name in getattr(clean.controls, "_fields", ()) if name.startswith("log_")]
        logs = [name for name in logs if getattr(clean.controls, name) is not None]
        if not logs:
            return
        closed = np.random.RandomState(3).random_sample((1, length, NUM_KV_HEADS)) < 0.1
        closed[:, [0, length // 3, length // 2]] = True

        def close(leaf: Any, closed: Any = closed) -> Any:
            return jnp.where(closed.reshape(closed.shape + (1,) * (leaf.ndim - 3))[:, : leaf.shape[1]], -jnp.inf, leaf)

        controls = clean.controls._replace(**{name: close(getattr(clean.controls, name)) for name in logs})
        dirty = clean._replace(controls=controls)
        for key_mask in (None, random_mask(length)):
            actual, expected = (
                form[causal](dirty, ones_of_output(clean), key_mask) for form in (case.steps, case.definitions)
            )
            what = f"{', '.join(logs)} of -inf, causal={causal}, masked={key_mask is not None}, (output, gradients)"
            expect_close(what, actual, expected, 1e-5)
