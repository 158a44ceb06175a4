"""Softmax over a few distances against dense softmax: values, gradients, cost."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import cost
from attention_variants.arrays import dense_logits, masked_softmax, repeat_heads
from attention_variants.engines import diagonal_softmax as engine

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4


@pytest.mark.parametrize(
    ("distances", "query_length", "key_length"), [((0, 1, 4), 11, 11), ((-3, 0, 2), 11, 7), ((5,), 7, 11)]
)
def test_it_equals_dense(distances: tuple[int, ...], query_length: int, key_length: int) -> None:
    random = np.random.RandomState(0)
    shapes = (query_length, HEADS, DIM), (key_length, KV_HEADS, DIM), (key_length, KV_HEADS, VALUE_DIM)
    arrays = [jnp.asarray(random.standard_normal((BATCH, *shape)), jnp.float32) for shape in shapes]
    key_mask = jnp.asarray(random.random_sample((BATCH, key_length)) < 0.8)
    apart = np.arange(query_length)[:, None] - np.arange(key_length)[None, :]
    seen = jnp.asarray(np.isin(apart, distances))[None, None] & key_mask[:, None, None, :]

    def dense(query: Any, key: Any, value: Any) -> Any:
        weights = masked_softmax(dense_logits(query, key), seen)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, HEADS))

    def fast(query: Any, key: Any, value: Any) -> Any:
        return engine.diagonal_softmax(distances, query, key, value, key_mask=key_mask)

    def both(function: Any) -> Any:
        out, pull = jax.vjp(function, *arrays)
        return out, pull(jnp.cos(out))

    actual, expected = jax.jit(lambda: (both(fast), both(dense)))()
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, atol=1e-5), actual, expected)
    flops = 2 * BATCH * HEADS * (DIM + VALUE_DIM) * engine.executed_pairs(distances, query_length)
    assert cost.count_flops(fast, *arrays) == flops
    assert engine.count_pairs(distances, query_length, key_length) == np.isin(apart, distances).sum()
