"""Variants that choose keys by content: their limits, what they find, and what the future may not change."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import cost
from attention_variants.conformance.inputs import (
    Arguments,
    call,
    expect_close,
    make_arguments,
    ones_of_output,
    output_shape,
    with_gradients,
)
from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant

pytestmark = pytest.mark.slow  # every test compiles; the laws stand in for them in the quick part

LENGTH = 37


def gated(spec: str, gates: tuple[int, int, int]) -> Arguments:
    """Returns arguments of a native_sparse whose gates are fixed and whose blocks are summed."""
    arguments = make_arguments(make_variant(spec), LENGTH)
    controls = arguments.controls
    fixed = jnp.broadcast_to(jnp.asarray(gates, jnp.float32), controls.gates.shape)
    ones = jnp.ones_like(controls.key_weights)
    return arguments._replace(controls=type(controls)(fixed, ones, ones))


LIMITS = [
    ("topk:num_keys=37", "full", None, (True, False)),
    ("block_topk:block_size=5,num_blocks=8", "full", None, (True, False)),
    ("lsh:bucket_size=5,num_buckets=1,num_hashes=2", "sliding_window:window_size=5", None, (True, False)),
    ("lsh:bucket_size=4,num_buckets=1", "sliding_window:window_size=4", None, (True, False)),
    ("native_sparse:block_size=5,num_blocks=2,window_size=7", "sliding_window:window_size=7", (0, 0, 1), (True,)),
    ("native_sparse:block_size=5,num_blocks=8,window_size=1", "full", (0, 1, 0), (True,)),
    ("native_sparse:block_size=5,num_blocks=2", "block_topk:block_size=5,num_blocks=2", (0, 1, 0), (True,)),
    ("native_sparse:block_size=1,num_blocks=1", "full", (1, 0, 0), (True,)),
]


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 8])
def test_a_query_sees_no_more_than_whole_blocks_and_a_last_one_that_may_be_shorter(num_blocks: int) -> None:
    variant, pair = make_variant(f"block_topk:block_size=3,num_blocks={num_blocks}"), HeadSizes(1, 1, 1, 1)
    sizes = [3, 3, 3, 2]
    pairs = sum(  # of each query its own block and the largest others
        own * (own + sum((sizes[:place] + sizes[place + 1 :])[: num_blocks - 1])) for place, own in enumerate(sizes)
    )
    assert variant.cost(11, 11, pair, False).ideal_flops == pairs * pair.pair_flops


@pytest.mark.parametrize(("spec", "limit", "gates", "modes"), LIMITS)
def test_limit_in_value_and_gradient(spec: str, limit: str, gates: Any, modes: tuple[bool, ...]) -> None:
    variant, other = make_variant(spec), make_variant(limit)
    arguments = make_arguments(variant, LENGTH) if gates is None else gated(spec, gates)
    cotangent = jnp.asarray(np.random.RandomState(2).standard_normal(output_shape(arguments)), jnp.float32)
    for causal in modes:
        actual, gradients = with_gradients(lambda a, c=causal: call(variant, a, causal=c))(arguments, cotangent)
        plain = with_gradients(lambda a, c=causal: call(other, a._replace(controls=None), causal=c))
        expected, wanted = plain(arguments, cotangent)
        expect_close(f"{spec}, causal={causal}, output", actual, expected, 1e-5)
        expect_close(f"{spec}, causal={causal}, gradients", gradients[:3], wanted[:3], 1e-5)


@pytest.mark.parametrize("spec", ["topk:num_keys=1", "block_topk:block_size=1,num_blocks=2", "lsh:bucket_size=3"])
def test_finds_the_key_that_the_query_asks_for(spec: str) -> None:
    """Keys are unit vectors, no two alike; the last query is 50 times one of them."""
    key = np.random.RandomState(0).standard_normal((1, LENGTH, 1, 8))
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    value = np.random.RandomState(1).standard_normal(key.shape)
    for wanted in (0, 17, 35):
        query = np.zeros_like(key)
        query[0, -1] = 50 * key[0, wanted] * 8
        arrays = (jnp.asarray(array, jnp.float32) for array in (query, key, value))
        np.testing.assert_allclose(make_variant(spec)(*arrays)[0, -1], value[0, wanted], atol=1e-2)


SHARP = ["topk:num_keys=5", "block_topk:block_size=5,num_blocks=2", "lsh:bucket_size=3,num_buckets=4"]
SHARP += ["native_sparse:block_size=5,num_blocks=2,window_size=3"]


@pytest.mark.parametrize("spec", SHARP)
@pytest.mark.parametrize("position", [12, 34])  # amid a block that is finished later, and in the ragged last one
def test_a_later_key_moves_no_bit(spec: str, position: int) -> None:
    """A thousandfold key and query would change hash, means, choices and the laying of tiles."""
    variant = make_variant(spec)
    arguments = make_arguments(variant, LENGTH)
    key, query = (array.at[:, position].multiply(-1000.0) for array in (arguments.key, arguments.query))
    run = jax.jit(lambda a: call(variant, a, causal=True))
    before, after = run(arguments), run(arguments._replace(key=key, query=query))
    np.testing.assert_array_equal(before[:, :position], after[:, :position])
    assert (before[:, position:] != after[:, position:]).any()


@pytest.mark.parametrize("spec", SHARP)
def test_memory_is_linear_with_gradients(spec: str) -> None:
    """Far below the 4 x of a matrix of pairs, also for topk, which scores every pair."""
    variant = make_variant(spec.partition(":")[0])
    peaks = []
    for length in (1024, 2048):
        arguments = jax.eval_shape(lambda length=length: make_arguments(variant, length, batch=1))
        cotangent = jax.eval_shape(ones_of_output, arguments)
        peaks.append(cost.peak_memory(with_gradients(lambda a: call(variant, a)), arguments, cotangent))
    assert peaks[1] < 2.3 * peaks[0]


@pytest.mark.parametrize("field", ["num_buckets", "num_hashes"])
def test_rotations_that_fit_no_memory_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be at most"):
        make_variant(f"lsh:{field}=1000000")


def test_odd_numbers_of_buckets_are_refused() -> None:
    with pytest.raises(ValueError, match="`num_buckets` must be 1 or even; got 3"):
        make_variant("lsh:num_buckets=3")
