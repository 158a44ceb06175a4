"""Laws about what is computed: values, gradients, visibility, decoding, limits, masks."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attention_variants.conformance.inputs import (
    BATCH,
    HEAD_DIM,
    NUM_HEADS,
    NUM_KV_HEADS,
    TOLERANCE,
    Arguments,
    Case,
    SlopeBias,
    call,
    cast,
    cut,
    expect,
    expect_close,
    make_arguments,
    modes,
    ones_of_output,
    output_shape,
    random_mask,
    with_gradients,
)
from attention_variants.interface import CHOSEN_BY_CONTENT, AttentionVariant
from attention_variants.positions import RotaryPosition


def matches_definition(case: Case) -> None:
    """Output and gradients equal dense_weights @ dense_values in float64: both ways, cross, masked, biased."""
    variant = case.variant
    for causal in modes(variant):
        for length in case.lengths():  # the edges of windows, blocks and chunks
            _compare(case, length, length, causal, masked=False)
        _compare(case, case.length, case.length, causal, masked=True)
    if not variant.supports_bidirectional or not variant.supports_cross:
        return
    _compare(case, case.length, case.length - 8, False, masked=True)
    _compare(case, case.length - 8, case.length, False, masked=False)


def matches_definition_in_bfloat16(case: Case) -> None:
    """The same for bfloat16 arguments, within 0.04 of the largest entry."""
    for causal in modes(case.variant):
        _compare(case, case.length, case.length, causal, masked=False, dtype=jnp.bfloat16)


def _compare(
    case: Case, query_length: int, key_length: int, causal: bool, masked: bool, dtype: Any = jnp.float32
) -> None:
    arguments = make_arguments(case.variant, query_length, key_length, dtype=dtype)
    bias = None
    if case.variant.supports_bias and masked:
        bias = SlopeBias(jnp.linspace(0.1, 0.5, NUM_HEADS, dtype=dtype))
    key_mask = random_mask(key_length) if masked else None
    cotangent = cast(np.random.RandomState(2).standard_normal(output_shape(arguments)), dtype)
    actual = case.steps[causal](arguments, cotangent, key_mask, bias)
    expected = case.definitions[causal](arguments, cotangent, key_mask, bias)
    what = f"{query_length} queries, {key_length} keys, causal={causal}, masked={masked}, (output, gradients)"
    # The gradient of a sole key is 0, and found as terms that cancel.
    expect_close(what, actual, expected, TOLERANCE[jnp.dtype(dtype)] * (2 if key_length == 1 else 1))


def weights_follow_pattern(case: Case) -> None:
    """dense_weights is zero outside `pattern`, and only there unless content chooses; where normalised, rows sum to 1.

    A pattern that shows more than the weights reach would raise ceilings and the ideal cost.
    """
    variant = case.variant
    for causal in modes(variant):
        query, key, _, controls = make_arguments(variant, case.length)
        dense = jax.jit(functools.partial(variant.dense_weights, causal=causal))
        weights = np.asarray(dense(query, key, controls=controls))
        pattern = variant.pattern(case.length, case.length, causal)
        expect(pattern.shape == (case.length, case.length) and pattern.dtype == bool, "pattern must be a bool matrix.")
        expect(not causal or not np.triu(pattern, 1).any(), "the causal pattern shows the future.")
        writes = np.repeat(pattern, variant.writes_per_token, axis=1)
        expected = f"dense_weights must have the shape [batch, heads, query, write] ending in {writes.shape}"
        expect(weights.shape[2:] == writes.shape, f"{expected}; got {weights.shape}.")
        expect(not weights[..., ~writes].any(), f"dense_weights is not zero outside pattern (causal={causal}).")
        idle = np.argwhere(writes & ~weights.any((0, 1)))
        if variant.family != CHOSEN_BY_CONTENT:
            pairs = idle[:3].tolist()
            expect(not len(idle), f"causal={causal}: dense_weights is zero at pairs that pattern permits: {pairs}.")
        if variant.normalised:
            sums = weights.sum(-1)[..., pattern.any(-1)]
            expect(np.allclose(sums, 1, atol=1e-5), f"rows must sum to 1; got {sums.min()} to {sums.max()}.")


def rotation_is_as_claimed(case: Case) -> None:
    """With RoPE, shifting all positions by 61 changes no output if `rotation_is_relative`, and some output if not."""
    variant, rope = case.variant, RotaryPosition(fraction=4 / HEAD_DIM)
    parts = variant.rotated_parts
    for causal in modes(variant):
        arguments = make_arguments(variant, case.length)
        cotangent = ones_of_output(arguments)

        def outputs(start: int, causal: bool = causal, arguments: Arguments = arguments, like: Any = cotangent) -> Any:
            positions = start + jnp.arange(case.length)
            query, key = (rope.rotate_parts(a, positions, parts) for a in (arguments.query, arguments.key))
            return case.steps[causal](arguments._replace(query=query, key=key), like)[0]

        error = float(jnp.abs(outputs(61) - outputs(0)).max())
        claim = f"rotation_is_relative is {variant.rotation_is_relative}"
        expect((error < 1e-4) == variant.rotation_is_relative, f"{claim}; moving RoPE's positions moved {error:.1e}.")


def pattern_is_as_drawn(case: Case) -> None:
    """The causal pattern equals the picture that was drawn by hand, if the case has one."""
    if case.picture is None:
        return
    drawn = case.picture.matrix()
    found = case.picture.variant.pattern(len(drawn), len(drawn), True)
    expect(drawn.shape == found.shape, f"a picture must be square; got {drawn.shape}.")
    wrong = np.argwhere(found != drawn)
    expect(not len(wrong), f"the pattern differs from the picture at [query, key] {wrong[:3].tolist()}.")


def sees_only_pattern(case: Case) -> None:
    """Moving a position outside `pattern` moves no output; inside, it moves some. Checked on the black box."""
    variant, length = case.variant, case.length
    for causal in modes(variant):
        arguments = make_arguments(variant, length, batch=1)
        moved = np.asarray(_moved_outputs(variant, arguments, causal))  # [moved key, query]
        pattern = variant.pattern(length, length, causal).T
        leaks = np.argwhere(moved & ~pattern)
        pairs = leaks[:3].tolist()
        expect(not len(leaks), f"causal={causal}: moving a key moved a query that may not see it: {pairs}.")
        blind = np.flatnonzero(pattern.any(1) & ~moved.any(1))
        expect(not len(blind), f"causal={causal}: moving the visible keys {blind[:5].tolist()} moved nothing.")


def _moved_outputs(variant: AttentionVariant, arguments: Arguments, causal: bool) -> Any:
    """Moves each position in turn; if causal, also its query and its controls, which no earlier output may read."""
    length = arguments.key.shape[1]

    def move(position: Any) -> Any:
        """Returns the outputs with the key, and with the key and the query of a position moved; -1 moves nothing."""

        def shift(leaf: Any) -> Any:
            if leaf.shape[1] != length:  # a control that all tokens share
                return leaf
            factor = jnp.where(jnp.arange(length) == position, 0.5, 1.0).astype(leaf.dtype)
            return leaf * factor.reshape(1, length, *(1,) * (leaf.ndim - 2))

        query, key, value, controls = arguments
        if causal:
            controls = jax.tree.map(shift, controls)
        moved = Arguments(query, shift(key), shift(value), controls)
        both = (moved, moved._replace(query=shift(query)))
        return jnp.stack([call(variant, each, causal=causal)[0] for each in both])

    outputs = np.asarray(jax.jit(lambda: jax.lax.map(move, jnp.arange(-1, length)))())
    by_key, by_position = (outputs[1:] != outputs[:1]).any(axis=(-1, -2)).swapaxes(0, 1)
    return by_key | (np.triu(np.ones((length, length), bool), 1).T & by_position) if causal else by_key


def limits_are_full_attention(case: Case) -> None:
    """The limit of the case equals full attention, and a sharp case itself differs from it."""
    for causal in modes(case.variant):
        arguments = make_arguments(case.variant, case.length)
        full = _full_attention(arguments.query, arguments.key, arguments.value, causal)
        if case.limit is not None:
            limit = jax.jit(functools.partial(call, case.limit, causal=causal))
            expect_close(f"limit, causal={causal}", limit(arguments), full, 1e-5)
        if case.sharp and case.limit != case.variant:
            output, *_ = case.steps[causal](arguments, ones_of_output(arguments))
            difference = float(np.abs(np.asarray(output) - full).max())
            sharp = f"the case is not sharp: it differs from full attention by {difference:.1e} only (causal={causal})."
            expect(difference > 1e-3, sharp)


@functools.partial(jax.jit, static_argnames="causal")
def _full_attention(query: Any, key: Any, value: Any, causal: bool) -> Any:
    """Textbook attention, written out again so that this law does not rely on any variant."""
    group = query.shape[2] // key.shape[2]
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, jnp.repeat(key, group, axis=2)) / HEAD_DIM**0.5
    if causal:
        logits = jnp.where(jnp.tril(jnp.ones(logits.shape[-2:], bool)), logits, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), jnp.repeat(value, group, axis=2))


def padding_equals_truncation(case: Case) -> None:
    """Masked padding changes nothing, and a query with no permitted key gives 0 with gradient 0."""
    variant, length = case.variant, case.length
    short = length - 7
    key_mask = jnp.broadcast_to(jnp.arange(length) < short, (BATCH, length))
    for causal in modes(variant):
        arguments = make_arguments(variant, length)
        truncated, ones = cut(arguments, 0, short), ones_of_output(arguments)
        expected, expected_gradients, _ = case.steps[causal](truncated, ones[:, :short])
        output, gradients, _ = case.steps[causal](arguments, ones.at[:, short:].set(0), key_mask)
        actual, expected = (output[:, :short], cut(gradients, 0, short)), (expected, expected_gradients)
        expect_close(f"padding, causal={causal}, (output, gradients)", actual, expected, 1e-5)
        for part in ("key", "value"):
            rest = np.asarray(getattr(gradients, part))[:, short:]
            expect(not rest.any(), f"padding, causal={causal}: the gradient of a masked {part} is not 0.")
        nothing = case.steps[causal](arguments, ones, jnp.zeros((BATCH, length), bool))
        zero = all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(nothing))
        expect(zero, f"causal={causal}: with every key masked, output and gradients must be exactly 0.")


def masked_nan_stays_out(case: Case) -> None:
    """A NaN in a masked key or value, or in its controls, reaches neither the output nor any gradient."""
    variant, length = case.variant, case.length
    key_mask = random_mask(length)
    for causal in modes(variant):
        clean = make_arguments(variant, length)
        key, value = (jnp.where(key_mask[:, :, None, None], leaf, jnp.nan) for leaf in (clean.key, clean.value))
        dirty = clean._replace(key=key, value=value)
        if not variant.supports_cross:  # otherwise controls belong to the queries
            dirty = dirty._replace(controls=jax.tree.map(functools.partial(_spoil, key_mask), clean.controls))
        actual, expected = (case.steps[causal](a, ones_of_output(a), key_mask) for a in (dirty, clean))
        expect_close(f"NaN behind the mask, causal={causal}", actual, expected, 0.0)


def _spoil(key_mask: Any, control: Any) -> Any:
    """Returns a control with NaN at masked tokens, if each token of each sequence has its own."""
    if control.shape[:2] != key_mask.shape:
        return control
    return jnp.where(key_mask.reshape(key_mask.shape + (1,) * (control.ndim - 2)), control, jnp.nan)


def grouped_heads_equal_repeated(case: Case) -> None:
    """Grouped key-value heads equal the same heads repeated; the gradients of the copies add up."""
    variant, length = case.variant, case.length
    for causal in modes(variant):
        grouped = make_arguments(variant, length)
        group = NUM_HEADS // NUM_KV_HEADS

        def repeated(arguments: Arguments, causal: bool = causal, group: int = group) -> Any:
            repeat = functools.partial(jnp.repeat, repeats=group, axis=2)
            controls = arguments.controls
            if controls is not None:  # what has one entry per key-value head is repeated with it
                controls = jax.tree.map(lambda c: repeat(c) if c.shape[2:3] == (NUM_KV_HEADS,) else c, controls)
            more = Arguments(arguments.query, repeat(arguments.key), repeat(arguments.value), controls)
            return call(variant, more, causal=causal)

        cotangent = ones_of_output(grouped)
        actual, expected = case.steps[causal](grouped, cotangent)[:2], with_gradients(repeated)(grouped, cotangent)
        expect_close(f"grouped heads, causal={causal}", actual, expected, 1e-5)
