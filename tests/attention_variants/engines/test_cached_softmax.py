"""Attention over cached keys against dense softmax."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.arrays import dense_logits, masked_softmax, repeat_heads
from attention_variants.cost import count_flops
from attention_variants.engines.cached_softmax import attend_cached, attend_window
from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant

BATCH, HEADS, KV_HEADS, DIM = 2, 6, 3, 5


def make_arrays(new: int, slots: int) -> tuple[Any, Any, Any]:
    random = np.random.RandomState(0)
    shapes = (new, HEADS, DIM), (slots, KV_HEADS, DIM), (slots, KV_HEADS, DIM)
    return tuple(jnp.asarray(random.standard_normal((BATCH, *shape)), jnp.float32) for shape in shapes)


@jax.jit
def dense(query: Any, key: Any, value: Any, seen: Any) -> Any:
    weights = masked_softmax(dense_logits(query, key), jnp.asarray(seen)[None, None])
    return jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, HEADS))


@pytest.mark.parametrize("new", [1, 3, 256, 300])  # up to one strip, and a ragged second one
def test_slots_at_negative_positions_are_empty(new: int) -> None:
    arrays = make_arrays(new, new + 4)
    queries, keys = 2 + np.arange(new), np.arange(new + 4) - 2
    seen = (keys[None, :] <= queries[:, None]) & (keys >= 0)
    attend = jax.jit(functools.partial(attend_cached, visible=lambda q, k: k <= q))
    out = attend(*arrays, jnp.asarray(queries), jnp.asarray(keys))
    np.testing.assert_allclose(out, dense(*arrays, seen), atol=1e-5)


@pytest.mark.parametrize(("first", "new", "window_size"), [(0, 1, 3), (4, 3, 2), (9, 2, 99), (0, 11, 4)])
def test_a_window_reads_the_newest_slots(first: int, new: int, window_size: int) -> None:
    query, key, value = make_arrays(new, 11)
    distance = first + np.arange(new)[:, None] - np.arange(11)[None, :]
    expected = dense(query, key, value, (distance >= 0) & (distance < window_size))
    out = jax.jit(attend_window, static_argnums=3)(query, key, value, window_size, jnp.asarray(first))
    np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize(("spec", "held"), [("sliding_window:window_size=31", 31), ("sink_window", 68)])
def test_a_long_prompt_is_read_in_linear_work(spec: str, held: int) -> None:
    """Ragged strips, some before the cache is full, and a second prompt; twice the prompt is twice the work."""
    variant, length = make_variant(spec), 1100
    given = tuple(jax.random.normal(jax.random.key(1), (3, 1, length, 2, 4)))
    cache = variant.init_cache(1, length, HeadSizes(2, 2, 4, 4), jnp.float32)
    expected, found = variant(*given, causal=True), []
    for place in (slice(0, 777), slice(777, length)):
        out, cache = jax.jit(variant.extend)(cache, *(array[:, place] for array in given))
        found.append(out)
    np.testing.assert_allclose(jnp.concatenate(found, axis=1), expected, atol=1e-5)
    fresh = jax.eval_shape(lambda: variant.init_cache(1, 8192, HeadSizes(2, 2, 4, 4), jnp.float32))
    shapes = [[jax.ShapeDtypeStruct((1, new, 2, 4), jnp.float32)] * 3 for new in (2048, 4096)]
    once, twice = (count_flops(variant.extend, fresh, *prompt) for prompt in shapes)
    assert twice == 2 * once == 2 * 2048 * (held + 256) * 2 * 2 * 2 * 4
