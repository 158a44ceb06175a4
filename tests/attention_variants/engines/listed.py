"""Random arguments, and dense softmax, for engines with a list of keys or blocks per query."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attention_variants.arrays import dense_logits, masked_softmax, repeat_heads

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4


def make_arrays(length: int, key_length: int) -> tuple[Any, Any, Any]:
    random = np.random.RandomState(0)
    shapes = (length, HEADS, DIM), (key_length, KV_HEADS, DIM), (key_length, KV_HEADS, VALUE_DIM)
    return tuple(jnp.asarray(random.standard_normal((BATCH, *shape)), jnp.float32) for shape in shapes)


def make_lists(length: int, choices: int, listed: int) -> Any:
    """Returns distinct choices per query, [batch, heads, length, listed], a quarter of them -1."""
    random = np.random.RandomState(1)
    lists = random.random_sample((BATCH, HEADS, length, choices)).argsort(-1)[..., :listed]
    return np.where(random.random_sample(lists.shape) < 0.25, -1, lists)


def assert_same(function: Any, seen: Any, arrays: tuple[Any, Any, Any]) -> None:
    """Compares output and gradients with dense softmax over the keys `seen` [batch, heads, length, key_length]."""

    def dense(query: Any, key: Any, value: Any) -> Any:
        weights = masked_softmax(dense_logits(query, key), jnp.asarray(seen))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, HEADS))

    def run(function: Any) -> Any:
        out, pull = jax.vjp(function, *arrays)
        return out, pull(jnp.asarray(np.random.RandomState(2).standard_normal(out.shape), jnp.float32))

    actual, expected = jax.jit(lambda: (run(function), run(dense)))()
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, atol=1e-5 * max(1, np.abs(e).max())), actual, expected)
