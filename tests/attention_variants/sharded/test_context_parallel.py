"""A sequence split along its length over devices gives the values and gradients of the whole, for every engine."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from attention_variants.conformance.inputs import (
    BATCH,
    NUM_HEADS,
    LawBroken,
    SlopeBias,
    call,
    expect_close,
    make_arguments,
    ones_of_output,
    random_mask,
    step,
)
from attention_variants.conformance.layers import decode
from attention_variants.engines.block_softmax import BlockPlan
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import HeadSizes
from attention_variants.module import MultiHeadAttention
from attention_variants.positions import make_position
from attention_variants.registry import VARIANTS, example_spec, make_variant
from attention_variants.sharded import context_parallel, exchange, keys, states
from attention_variants.sharded.exchange import with_neighbours
from attention_variants.sharded.variant import SPLITS

LENGTH = 32  # 8 or 4 tokens for each device
ENGINES = {  # the cases of each: spec, causal
    "block softmax, keys gathered": [
        ("full:block_size=8", True),
        ("full:block_size=8", False),
        ("bigbird:window_size=7,num_global=2,num_random=1,block_size=8", False),
        ("differential:block_size=8", True),
        ("softmax_sink:block_size=8", True),
        ("forgetting:block_size=8", True),
    ],
    "block softmax, a halo": [
        ("sliding_window:window_size=5", True),
        ("sliding_window:window_size=12", False),
        ("dilated_window:window_size=4,dilation=3", True),
    ],
    "block sigmoid": [("sigmoid:block_size=8", True), ("sigmoid:block_size=8", False)],
    "top-k": [("topk:num_keys=5", True)],
    "linear recurrence": [("linear:chunk_size=3", True), ("cosformer:horizon=64,chunk_size=3", True)],
    "linear recurrence, a decay per head": [("retention:chunk_size=3", True), ("state_space:chunk_size=3", True)],
    "linear recurrence, decays per channel": [
        ("gated_linear:gate_rank=2,chunk_size=3", True),
        ("rwkv6:decay_rank=2,chunk_size=3", True),
    ],
    "linear sum": [("linear", False)],
    "delta rule": [("delta:chunk_size=3", True), ("kimi_delta:chunk_size=3", True)],
    "delta rule, several writes": [("gated_delta_product:num_steps=2,chunk_size=3", True)],
}
ALWAYS = {("sliding_window:window_size=5", True, 8), ("linear:chunk_size=3", True, 4)}


def rows():
    """The first case of each engine on 8 devices, too."""
    for cases in ENGINES.values():
        for number, (spec, causal) in enumerate(cases):
            for devices in (4,) if number else (4, 8):
                row = spec, causal, devices
                yield pytest.param(*row, marks=() if row in ALWAYS else pytest.mark.slow)


def mesh_of(number):
    return Mesh(np.asarray(jax.devices()[:number]), ("length",))


def compare(spec, causal, devices, masked=True):
    """With a mask and, where it can be, a bias: gradients of all arguments and of the bias."""
    variant = make_variant(spec)
    split, given = context_parallel(variant, mesh_of(devices), "length"), make_arguments(variant, LENGTH)
    mask = random_mask(LENGTH) if masked else None
    bias = SlopeBias(jnp.linspace(0.1, 0.5, NUM_HEADS)) if variant.supports_bias and masked else None
    whole, parts = (step(call, v, causal)(given, ones_of_output(given), mask, bias) for v in (variant, split))
    expect_close("split, (output, gradients, that of the bias)", parts, whole, 1e-5)


@pytest.mark.parametrize(("spec", "causal", "devices"), list(rows()))
def test_split_equals_whole(spec, causal, devices):
    compare(spec, causal, devices)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["sliding_window:window_size=5", "gated_delta:chunk_size=3"])
def test_split_equals_whole_without_a_mask(spec):
    compare(spec, True, 4, masked=False)


# What cannot be split, and why.
WHOLE = {
    "block_topk": "tiles of queries that chose one block are laid out over the whole sequence",
    "native_sparse": "the same",
    "lsh": "buckets are sorted over the whole sequence",
    "linformer": "keys are projected along the whole sequence",
    "nystrom": "landmarks are means over the whole sequence",
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_split_or_refused_in_one_line(name):
    if name not in WHOLE:
        assert isinstance(make_variant(name), tuple(SPLITS)), f"say in WHOLE why {name} cannot be split"
        assert context_parallel(make_variant(name), mesh_of(4), "length").variant == make_variant(name)
        return
    with pytest.raises(NotImplementedError, match=f"^{VARIANTS[name].__name__} cannot be split .*rules can.$"):
        context_parallel(make_variant(name), mesh_of(4), "length")


@pytest.mark.parametrize("base", ["retention", "gated_delta", "sliding_window", "topk"])
def test_a_subclass_that_computes_something_else_is_refused(base):
    """The split runs the family's own computation; a faster form of the same function does no harm."""

    def subclass(name, *methods):
        body = {method: lambda self, *_, **__: None for method in methods}
        return dataclasses.dataclass(frozen=True, kw_only=True)(type(name, (type(make_variant(base)),), body))()

    context_parallel(subclass("Faster", "_attend"), mesh_of(4), "length")
    with pytest.raises(NotImplementedError, match="^Other cannot be split .* something else than its family"):
        context_parallel(subclass("Other", "_attend", "_dense_weights"), mesh_of(4), "length")


def collectives(jaxpr, found):
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("all_gather", "ppermute", "psum", "psum_invariant", "all_to_all"):
            found.append((equation.primitive.name, sum(v.aval.size for v in equation.outvars)))
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    collectives(inner, found)
    return found


TOLD = {
    "full": {"all_gather": 2},
    "sliding_window:window_size=5": {"ppermute": 1},
    "linear": {"all_gather": 1},
    "gated_linear": {"all_gather": 1},
    "delta": {"all_gather": 1},
}


@pytest.mark.parametrize("spec", TOLD)
def test_what_devices_tell_each_other_grows_with_the_length_only_where_keys_are_gathered(spec):
    variant = make_variant(spec)
    split = context_parallel(variant, mesh_of(4), "length")
    sizes = []
    for length in (64, 128):
        given = jax.eval_shape(lambda length=length: make_arguments(variant, length))
        found = collectives(jax.make_jaxpr(lambda given: call(split, given))(given).jaxpr, [])
        kinds, per_kind = {kind for kind, _ in found}, sum(size for _, size in found)
        assert kinds == set(TOLD[spec])
        sizes.append(per_kind)
    (growth,) = TOLD[spec].values()
    assert sizes[1] == growth * sizes[0]


@pytest.mark.parametrize("name", [name for name, kind in VARIANTS.items() if issubclass(kind, StaticPatternVariant)])
def test_the_plans_of_all_devices_together_execute_what_the_whole_does(name):
    """But for the four that have a layout of their own, which is not split: theirs touch more."""
    variant = make_variant(example_spec(name, 128))
    parts = [variant.plan_from(first, 64, 512, True).executed_pairs() for first in range(0, 512, 64)]
    assert parts[-1] >= parts[0]
    if name in ("dilated_window", "strided_sparse", "fixed_sparse", "log_sparse"):
        pair = HeadSizes(1, 1, 1, 1)
        assert sum(parts) > 6 * variant.cost(512, 512, pair, True).executed_flops / pair.pair_flops
    else:
        assert sum(parts) == variant.plan(512, 512, True).executed_pairs()


@pytest.mark.parametrize("before, after", [(0, 0), (3, 0), (4, 4), (9, 2), (1, 11), (40, 0)])
def test_neighbours_are_those_of_the_sequence_and_zeros_beyond_its_ends(before, after):
    x = np.random.RandomState(0).standard_normal((2, 32, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (before, after), (0, 0)))
    split = PartitionSpec(None, "length")
    share = functools.partial(with_neighbours, axis="length", before=before, after=after)
    run = jax.shard_map(share, mesh=mesh_of(8), in_specs=split, out_specs=split)
    found = np.asarray(jax.jit(run)(x)).reshape(2, 8, -1, 3)
    for place in range(8):
        np.testing.assert_array_equal(found[:, place], padded[:, 4 * place : 4 * place + before + 4 + after])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gated_delta", "sliding_window"])
def test_a_layer_with_its_surroundings_beside_a_split_batch(name):
    """The mesh has a second axis, for the batch; positions, convolutions, gates and norms are the compiler's."""
    variant = make_variant(name)
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "length"))
    kind = functools.partial(MultiHeadAttention, position=make_position("rope"), options=variant.paper_layer)
    whole, split = (
        kind(v, 4 * NUM_HEADS, NUM_HEADS, rngs=nnx.Rngs(params=0, controls=1))
        for v in (variant, context_parallel(variant, mesh, "length"))
    )
    x = jnp.asarray(np.random.RandomState(0).standard_normal((BATCH, LENGTH, 4 * NUM_HEADS)), jnp.float32)

    def loss(graph, state, x):
        out = nnx.merge(graph, state)(x)
        return jnp.square(out).sum(), out

    results = []
    for layer, sharding in ((whole, None), (split, NamedSharding(mesh, PartitionSpec("data", "length")))):
        graph, state = nnx.split(layer)
        results.append(
            jax.jit(jax.value_and_grad(functools.partial(loss, graph), has_aux=True))(
                state, x if sharding is None else jax.device_put(x, sharding)
            )
        )
    (_, expected), gradient = results[0]
    (_, out), found = results[1]
    expect_close("layer", out, expected, 1e-5)
    expect_close("gradients", found, gradient, 1e-4)  # sums over all tokens, in another order
    expect_close("decoding, which is not split", decode(split, x[:, :13]), decode(whole, x[:, :13]), 1e-5)


def test_beside_another_axis_it_need_not_be_compiled_by_its_caller():
    mesh = Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("data", "length"))
    query, key, value = (
        jnp.asarray(rows_of, jnp.float32) for rows_of in np.random.RandomState(0).randn(3, 2, 10, 2, 3)
    )
    for spec in ("full", "linear"):
        variant = make_variant(spec)
        out = context_parallel(variant, mesh, "length")(query, key, value, causal=True)
        expect_close(spec, out, variant(query, key, value, causal=True), 1e-5)


def late_by_one(patch):
    """Each device takes the state of the one after it."""
    plain = exchange.incoming

    def wrong(own, start, follow, axis):
        return follow(plain(own, start, follow, axis), own)

    patch.setattr(states, "incoming", wrong)


def no_decay(patch):
    patch.setattr(states, "_step", lambda *given: (s := STEP(*given))._replace(left=jnp.ones_like(s.left)))


def halo_of_the_other_side(patch):
    patch.setattr(
        keys, "with_neighbours", lambda array, axis, before, after: with_neighbours(array, axis, after, before)
    )


def halo_one_short(patch):
    def short(array, axis, before, after):
        found = with_neighbours(array, axis, before, after)
        return jnp.concatenate([jnp.zeros_like(found[:, :1]), found[:, 1:]], axis=1)

    patch.setattr(keys, "with_neighbours", short)


def queries_of_the_first_device(patch):
    patch.setattr(
        StaticPatternVariant, "plan_from", lambda self, first, *sizes: dataclasses.replace(PLAN(self, 0, *sizes))
    )


def constant_turn(patch):
    patch.setattr(states, "_turn", lambda rule: jax.lax.stop_gradient(TURN(rule)))


def unsummed(patch):
    patch.setattr(jax.lax, "psum", lambda sums, axis: sums)


STEP, TURN, PLAN = states._step, states._turn, StaticPatternVariant.plan_from
BUGS = [
    (late_by_one, "linear:chunk_size=3", True),
    (no_decay, "retention:chunk_size=3", True),
    (halo_of_the_other_side, "sliding_window:window_size=5", True),
    (halo_one_short, "sliding_window:window_size=5", True),
    (queries_of_the_first_device, "full", True),
    (constant_turn, "delta:chunk_size=3", True),
    (unsummed, "linear", False),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "spec", "causal"), BUGS)
def test_a_planted_bug_is_caught(plant, spec, causal, monkeypatch):
    plant(monkeypatch)
    with pytest.raises((LawBroken, TypeError), match="differs|incompatible|not finite"):
        compare(spec, causal, 4)


def test_wrong_calls_are_named():
    variant, mesh = make_variant("linear"), mesh_of(4)
    with pytest.raises(ValueError, match="`axis` must be one of the mesh's, 'length'; got 'time'."):
        context_parallel(variant, mesh, "time")
    explicit = jax.make_mesh((4,), ("length",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:4])
    with pytest.raises(ValueError, match="axes of type Auto"):
        context_parallel(variant, explicit, "length")
    with pytest.raises(NotImplementedError, match="cudnn cannot be split along the length. Choose auto or xla."):
        context_parallel(make_variant("full:implementation=cudnn"), mesh, "length")
    given = make_arguments(variant, 30)
    with pytest.raises(ValueError, match="multiple of the 4 devices along 'length' of the mesh; got 30."):
        call(context_parallel(variant, mesh, "length"), given)
    cross = make_arguments(make_variant("full"), 8, 12)
    with pytest.raises(NotImplementedError, match="attention to another sequence cannot be split"):
        call(context_parallel(make_variant("full"), mesh, "length"), cross, causal=False)


def test_a_split_variant_is_hashable_and_declares_what_the_variant_does():
    one, other = (context_parallel(make_variant("delta_product"), mesh_of(4), "length") for _ in range(2))
    assert one == other and hash(one) == hash(other) and one != dataclasses.replace(one, mesh=mesh_of(2))
    assert not one.supports_bidirectional and one.writes_per_token == 2 and one.paper_layer == one.variant.paper_layer
    assert isinstance(make_variant("full").plan(8, 8, True), BlockPlan)
