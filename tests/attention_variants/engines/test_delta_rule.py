"""The delta rule: chunked, in one chunk and token by token are one function, at any decay and any write strength."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines import delta_rule as engine

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4
DECAYS = "none", "scalar", "channel"


def unit(array: Any) -> Any:
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


def make_arrays(
    length: int, decays: str = "channel", *, writes: int = 1, equal_keys: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Unit keys and queries; decays from 0.001 to 1 - 1e-6 mixed; a fifth of the strengths 0, 1 and 2 each."""
    random = np.random.RandomState(seed)
    query = unit(random.standard_normal((BATCH, length, HEADS, DIM)))
    key = unit(random.standard_normal((BATCH, writes * length, KV_HEADS, DIM)))
    if equal_keys:
        key = np.broadcast_to(key[:, :1], key.shape)
    strength = random.uniform(0, 2, key.shape[:3])
    exact = random.randint(0, 5, strength.shape)
    arrays = {"query": query, "key": key, "write_strength": np.where(exact < 3, exact, strength)}
    arrays["value"] = random.standard_normal((*key.shape[:3], VALUE_DIM))
    if decays != "none":
        extremes = np.log([0.001, 0.5, 1 - 1e-3, 1 - 1e-6, 1 - 1e-6])
        shape = (BATCH, length, KV_HEADS, DIM) if decays == "channel" else (BATCH, length, KV_HEADS)
        arrays["log_decay"] = random.choice(extremes, shape)
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


def by_token(arrays: dict[str, Any], state: Any = 0.0) -> tuple[Any, Any]:
    """The rule as it is defined, a write at a time, in the dtype of the arrays; (output, final state)."""
    query, key, value = (arrays[name] for name in ("query", "key", "value"))
    strength = arrays.get("write_strength", jnp.ones_like(value[..., 0]))
    length = query.shape[1]
    log_decay = arrays.get("log_decay", jnp.zeros((BATCH, length, KV_HEADS), value.dtype))
    decay = jnp.broadcast_to(jnp.exp(log_decay.reshape(BATCH, length, KV_HEADS, -1)), (BATCH, length, KV_HEADS, DIM))
    state = jnp.zeros((BATCH, KV_HEADS, DIM, VALUE_DIM), value.dtype) + state

    def write(state: Any, one: Any) -> Any:
        erase, write, value = one
        surprise = value - jnp.einsum("bhd,bhde->bhe", erase, state)
        return state + jnp.einsum("bhd,bhe->bhde", write, surprise), None

    def step(state: Any, token: Any) -> Any:
        query, decay, *writes = token
        state, _ = jax.lax.scan(write, state * decay[..., None], writes)
        return state, jnp.einsum("bhd,bhde->bhe", query, jnp.repeat(state, HEADS // KV_HEADS, axis=1))

    put = arrays.get("write_key", key) * strength[..., None]
    writes = [array.reshape(BATCH, length, -1, *array.shape[2:]) for array in (key, put, value)]
    tokens = [jnp.moveaxis(array, 1, 0) for array in (query, decay)]
    tokens += [array.transpose(1, 2, 0, 3, 4) for array in writes]
    state, out = jax.lax.scan(step, state, tokens)
    return jnp.moveaxis(out, 0, 1), state


def pulled(function: Any, arrays: dict[str, Any]) -> Any:
    """Returns (output, state) and the gradients of both."""

    def run(arrays: Any) -> Any:
        both, pull = jax.vjp(function, arrays)
        random = np.random.RandomState(1)
        return both, pull(tuple(jnp.asarray(random.standard_normal(part.shape), part.dtype) for part in both))[0]

    return jax.jit(run)(arrays)


def expected(arrays: dict[str, Any]) -> Any:
    with jax.enable_x64(True):
        return pulled(by_token, {name: jnp.asarray(array, jnp.float64) for name, array in arrays.items()})


@functools.lru_cache
def reference(length: int, decays: str, writes: int) -> Any:
    return expected(make_arrays(length, decays, writes=writes))


def chunked(chunk_size: int, **options: Any) -> Any:
    return jax.jit(lambda arrays: engine.delta_rule(**arrays, chunk_size=chunk_size, return_state=True, **options))


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    def compare(a: Any, e: Any) -> None:
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * np.abs(e).max())

    jax.tree.map(compare, actual, expected)


@pytest.mark.parametrize(
    ("chunk_size", "writes"),
    [(8, 1), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in ((1, 1), (64, 1), (8, 3), (64, 2)))],
)
@pytest.mark.parametrize("decays", DECAYS)
def test_chunked_equals_token_by_token(decays: str, chunk_size: int, writes: int) -> None:
    """Values and gradients, one chunk, ragged chunks and chunks of one token, one write per token and several."""
    arrays = make_arrays(37, decays, writes=writes)
    assert_close(pulled(chunked(chunk_size), arrays), reference(37, decays, writes))


def test_the_erase_key_may_read_the_memory_before_it_decays() -> None:
    """RWKV-7, S <- (Diag(d) - (a k) k^T) S + k' v^T: one write of 0 erases under k / d, one erases nothing.

    Peng et al. 2025, arXiv:2503.14456, equation 17; d as there, from 0.545.
    """
    random, length = np.random.RandomState(4), 37
    arrays = make_arrays(length, "none")
    decay, rate = (random.uniform(low, 1, (BATCH, length, KV_HEADS, DIM)) for low in (0.545, 0.0))
    new = jnp.asarray(random.standard_normal(rate.shape), jnp.float32)
    arrays |= {"decay": jnp.asarray(decay, jnp.float32), "rate": jnp.asarray(rate, jnp.float32), "new": new}
    del arrays["write_strength"]

    def direct(arrays: dict[str, Any]) -> Any:
        def step(state: Any, token: Any) -> tuple[Any, Any]:
            query, key, value, decay, rate, new = token
            erased = jnp.einsum("bhd,bhde->bhe", key, state)[:, :, None]
            state = state * decay[..., None] - (rate * key)[..., None] * erased + new[..., None] * value[:, :, None]
            return state, jnp.einsum("bhd,bhde->bhe", query, jnp.repeat(state, HEADS // KV_HEADS, axis=1))

        names = "query", "key", "value", "decay", "rate", "new"
        start = jnp.zeros((BATCH, KV_HEADS, DIM, VALUE_DIM), arrays["value"].dtype)
        state, out = jax.lax.scan(step, start, [jnp.moveaxis(arrays[name], 1, 0) for name in names])
        return jnp.moveaxis(out, 0, 1), state

    def two_writes(arrays: dict[str, Any]) -> Any:
        def side_by_side(first: Any, second: Any) -> Any:
            return jnp.stack([first, second], axis=2).reshape(BATCH, -1, *first.shape[2:])

        key, decay, nothing = arrays["key"], arrays["decay"], jnp.zeros_like(arrays["key"])
        return engine.delta_rule(
            arrays["query"],
            side_by_side(key / decay, nothing),
            side_by_side(jnp.zeros_like(arrays["value"]), arrays["value"]),
            write_key=side_by_side(arrays["rate"] * key, arrays["new"]),
            log_decay=jnp.log(decay),
            chunk_size=8,
            return_state=True,
        )

    with jax.enable_x64(True):
        wanted = pulled(direct, {name: jnp.asarray(array, jnp.float64) for name, array in arrays.items()})
    assert_close(pulled(two_writes, arrays), wanted)


def test_writes_that_are_no_multiple_of_the_tokens_are_named() -> None:
    arrays = make_arrays(7, "none")
    with pytest.raises(ValueError, match="must be a multiple of the 14 tokens; got 7"):
        chunked(8)(arrays | {"query": jnp.concatenate([arrays["query"]] * 2, axis=1)})


@pytest.mark.parametrize("length", [1, 8, 9])
def test_chunk_edges(length: int) -> None:
    arrays = make_arrays(length)
    assert_close(pulled(chunked(8), arrays), expected(arrays))


@pytest.mark.parametrize("decays", DECAYS)
def test_equal_keys_keep_their_digits(decays: str) -> None:
    """Full chunks, in which an inverse by powers would reach 1e18 in between."""
    arrays = make_arrays(509, decays, equal_keys=True)
    assert_close(pulled(chunked(16 if decays == "channel" else 64), arrays), expected(arrays))


@pytest.mark.parametrize("decays", DECAYS)
def test_the_state_carries_over(decays: str) -> None:
    """Two parts, the second begun from the first one's state, equal the whole; also a part of one chunk or token."""

    def in_two_parts(arrays: dict[str, Any], cut: int) -> Any:
        length = arrays["query"].shape[1]
        first = jax.tree.map(lambda a: a[:, : cut * (a.shape[1] // length)], arrays)
        rest = jax.tree.map(lambda a: a[:, cut * (a.shape[1] // length) :], arrays)
        out, state = chunked(8)(first)
        more, end = chunked(8, state=state)(rest)
        return jnp.concatenate([out, more], axis=1), end

    whole, *parts = jax.jit(lambda a: [chunked(8)(a), *(in_two_parts(a, cut) for cut in (1, 17))])(
        make_arrays(31, decays, writes=2)
    )
    for part in parts:
        assert_close(part, whole)


@pytest.mark.slow
def test_no_state_is_the_empty_state_and_is_returned_only_if_wanted() -> None:
    arrays = make_arrays(11)
    empty = engine.empty_state(BATCH, KV_HEADS, DIM, VALUE_DIM, jnp.bfloat16)
    assert empty.dtype == jnp.float32
    out, state = engine.delta_rule(**arrays, chunk_size=16)
    assert state is None
    assert_close(chunked(16, state=empty)(arrays)[0], out, 1e-6)


def test_write_strength_zero_writes_nothing() -> None:
    arrays = make_arrays(23, "none") | {"write_strength": jnp.zeros((BATCH, 23, KV_HEADS))}
    before = jnp.asarray(np.random.RandomState(2).standard_normal((BATCH, KV_HEADS, DIM, VALUE_DIM)), jnp.float32)
    np.testing.assert_array_equal(chunked(8, state=before)(arrays)[1], before)
    assert not chunked(8)(arrays)[0].any()


def test_orthonormal_keys_at_full_strength_are_an_associative_memory() -> None:
    """A slot holds the last value written to it, exactly: a linear attention that overwrites."""
    random = np.random.RandomState(3)
    length, basis = 41, np.linalg.qr(random.standard_normal((DIM, DIM)))[0]
    slots, asked = random.randint(0, DIM, (2, BATCH, length, KV_HEADS))
    value = random.standard_normal((BATCH, length, KV_HEADS, VALUE_DIM))
    arrays = {"query": basis[asked], "key": basis[slots], "value": value, "write_strength": np.ones(slots.shape)}
    out, _ = chunked(8)({name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()})
    last, expected = np.zeros((BATCH, KV_HEADS, DIM, VALUE_DIM)), np.zeros(value.shape)
    for b, t, h in np.ndindex(slots.shape):
        last[b, h, slots[b, t, h]] = value[b, t, h]
        expected[b, t, h] = last[b, h, asked[b, t, h]]
    assert_close(out, expected)


def test_a_decay_of_zero_forgets_everything() -> None:
    arrays = make_arrays(19)
    cut = arrays | {"log_decay": arrays["log_decay"].at[:, 11].set(-np.inf)}
    fresh = {name: array[:, 11:] for name, array in cut.items()}
    (whole, _), gradients = pulled(chunked(8), cut)
    assert_close(whole[:, 11:], chunked(8)(fresh)[0])
    assert all(jnp.isfinite(leaf).all() for leaf in gradients.values())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("decays", DECAYS)
def test_length_4096_neither_overflows_nor_drifts(decays: str, dtype: Any) -> None:
    """Equal keys are the worst case: at strength 1 every token takes back what the last one wrote."""
    arrays = {name: array.astype(dtype) for name, array in make_arrays(4096, decays, equal_keys=True).items()}
    (out, state), gradients = pulled(chunked(16 if decays == "channel" else 64), arrays)
    reference, _ = jax.jit(by_token)({name: array.astype(jnp.float32) for name, array in arrays.items()})
    assert_close(out, reference)
    assert out.dtype == state.dtype == jnp.float32
    assert all(jnp.isfinite(leaf.astype(jnp.float32)).all() for leaf in gradients.values())


@pytest.mark.parametrize("decays", DECAYS[1:])
def test_a_weak_decay_after_strong_ones_keeps_its_digits(decays: str) -> None:
    """Within one chunk: sums of 50 strong log decays are rounded to 1e-4, and so would be their differences."""
    arrays = make_arrays(64, decays)
    arrays["log_decay"] = jnp.full_like(arrays["log_decay"], -30.0).at[:, 50:].set(np.log(1 - 1e-6))
    assert_close(pulled(chunked(64), arrays), expected(arrays))
