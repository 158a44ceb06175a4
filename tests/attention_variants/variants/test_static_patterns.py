"""Static patterns: counts and reach from the papers, limits that tie them together, bounded caches, what is skipped."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.arrays import repeat_heads
from attention_variants.conformance.cases import CASES
from attention_variants.conformance.inputs import HEADS, make_arguments
from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant

FAMILY = "softmax, static pattern"
STATIC = {name: case.variant for name, case in CASES.items() if case.variant.family == FAMILY}


def make_qkv(length: int, key_length: int | None = None) -> tuple[Any, Any, Any]:
    """Returns query, key and value: 2 sequences, with the heads of the laws."""
    query, key, value, _ = make_arguments(make_variant("full"), length, key_length, batch=2)
    return query, key, value


@pytest.mark.parametrize(
    ("spec", "visible"),
    [
        ("dilated_window:window_size=4,dilation=3", lambda i: min(4, i // 3 + 1)),
        ("sink_window:window_size=5,num_sinks=2", lambda i: min(i + 1, 7)),
        ("global_window:window_size=5,num_global=2", lambda i: min(i + 1, 7)),
        ("block_local:block_size=7", lambda i: i % 7 + 1),
        ("block_local:block_size=7,num_previous=1", lambda i: i % 7 + 1 + 7 * min(i // 7, 1)),
        ("fixed_sparse:block_size=7,num_summary=2", lambda i: i % 7 + 1 + 2 * (i // 7)),
        ("log_sparse", lambda i: 1 + i.bit_length()),  # floor(log2(i)) + 1 distances and the own key
    ],
)
def test_a_query_sees_as_many_keys_as_the_paper_says(spec: str, visible: Callable[[int], int]) -> None:
    seen = make_variant(spec).pattern(67, 67, True).sum(1)
    assert seen.tolist() == [visible(i) for i in range(67)]


@pytest.mark.parametrize(
    ("spec", "other", "modes"),
    [
        ("dilated_window:window_size=6,dilation=1", "sliding_window:window_size=6", (True, False)),
        ("sink_window:window_size=6,num_sinks=0", "sliding_window:window_size=6", (True, False)),
        ("global_window:window_size=6,num_global=0", "sliding_window:window_size=6", (True, False)),
        ("sink_window:window_size=6,num_sinks=3", "global_window:window_size=6,num_global=3", (True,)),
        ("block_local:block_size=1,num_previous=4", "sliding_window:window_size=5", (True,)),
        ("dilated_window:window_size=40,dilation=50", "sliding_window:window_size=1", (True, False)),
        ("log_sparse:window_size=3", "log_sparse:window_size=1", (True, False)),  # distances 1 and 2 are powers of two
    ],
)
def test_variants_meet_where_they_should(spec: str, other: str, modes: tuple[bool, ...]) -> None:
    first, second = make_variant(spec), make_variant(other)
    for causal in modes:
        np.testing.assert_array_equal(first.pattern(23, 23, causal), second.pattern(23, 23, causal))
        run = jax.jit(lambda q, k, v, c=causal: (first(q, k, v, causal=c), second(q, k, v, causal=c)))
        np.testing.assert_allclose(*run(*make_qkv(23)), atol=1e-5)


SIZES = [((37, 37), True), ((33, 33), True), ((37, 37), False), ((37, 11), False), ((11, 33), False)]


@pytest.mark.parametrize(
    ("name", "sizes", "causal"),
    [
        (name, sizes, causal)
        for name, variant in STATIC.items()
        for sizes, causal in SIZES
        if causal or variant.supports_bidirectional
    ],
)
def test_ideal_flops_charge_the_permitted_pairs(name: str, sizes: tuple[int, int], causal: bool) -> None:
    ideal = STATIC[name].cost(*sizes, HEADS, causal).ideal_flops
    assert ideal == 2 * 6 * (5 + 7) * STATIC[name].pattern(*sizes, causal).sum()


@pytest.mark.parametrize(
    ("spec", "most"),
    [
        ("dilated_window:window_size=64,dilation=16", 3.2),  # over the whole span it would be 16 times the window
        ("sink_window", 4.0),
        ("global_window", 4.0),
        ("block_local", 2.0),
        ("fixed_sparse", 2.0),
        ("log_sparse", 1.2),
    ],
)
def test_hidden_pairs_are_skipped(spec: str, most: float) -> None:
    for causal in (True, False):
        cost = make_variant(spec).cost(4096, 4096, HeadSizes(4, 4, 64, 64), causal)
        assert cost.executed_flops <= most * cost.ideal_flops


BOUNDED = {
    "dilated_window:window_size=4,dilation=3": 10,
    "sink_window:window_size=5,num_sinks=2": 7,
    "sink_window:window_size=3,num_sinks=0": 3,
    "global_window:window_size=5,num_global=2": 7,
    "block_local:block_size=7": 7,
    "block_local:block_size=5,num_previous=1": 10,
}


@pytest.mark.parametrize(
    "spec", [pytest.param(s, marks=pytest.mark.slow if s.startswith("dilated") else ()) for s in BOUNDED]
)
def test_a_bounded_cache_decodes_far_past_its_size(spec: str) -> None:
    variant, arguments = make_variant(spec), make_qkv(59)

    def token(cache: Any, new: Any) -> tuple[Any, Any]:
        out, cache = variant.extend(cache, *(array[:, None] for array in new))
        return cache, out[:, 0]

    def decode(arguments: Any) -> Any:
        """A prompt longer than the cache, then token by token."""
        prompt, rest = ([array[:, part] for array in arguments] for part in (slice(0, 13), slice(13, None)))
        first, cache = variant.extend(variant.init_cache(2, 59, HEADS, jnp.float32), *prompt)
        cache, outs = jax.lax.scan(token, cache, tuple(jnp.moveaxis(array, 1, 0) for array in rest))
        return jnp.concatenate([first, jnp.moveaxis(outs, 0, 1)], axis=1), cache

    out, cache = jax.jit(decode)(arguments)
    np.testing.assert_allclose(out, variant(*arguments), atol=1e-5)
    held = sum(leaf.nbytes for leaf in cache if leaf.ndim) // (2 * HEADS.token_bytes)
    assert held == BOUNDED[spec]
    assert variant.cost(1009, 1009, HEADS, True).cache_bytes == 4 * held * 3 * (5 + 7)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param("dilated_window:window_size=1073741824,dilation=1073741824", marks=pytest.mark.slow),
        "block_local:block_size=1073741824,num_previous=1073741824",
    ],
)
def test_the_largest_settings_decode(spec: str) -> None:
    """Their product, the span that a later query sees, needs more than 32 bits."""
    variant, arguments = make_variant(spec), make_qkv(5)
    seen = np.eye(5, dtype=bool) if "dilation" in spec else np.tril(np.ones((5, 5), bool))
    np.testing.assert_array_equal(variant.pattern(5, 5, True), seen)
    decoded, _ = variant.extend(variant.init_cache(2, 5, HEADS, jnp.float32), *arguments)
    np.testing.assert_allclose(decoded, variant(*arguments), atol=1e-5)


@pytest.mark.parametrize("max_length", [1, 2, 4])
def test_a_cache_smaller_than_its_bound(max_length: int) -> None:
    variant = make_variant("sink_window:window_size=3,num_sinks=2")

    def decode(arguments: Any) -> Any:
        cache, outs = variant.init_cache(2, max_length, HEADS, jnp.float32), []
        for position in range(max_length):
            out, cache = variant.extend(cache, *(array[:, position : position + 1] for array in arguments))
            outs.append(out)
        return jnp.concatenate(outs, axis=1), variant(*arguments)

    np.testing.assert_allclose(*jax.jit(decode)(make_qkv(max_length)), atol=1e-5)


@jax.tree_util.register_pytree_node_class
class PlaceBias:
    """A bias that depends on positions themselves, not on their distance only."""

    def __init__(self, scale: Any):
        self.scale = scale

    def block(self, query_positions: Any, key_positions: Any) -> Any:
        places = jnp.sin(3.0 * query_positions[:, None] + 5.0 * key_positions[None, :])
        return self.scale[:, None, None] * places[None]

    def tree_flatten(self) -> Any:
        return (self.scale,), None

    @classmethod
    def tree_unflatten(cls, _: Any, leaves: Any) -> Any:
        return cls(*leaves)


@pytest.mark.parametrize("name", ["dilated_window", "fixed_sparse", "log_sparse", "sink_window"])
@pytest.mark.parametrize(("sizes", "causal"), [((23, 23), True), ((23, 17), False)])
def test_a_bias_reads_true_positions(name: str, sizes: tuple[int, int], causal: bool) -> None:
    """Also where tokens are sorted, taken out or moved; values and gradients."""
    variant, (query, key, value) = STATIC[name], make_qkv(*sizes)

    def fast(bias: Any) -> Any:
        out = variant(query, key, value, causal=causal, bias=bias)
        return (out**2).sum(), out

    def dense(bias: Any) -> Any:
        weights = variant.dense_weights(query, key, causal=causal, bias=bias)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights, repeat_heads(value, 6))
        return (out**2).sum(), out

    bias = PlaceBias(jnp.linspace(1.0, 2.0, 6))
    both = jax.jit(lambda bias: [jax.value_and_grad(form, has_aux=True)(bias) for form in (fast, dense)])
    ((_, out), gradient), ((_, expected), expected_gradient) = both(bias)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    np.testing.assert_allclose(gradient.scale, expected_gradient.scale, rtol=1e-4)


def reach(spec: str, layers: int, causal: bool = True) -> np.ndarray:
    """Returns which position moves which after some layers."""
    steps = make_variant(spec).pattern(37, 37, causal).astype(int)
    return np.linalg.matrix_power(steps, layers) > 0


def test_log_sparse_reaches_everything_in_log_many_layers() -> None:
    causal = np.tril(np.ones((37, 37), bool))
    np.testing.assert_array_equal(reach("log_sparse", 6), causal)  # floor(log2 37) + 1 layers
    assert not np.array_equal(reach("log_sparse", 2), causal)


def test_log_sparse_counts_distances_from_the_query_not_from_the_edge_of_its_window() -> None:
    """Public code does the latter; the docstring gives both for this query."""
    seen = make_variant("log_sparse:window_size=4").pattern(64, 64, True)[40]
    window, edge = {37, 38, 39, 40}, 37
    assert set(np.flatnonzero(seen)) == window | {40 - 2**n for n in range(6)} == {8, 24, 32, 36, *window}
    assert window | {edge - 2**n for n in range(6)} == {5, 21, 29, 33, 35, 36, *window}


def test_bigbird_makes_first_tokens_global_and_no_last_ones() -> None:
    seen = make_variant("bigbird:window_size=3,num_global=4,num_random=0,block_size=4").pattern(37, 37, False)
    assert seen[:4].all() and seen[:, :4].all()
    assert not seen[4:30, -4:].any() and not seen[-4:, 4:30].any()


def test_two_layers_with_a_global_token_reach_everything() -> None:
    assert reach("global_window:window_size=3,num_global=1", 2, causal=False).all()
    assert not reach("sink_window:window_size=3,num_sinks=1", 2, causal=False).all()


def test_nothing_crosses_the_edge_of_a_block() -> None:
    np.testing.assert_array_equal(reach("block_local:block_size=7", 20), reach("block_local:block_size=7", 1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dilated_window:dilation=0", "`dilation` must be an integer >= 1; got 0"),
        ("block_local:num_previous=-1", "`num_previous` must be an integer >= 0; got -1"),
        ("fixed_sparse:block_size=4,num_summary=5", "`num_summary` must be at most 4; got 5"),
        ("sink_window:window_size=0", "`window_size` must be an integer >= 1; got 0"),
    ],
)
def test_a_wrong_field_is_named(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_variant(spec)
