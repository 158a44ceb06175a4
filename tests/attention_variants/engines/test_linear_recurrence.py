"""The linear recurrence: chunked, in one chunk and token by token are one function, at any decay."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines import linear_recurrence as engine

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4


def make_arrays(length: int) -> tuple[Any, Any, Any, Any]:
    """Query and key positive, as feature maps are, so that normalisers stay away from 0."""
    random = np.random.RandomState(0)
    query, key = (np.abs(random.standard_normal((BATCH, length, heads, DIM))) for heads in (HEADS, KV_HEADS))
    value = random.standard_normal((BATCH, length, KV_HEADS, VALUE_DIM))
    log_decay = np.log(random.uniform(0.2, 1.0, (BATCH, length, KV_HEADS)))
    return tuple(jnp.asarray(array, jnp.float32) for array in (query, key, value, log_decay))


def by_token(query: Any, key: Any, value: Any, log_decay: Any = None, *, normalise: bool, memory: Any = 0.0) -> Any:
    """The recurrence as a Python loop in float64; (output, final memory, final normaliser)."""
    query, key, value = (np.asarray(array, np.float64) for array in (query, key, value))
    decay = np.ones(key.shape[:3]) if log_decay is None else np.exp(np.asarray(log_decay, np.float64))
    memory = np.zeros((BATCH, KV_HEADS, DIM, VALUE_DIM)) + memory
    normaliser, outputs = np.zeros((BATCH, KV_HEADS, DIM)), []
    for t in range(query.shape[1]):
        memory = decay[:, t, :, None, None] * memory + key[:, t, :, :, None] * value[:, t, :, None, :]
        normaliser = decay[:, t, :, None] * normaliser + key[:, t]
        read = np.einsum("bhd,bhde->bhe", query[:, t], np.repeat(memory, HEADS // KV_HEADS, axis=1))
        total = np.einsum("bhd,bhd->bh", query[:, t], np.repeat(normaliser, HEADS // KV_HEADS, axis=1))
        outputs.append(read / total[..., None] if normalise else read)
    return np.stack(outputs, axis=1), memory, normaliser


def run(arguments: Any, chunk_size: int, **options: Any) -> Any:
    query, key, value, log_decay = arguments
    options |= {"log_decay": log_decay, "chunk_size": chunk_size}
    return jax.jit(lambda: engine.linear_recurrence(query, key, value, **options))()


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("chunk_size", [1, 8, 64])
@pytest.mark.parametrize(("normalise", "decayed"), [(True, False), (False, True), (True, True)])
def test_chunked_equals_token_by_token(chunk_size: int, normalise: bool, decayed: bool) -> None:
    arguments = make_arrays(37)
    arguments = arguments if decayed else (*arguments[:3], None)
    out, state = run(arguments, chunk_size, normalise=normalise, return_state=True)
    expected, memory, normaliser = by_token(*arguments, normalise=normalise)
    assert_close(out, expected)
    assert_close(state.memory, memory)
    assert_close(state.normaliser, normaliser)


def test_gradients_do_not_depend_on_the_chunk() -> None:
    arguments = make_arrays(29)

    def gradients(chunk_size: int) -> Any:
        def loss(arguments: Any) -> Any:
            *arrays, log_decay = arguments
            out, _ = engine.linear_recurrence(*arrays, log_decay=log_decay, normalise=True, chunk_size=chunk_size)
            return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum()

        return jax.jit(jax.grad(loss))(arguments)

    jax.tree.map(assert_close, gradients(8), gradients(64))


def test_the_state_carries_over() -> None:
    """Two halves, the second begun from the first one's state, equal the whole; also a half of one chunk."""
    arguments = make_arrays(31)
    whole, last = run(arguments, 8, normalise=True, return_state=True)
    for cut in (3, 17):
        first = tuple(array[:, :cut] for array in arguments)
        rest = tuple(array[:, cut:] for array in arguments)
        out, state = run(first, 8, normalise=True, return_state=True)
        more, end = run(rest, 8, normalise=True, state=state, return_state=True)
        assert_close(jnp.concatenate([out, more], axis=1), whole)
        jax.tree.map(assert_close, end, last)


def test_no_state_is_the_empty_state_and_is_returned_only_if_wanted() -> None:
    arguments = make_arrays(11)
    empty = engine.empty_state(BATCH, KV_HEADS, DIM, VALUE_DIM, jnp.bfloat16)
    assert empty.memory.dtype == jnp.float32
    out, state = run(arguments, 64)
    assert state is None
    assert_close(run(arguments, 64, state=empty)[0], out, 1e-6)


@pytest.mark.parametrize("decay", [1e-30, 1e-3, 0.5, 1 - 1e-6, 1.0])
def test_extreme_decays_neither_overflow_nor_vanish(decay: float) -> None:
    """Ratios of running products would be 0 / 0 here; differences of their logs are not."""
    query, key, value, _ = make_arrays(257)
    log_decay = jnp.full(key.shape[:3], np.log(decay), jnp.float32)

    def out(log_decay: Any) -> Any:
        return engine.linear_recurrence(query, key, value, log_decay=log_decay, chunk_size=64)[0]

    actual, pull = jax.jit(lambda log_decay: jax.vjp(out, log_decay))(log_decay)
    expected = by_token(query, key, value, np.asarray(log_decay), normalise=False)[0]
    assert_close(actual, expected)
    assert jnp.isfinite(jax.jit(pull)(jnp.ones_like(actual))[0]).all()


def test_a_decay_of_zero_forgets_everything() -> None:
    query, key, value, _ = make_arrays(19)
    log_decay = jnp.zeros(key.shape[:3]).at[:, 11].set(-200.0)
    whole = run((query, key, value, log_decay), 8)[0]
    fresh = run((query[:, 11:], key[:, 11:], value[:, 11:], None), 8)[0]
    assert_close(whole[:, 11:], fresh)


def test_keys_that_sum_to_zero_give_zero() -> None:
    query, key, value, _ = make_arrays(13)
    key = key.at[:, :5].set(0.0)

    def both(*arrays: Any) -> Any:
        out, pull = jax.vjp(lambda *a: engine.linear_recurrence(*a, normalise=True, chunk_size=8)[0], *arrays)
        return out, pull(jnp.ones_like(out))

    out, gradients = jax.jit(both)(query, key, value)
    assert not out[:, :5].any() and out[:, 5:].any()
    assert all(jnp.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("normalise", [True, False])
def test_sum_over_all_keys_is_the_last_token_of_the_recurrence(normalise: bool) -> None:
    query, key, value, _ = make_arrays(23)
    out = engine.linear_sum(query[:, -1:], key, value, normalise=normalise)
    assert_close(out, by_token(query, key, value, normalise=normalise)[0][:, -1:])


def sums_of_ones(length: int) -> Any:
    ones = jnp.ones((1, length, 1, 1), jnp.bfloat16)
    out, state = jax.jit(lambda: engine.linear_recurrence(ones, ones, ones, chunk_size=8, return_state=True))()
    return out[0, -1, 0, 0], state.memory[0, 0, 0, 0], state.normaliser[0, 0, 0]


def test_bfloat16_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sums_of_ones(4096) == (4096, 4096, 4096)
    monkeypatch.setattr(engine, "accumulation_dtype", lambda dtype: dtype)
    assert max(sums_of_ones(4096)[1:]) < 4096, "a running bfloat16 sum must stop short"
