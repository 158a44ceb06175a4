"""The linear recurrence: chunked, in one chunk and token by token are one function, at any decay."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines import linear_recurrence as engine

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4


def make_arrays(length: int, channels: bool = False) -> tuple[Any, Any, Any, Any]:
    """Query and key positive, as feature maps are, so that normalisers stay away from 0."""
    random = np.random.RandomState(0)
    query, key = (np.abs(random.standard_normal((BATCH, length, heads, DIM))) for heads in (HEADS, KV_HEADS))
    value = random.standard_normal((BATCH, length, KV_HEADS, VALUE_DIM))
    log_decay = np.log(random.uniform(0.2, 1.0, (BATCH, length, KV_HEADS, DIM)[: 3 + channels]))
    return tuple(jnp.asarray(array, jnp.float32) for array in (query, key, value, log_decay))


def by_token(query: Any, key: Any, value: Any, log_decay: Any = None, *, normalise: bool, bonus: Any = None) -> Any:
    """The recurrence as a Python loop in float64; (output, final memory, final normaliser)."""
    query, key, value = (np.asarray(array, np.float64) for array in (query, key, value))
    decay = np.ones(key.shape[:3]) if log_decay is None else np.exp(np.asarray(log_decay, np.float64))
    decay = np.broadcast_to(decay[..., None] if decay.ndim == 3 else decay, key.shape)
    memory = np.zeros((BATCH, KV_HEADS, DIM, VALUE_DIM))
    normaliser, outputs = np.zeros((BATCH, KV_HEADS, DIM)), []
    for t in range(query.shape[1]):
        read, total = (memory, normaliser) if bonus is not None else (None, None)
        memory = decay[:, t, :, :, None] * memory + key[:, t, :, :, None] * value[:, t, :, None, :]
        normaliser = decay[:, t] * normaliser + key[:, t]
        if bonus is None:
            read, total = memory, normaliser
        else:
            own = np.asarray(np.broadcast_to(bonus, key.shape), np.float64)[:, t] * key[:, t]
            read, total = read + own[..., None] * value[:, t, :, None, :], total + own
        read, total = (np.repeat(array, HEADS // KV_HEADS, axis=1) for array in (read, total))
        out = np.einsum("bhd,bhde->bhe", query[:, t], read)
        outputs.append(out / np.einsum("bhd,bhd->bh", query[:, t], total)[..., None] if normalise else out)
    return np.stack(outputs, axis=1), memory, normaliser


def run(arguments: Any, chunk_size: int, **options: Any) -> Any:
    query, key, value, log_decay = arguments
    options |= {"log_decay": log_decay, "chunk_size": chunk_size}
    return jax.jit(lambda: engine.linear_recurrence(query, key, value, **options))()


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5, what: str = "") -> None:
    np.testing.assert_allclose(actual, expected, atol=tolerance * np.abs(expected).max(), err_msg=what)


@pytest.mark.parametrize("chunk_size", [1, 8, 64])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("decays", ["none", "per head", "per channel", "per channel, bonus"])
def test_chunked_equals_token_by_token(chunk_size: int, normalise: bool, decays: str) -> None:
    arguments = make_arrays(37, channels="channel" in decays)
    arguments = (*arguments[:3], None) if decays == "none" else arguments
    bonus = jnp.linspace(0.5, 1.5, KV_HEADS * DIM).reshape(1, 1, KV_HEADS, DIM) if "bonus" in decays else None
    out, state = run(arguments, chunk_size, normalise=normalise, bonus=bonus, return_state=True)
    expected, memory, normaliser = by_token(*arguments, normalise=normalise, bonus=bonus)
    assert_close(out, expected)
    assert_close(state.memory, memory)
    assert state.normaliser is None if not normalise else assert_close(state.normaliser, normaliser) is None


@pytest.mark.parametrize("channels", [False, True])
def test_gradients_do_not_depend_on_the_chunk(channels: bool) -> None:
    query, key, value, log_decay = make_arrays(29, channels)
    bonus = jnp.full((1, 1, KV_HEADS, DIM), 0.7) if channels else None

    def gradients(chunk_size: int) -> Any:
        def loss(query: Any, key: Any, value: Any, log_decay: Any, bonus: Any) -> Any:
            options = {"log_decay": log_decay, "bonus": bonus, "normalise": True, "chunk_size": chunk_size}
            out, _ = engine.linear_recurrence(query, key, value, **options)
            return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum()

        return jax.jit(jax.grad(loss, range(4 + channels)))(query, key, value, log_decay, bonus)

    jax.tree.map(assert_close, gradients(8), gradients(64))


@pytest.mark.parametrize("channels", [False, True])
def test_decays_of_all_tokens_and_sequences_may_be_shared(channels: bool) -> None:
    query, key, value, log_decay = make_arrays(19, channels)
    shared = log_decay[:1, :1]
    whole = run((query, key, value, jnp.broadcast_to(shared, log_decay.shape)), 8)[0]
    assert_close(run((query, key, value, shared), 8)[0], whole, 1e-6)


def test_a_bonus_needs_decays_per_channel() -> None:
    with pytest.raises(ValueError, match="`bonus` needs a `log_decay`"):
        run(make_arrays(5), 8, bonus=jnp.ones((1, 1, KV_HEADS, DIM)))


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


LENGTH = 4096
DECAYS = {
    "1e-30": np.full(LENGTH, 1e-30),
    "0.001": np.full(LENGTH, 0.001),
    "0.9": np.full(LENGTH, 0.9),
    "1 - 1e-6": np.full(LENGTH, 1 - 1e-6),
    "1": np.ones(LENGTH),
    "strong, then weak": np.where(np.arange(LENGTH) % 128 < 64, 0.001, 1 - 1e-6),  # sums of logs reach -442
    "anything between": 10 ** np.random.RandomState(1).uniform(-3, 0, LENGTH),
}


def long_arrays(channels: bool, dtype: Any) -> Any:
    """(query, key, value, log decay, cotangent) of 4096 tokens; one sequence per row of DECAYS."""
    random, rows = np.random.RandomState(0), len(DECAYS)
    shapes = (rows, LENGTH, 2, 3), (rows, LENGTH, 1, 3), (rows, LENGTH, 1, 2), (rows, LENGTH, 2, 2)
    query, key, value, cotangent = (random.standard_normal(shape) for shape in shapes)
    log_decay = np.log(np.stack(list(DECAYS.values())))[:, :, None]
    if channels:  # the channels decay at different tokens
        log_decay = np.stack([np.roll(log_decay, shift, axis=1) for shift in (0, 5, 64)], axis=-1)
    return tuple(jnp.asarray(array, dtype) for array in (query, key, value, log_decay, cotangent))


def scanned(query: Any, key: Any, value: Any, log_decay: Any) -> Any:
    """The recurrence token by token, straight from its equation."""
    decay = jnp.exp(log_decay.reshape(*log_decay.shape[:3], -1))[..., None]

    def step(memory: Any, now: Any) -> Any:
        query, key, value, decay = now
        memory = decay * memory + key[..., None] * value[..., None, :]
        return memory, jnp.einsum("bhd,bde->bhe", query, memory[:, 0])

    tokens = jax.tree.map(lambda array: jnp.moveaxis(array, 1, 0), (query, key, value, decay))
    memory = jnp.zeros((len(DECAYS), 1, query.shape[-1], value.shape[-1]), query.dtype)
    return jnp.moveaxis(jax.lax.scan(step, memory, tokens)[1], 0, 1)


def with_gradients(form: Any, *arrays: Any) -> Any:
    def both(*arrays: Any) -> Any:
        out, pull = jax.vjp(form, *arrays[:4])
        return out, pull(arrays[4].astype(out.dtype))

    return jax.jit(both)(*arrays)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("channels", [False, True])
def test_any_decay_keeps_its_digits(channels: bool, dtype: Any) -> None:
    """Values and gradients at length 4096, to 1e-5 of the largest entry; a gradient in bfloat16 as it is rounded."""
    arrays = long_arrays(channels, dtype)

    def chunked(query: Any, key: Any, value: Any, log_decay: Any) -> Any:
        chunk_size = 64 if channels else 128
        return engine.linear_recurrence(query, key, value, log_decay=log_decay, chunk_size=chunk_size)[0]

    out, gradients = with_gradients(chunked, *arrays)
    with jax.enable_x64(True):
        wide = (jnp.asarray(np.asarray(array), jnp.float64) for array in arrays)
        expected_out, expected_gradients = jax.tree.map(np.asarray, with_gradients(scanned, *wide))
    for row, decay in enumerate(DECAYS):
        assert_close(out[row], expected_out[row], what=decay)
        for gradient, reference in zip(gradients, expected_gradients, strict=True):
            tolerance = 1e-5 if dtype == jnp.float32 else 2**-8
            assert_close(np.asarray(gradient[row], np.float64), reference[row], tolerance, decay)


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
    options = {"normalise": True, "chunk_size": 8, "return_state": True}
    out, state = jax.jit(lambda: engine.linear_recurrence(ones, ones, ones, **options))()
    return out[0, -1, 0, 0], state.memory[0, 0, 0, 0], state.normaliser[0, 0, 0]


def test_bfloat16_is_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sums_of_ones(4096) == (1, 4096, 4096)
    monkeypatch.setattr(engine, "accumulation_dtype", lambda dtype: dtype)
    assert max(sums_of_ones(4096)[1:]) < 4096, "a running bfloat16 sum must stop short"
