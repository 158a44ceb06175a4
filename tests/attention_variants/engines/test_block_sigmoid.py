"""The block-sigmoid engine against a whole matrix of sigmoids: ragged lengths, masks, biases, values and gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import cost, patterns
from attention_variants.arrays import dense_logits, repeat_heads
from attention_variants.conformance.inputs import SlopeBias, expect_close, with_gradients
from attention_variants.engines.block_sigmoid import block_sigmoid
from attention_variants.engines.block_softmax import make_plan

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4


def make_arrays(query_length: int, key_length: int) -> tuple[Any, ...]:
    """Query, key, value, and a shift per query."""
    random = np.random.RandomState(0)
    shapes = (query_length, HEADS, DIM), (key_length, KV_HEADS, DIM), (key_length, KV_HEADS, VALUE_DIM), (query_length,)
    return tuple(jnp.asarray(random.standard_normal((BATCH, *shape)), jnp.float32) for shape in shapes)


def dense(query: Any, key: Any, value: Any, bias: Any, shift: Any, mask: Any) -> Any:
    """The output, written with a whole matrix."""
    weights = jax.nn.sigmoid(dense_logits(query, key, bias) - shift[:, None, :, None])
    return jnp.einsum("bhqk,bkhd->bqhd", jnp.where(mask, weights, 0.0), repeat_heads(value, HEADS))


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    ("pattern", "query_length", "key_length", "block_size"),
    [
        (patterns.Band(before=None, after=0), 37, 37, 8),  # ragged last block, more pairs than are unrolled
        (patterns.Everything(), 19, 31, 16),  # unequal lengths
        (patterns.Band(before=3, after=-1), 29, 29, 8),  # the first query sees nothing
    ],
)
def test_output_and_gradients_equal_a_matrix_of_sigmoids(
    pattern: patterns.Pattern, query_length: int, key_length: int, block_size: int, masked: bool
) -> None:
    *arrays, shift = make_arrays(query_length, key_length)
    arguments = (*arrays, SlopeBias(jnp.linspace(0.1, 0.6, HEADS)))
    key_mask = jnp.asarray(np.random.RandomState(1).rand(BATCH, key_length) < 0.7) if masked else None
    mask = jnp.asarray(pattern.matrix(query_length, key_length))[None, None]
    mask = mask if key_mask is None else mask & key_mask[:, None, None]
    plan = make_plan(pattern, query_length, key_length, block_size)

    def blocks(arguments: Any) -> Any:
        query, key, value, bias = arguments
        return block_sigmoid(plan, query, key, value, shift, key_mask=key_mask, bias=bias)

    cotangent = jnp.asarray(
        np.random.RandomState(2).standard_normal((BATCH, query_length, HEADS, VALUE_DIM)), jnp.float32
    )
    expected = with_gradients(lambda arguments: dense(*arguments, shift, mask))(arguments, cotangent)
    expect_close("(output, gradients)", with_gradients(blocks)(arguments, cotangent), expected, 1e-5)


def test_memory_is_linear_in_length() -> None:
    """Of the forward and the backward pass, compiled: four times the length, about four times the bytes."""

    def step_bytes(length: int) -> int:
        plan = make_plan(patterns.Everything(), length, length, 64)
        shapes = [jax.ShapeDtypeStruct((1, length, heads, DIM), jnp.float32) for heads in (2, 1, 1)]
        step = with_gradients(lambda arrays: block_sigmoid(plan, *arrays, jnp.zeros((1, length))))
        return cost.peak_memory(step, shapes, shapes[0])

    assert step_bytes(2048) < 4.6 * step_bytes(512)
