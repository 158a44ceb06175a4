"""The block-softmax engine against dense softmax: ragged lengths, merging, biases, and how it cuts."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import patterns
from attention_variants.arrays import dense_logits, masked_softmax, repeat_heads
from attention_variants.conformance.inputs import SlopeBias
from attention_variants.engines import block_softmax as engine
from attention_variants.registry import make_variant

BATCH, HEADS, KV_HEADS, DIM, VALUE_DIM = 2, 6, 3, 5, 4
CAUSAL = patterns.Band(before=None, after=0)


def make_arrays(query_length: int, key_length: int) -> tuple[Any, Any, Any]:
    random = np.random.RandomState(0)
    shapes = (query_length, HEADS, DIM), (key_length, KV_HEADS, DIM), (key_length, KV_HEADS, VALUE_DIM)
    return tuple(jnp.asarray(random.standard_normal((BATCH, *shape)), jnp.float32) for shape in shapes)


def dense(pattern: patterns.Pattern, query: Any, key: Any, value: Any, bias: Any = None) -> tuple[Any, Any]:
    """The output and the log normaliser, written with a whole matrix."""
    logits = dense_logits(query, key, bias)
    logits = jnp.where(jnp.asarray(pattern.matrix(*logits.shape[2:])), logits, -jnp.inf)
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    seen = jnp.isfinite(log_normaliser)[..., None]
    weights = jnp.where(seen, jnp.exp(logits - jnp.where(seen, log_normaliser[..., None], 0.0)), 0.0)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, HEADS)), log_normaliser


def pulled(function: Any, arguments: Any) -> Any:
    """Returns (output, log normaliser) and the gradients of both, jitted; rows that see nothing have -inf."""

    def finite(arguments: Any) -> Any:
        out, log_normaliser = function(*arguments)
        return out, jnp.where(jnp.isfinite(log_normaliser), log_normaliser, -1e3)

    def run(arguments: Any) -> Any:
        both, pull = jax.vjp(finite, arguments)
        random = np.random.RandomState(1)
        cotangents = [jnp.asarray(random.standard_normal(part.shape), jnp.float32) for part in both]
        return both, pull(tuple(cotangents))[0]

    return jax.jit(run)(arguments)


def assert_close(actual: Any, expected: Any) -> None:
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, atol=2e-5 * max(1, np.abs(e).max())), actual, expected)


@pytest.mark.parametrize(
    ("pattern", "query_length", "key_length", "block_size"),
    [
        (CAUSAL, 37, 37, 8),  # ragged last block, more pairs than are unrolled
        (patterns.Everything(), 19, 31, 16),  # unequal lengths
        (patterns.Band(before=3, after=-1), 29, 29, 8),  # the first query sees nothing
        (patterns.ListedBlocks(8, ((1, -1), (0, 2), (-1, -1))), 24, 24, 8),  # a block of queries sees nothing
    ],
)
def test_output_normaliser_and_gradients_equal_dense_softmax(
    pattern: patterns.Pattern, query_length: int, key_length: int, block_size: int
) -> None:
    plan = engine.make_plan(pattern, query_length, key_length, block_size)
    arguments = make_arrays(query_length, key_length)
    actual = pulled(lambda *a: engine.block_softmax(plan, *a), arguments)
    assert_close(actual, pulled(lambda *a: dense(pattern, *a), arguments))


def test_bias_and_its_gradient() -> None:
    arguments = (*make_arrays(21, 21), SlopeBias(jnp.linspace(0.1, 0.6, HEADS)))
    plan = engine.make_plan(CAUSAL, 21, 21, 8)
    actual = pulled(lambda q, k, v, bias: engine.block_softmax(plan, q, k, v, bias=bias), arguments)
    expected = pulled(lambda *a: dense(CAUSAL, *a), arguments)
    assert_close(actual, expected)
    assert np.abs(expected[1][3].slopes).min() > 0.1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SequenceBias:
    """A bias that differs from sequence to sequence: a number per query and one per key."""

    numbers: Any  # [batch, length]

    def block(self, query_positions: Any, key_positions: Any) -> Any:
        block = self.numbers[:, query_positions, None] * self.numbers[:, None, key_positions]
        return block[:, None] * jnp.arange(1.0, HEADS + 1)[None, :, None, None]


def test_a_bias_may_depend_on_the_sequence() -> None:
    arguments = (*make_arrays(21, 21), SequenceBias(jnp.asarray(np.random.RandomState(5).rand(BATCH, 21), jnp.float32)))
    plan = engine.make_plan(CAUSAL, 21, 21, 8)
    actual = pulled(lambda q, k, v, bias: engine.block_softmax(plan, q, k, v, bias=bias), arguments)
    positions = jnp.arange(21)

    def with_bias(query: Any, key: Any, value: Any, bias: Any) -> Any:
        """A sequence at a time, each with its own plain bias."""
        sequences = range(BATCH)
        parts = [
            dense(CAUSAL, query[b : b + 1], key[b : b + 1], value[b : b + 1], OneSequence(bias, b)) for b in sequences
        ]
        return tuple(jnp.concatenate(part) for part in zip(*parts, strict=True))

    class OneSequence:
        def __init__(self, bias: Any, sequence: int):
            self.bias, self.sequence = bias, sequence

        def block(self, query_positions: Any, key_positions: Any) -> Any:
            return self.bias.block(positions, positions)[self.sequence]

    assert_close(actual, pulled(with_bias, arguments))


def test_merging_disjoint_patterns_is_their_union() -> None:
    """Gradients too, and they flow through the log normalisers."""
    parts = patterns.Band(before=4, after=0), patterns.Band(before=None, after=-5)
    plans = [engine.make_plan(part, 23, 23, 8) for part in parts]
    arguments = make_arrays(23, 23)
    actual = pulled(lambda *a: engine.merge(*(engine.block_softmax(plan, *a) for plan in plans)), arguments)
    assert_close(actual, pulled(lambda *a: dense(CAUSAL, *a), arguments))


def test_merging_two_empty_sets_is_empty() -> None:
    nothing = jnp.zeros((1, 3, 2, 4)), jnp.full((1, 2, 3), -jnp.inf)

    def both(first: Any, second: Any) -> Any:
        joined, pull = jax.vjp(engine.merge, first, second)
        return joined, pull(jax.tree.map(jnp.ones_like, joined))

    (out, log_normaliser), gradients = jax.jit(both)(nothing, nothing)
    assert not out.any() and (log_normaliser == -jnp.inf).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_equal_logits_share_however_large_they_are() -> None:
    """Logits are multiples of 4e7, the largest of a row often in several blocks; the log of how many drowns in them."""
    query, key, value = make_arrays(37, 37)
    arguments = 1e4 * jnp.sign(query), 1e4 * jnp.sign(key), value
    plan = engine.make_plan(CAUSAL, 37, 37, 8)

    def attend(query: Any, key: Any, value: Any) -> Any:
        weights = masked_softmax(dense_logits(query, key), jnp.asarray(CAUSAL.matrix(37, 37))[None, None])
        return jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, HEADS))

    def run(function: Any) -> Any:
        out, pull = jax.vjp(function, *arguments)
        return out, pull(jnp.ones_like(out))

    assert_close(*(jax.jit(run, static_argnums=0)(f) for f in (lambda *a: engine.block_softmax(plan, *a)[0], attend)))


@pytest.mark.slow
def test_forward_mode_is_refused_and_the_definition_has_it() -> None:
    variant, (query, key, value) = make_variant("full"), make_arrays(7, 7)
    with pytest.raises(TypeError, match="can't apply forward-mode autodiff"):
        jax.jvp(lambda query: variant(query, key, value), (query,), (query,))
    _, tangent = jax.jvp(lambda query: variant.dense_weights(query, key), (query,), (query,))
    assert jnp.isfinite(tangent).all() and tangent.any()


def test_hidden_blocks_are_not_visited() -> None:
    """Causal over 8 x 8 blocks: the lower triangle; a window of one block: two diagonals."""
    assert engine.make_plan(CAUSAL, 64, 64, 8).num_pairs() == 36
    assert engine.make_plan(patterns.window(8, True), 64, 64, 8).num_pairs() == 15
    plan = engine.make_plan(patterns.window(8, True), 64, 64, 8)
    assert plan.executed_pairs() == 15 * 64


def test_unread_blocks_may_hold_anything() -> None:
    """Not only cheap: a block that nothing sees is never read."""
    query, key, value = make_arrays(24, 24)
    plan = engine.make_plan(patterns.ListedBlocks(8, ((0,), (0,), (2,))), 24, 24, 8)
    poisoned = [array.at[:, 8:16].set(jnp.nan) for array in (key, value)]

    def total(query: Any) -> Any:
        return engine.block_softmax(plan, query, *poisoned)[0].sum()

    value_and_gradient = jax.jit(jax.value_and_grad(total))(query)
    assert all(jnp.isfinite(leaf).all() for leaf in value_and_gradient)
