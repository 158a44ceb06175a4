"""What is left of a token, and products under decays by halves, against products of decays in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.cost import count_flops
from attention_variants.engines.decays import chunk_decays, flops_by_halves, products_by_halves

BATCH, KV_HEADS, CHUNK, CHANNELS = 2, 3, 7, 5
ROWS, WRITES = (2, 1), 3  # readers of each kind, and writers, of a token
DRAWS = {
    "strong and weak": lambda random, shape: random.choice(np.log([0.001, 0.9, 1 - 1e-6]), shape),
    "closed gates": lambda random, shape: np.where(random.random_sample(shape) < 0.3, -np.inf, -0.1),
    "open gates": lambda random, shape: np.zeros(shape),
}


def draw(channels: int, chunk: int = CHUNK, decays: str = "strong and weak") -> np.ndarray:
    """Log decays [batch, kv_heads, chunk, channels]."""
    return DRAWS[decays](np.random.RandomState(0), (BATCH, KV_HEADS, chunk, channels))


@pytest.mark.parametrize("decays", DRAWS)
@pytest.mark.parametrize("chunk", [1, 2, 13])
def test_factors_are_products_of_the_decays_between(chunk: int, decays: str) -> None:
    log_decay = draw(1, chunk, decays)
    found = jax.tree.map(np.asarray, jax.jit(chunk_decays)(jnp.asarray(log_decay, jnp.float32)))
    for reader in range(chunk):
        before = np.exp(log_decay[:, :, : reader + 1].sum(2))
        np.testing.assert_allclose(found.from_start[:, :, reader], before, rtol=2e-5)
        for writer in range(chunk):
            left = np.exp(log_decay[:, :, writer + 1 : reader + 1, 0].sum(2)) * (writer <= reader)
            np.testing.assert_allclose(found.between[:, :, reader, writer], left, rtol=2e-5)
    np.testing.assert_allclose(found.over, np.exp(log_decay.sum(2)), rtol=2e-5)
    for writer in range(chunk):
        left = np.exp(log_decay[:, :, writer + 1 :].sum(2))
        np.testing.assert_allclose(found.to_end[:, :, writer], left, rtol=2e-5)


def test_the_gradient_of_the_diagonal_is_exactly_zero() -> None:
    def own(log_decay: jax.Array) -> jax.Array:
        return jnp.diagonal(chunk_decays(log_decay).between, axis1=2, axis2=3).sum()

    assert not jax.jit(jax.grad(own))(jnp.asarray(draw(1), jnp.float32)).any()


def arrays_of(chunk: int, decays: str) -> tuple[Any, ...]:
    """Readers, writers, what a token finds of its own, and log decays, in float64."""
    random = np.random.RandomState(1)
    lead = BATCH, KV_HEADS, chunk
    readers, own = (tuple(random.standard_normal((*lead, n, dim)) for n in ROWS) for dim in (CHANNELS, WRITES))
    return readers, random.standard_normal((*lead, WRITES, CHANNELS)), own, draw(CHANNELS, chunk, decays)


def pair_by_pair(readers: Any, writers: Any, own: Any, log_decay: Any, *, reads_first: bool) -> Any:
    """The definition of `products_by_halves`: the decays between two tokens multiplied, for every pair by itself."""
    chunk = log_decay.shape[2]
    token = np.arange(chunk)
    met = token if not reads_first else token - 1  # the last token whose decay a reader has met

    def left(after: Any, until: Any) -> Any:
        between = (token > np.asarray(after)[..., None]) & (token <= np.asarray(until)[..., None])
        decay = jnp.exp(log_decay).reshape(BATCH, KV_HEADS, *(1,) * (between.ndim - 1), chunk, CHANNELS)
        return jnp.where(between[None, None, ..., None], decay, 1.0).prod(-2)

    pairs = left(*np.broadcast_arrays(token[None, :], met[:, None]))
    earlier, same = (form(chunk)[None, None, :, None, :, None] for form in (lambda size: np.tri(size, k=-1), np.eye))

    def products(readers: Any, own: Any) -> Any:
        found = jnp.einsum("bhird,bhjwd,bhijd->bhirjw", readers, writers, pairs)
        found = found * earlier + own[:, :, :, :, None] * same
        return found.reshape(BATCH, KV_HEADS, chunk, -1, chunk * WRITES)

    ends = left(-1 + 0 * met, met), left(token, chunk + 0 * token), left(-1, chunk)
    return tuple(map(products, readers, own)), *ends


@pytest.mark.parametrize("reads_first", [False, True])
@pytest.mark.parametrize("decays", DRAWS)
@pytest.mark.parametrize("chunk", [1, 2, 13])
def test_products_by_halves_are_those_of_every_pair(chunk: int, decays: str, reads_first: bool) -> None:
    """Values and gradients, each to 1e-6 of its largest entry; that of a closed gate's log is exactly 0."""
    arrays = arrays_of(chunk, decays)

    def with_gradients(form: Any, arrays: Any) -> Any:
        def both(*arrays: Any) -> Any:
            out, pull = jax.vjp(lambda *a: tuple(form(*a, reads_first=reads_first)), *arrays)
            return out, pull(jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), out))

        return jax.jit(both)(*arrays)

    narrow = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), arrays)
    actual = with_gradients(products_by_halves, narrow)
    with jax.enable_x64(True):
        expected = jax.tree.map(np.asarray, with_gradients(pair_by_pair, arrays))
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * max(1e-30, np.abs(other).max()))
    assert not np.asarray(actual[1][3])[np.isinf(arrays[3])].any()


def test_a_weak_decay_keeps_its_digits_next_to_strong_ones() -> None:
    """What two tokens find of each other does not depend on how strong the decays before them are."""
    log_decay = np.tile(np.log([0.001, 0.001, 0.001, 1 - 1e-6]), 8)[None, None, :, None]
    ones = jnp.ones((1, 1, 32, 1, 1))

    def product(log_decay: jax.Array) -> jax.Array:
        return products_by_halves((ones,), ones, (ones,), log_decay).products[0][0, 0, 31, 0, 30]

    value, gradient = jax.jit(jax.value_and_grad(product))(jnp.asarray(log_decay, jnp.float32))
    np.testing.assert_allclose(value, 1 - 1e-6, rtol=1e-7)
    assert gradient[0, 0, 31, 0] == value and np.count_nonzero(gradient) == 1


@pytest.mark.parametrize("chunk", [1, 2, 7, 13, 16])
def test_flops_by_halves_are_exact(chunk: int) -> None:
    counted = count_flops(lambda *a: products_by_halves(*a).products, *arrays_of(chunk, "open gates"))
    assert counted == BATCH * KV_HEADS * flops_by_halves(chunk, sum(ROWS), WRITES, CHANNELS)
