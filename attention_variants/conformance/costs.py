"""Laws about what a call costs and how it behaves under JAX's transformations."""

import ast
import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from attention_variants import cost
from attention_variants.conformance.inputs import (
    BATCH,
    HEADS,
    NUM_HEADS,
    Arguments,
    Case,
    LawBroken,
    SlopeBias,
    call,
    expect,
    expect_close,
    make_arguments,
    modes,
    ones_of_output,
    random_mask,
    reaching,
    with_gradients,
)
from attention_variants.interface import AttentionVariant, HeadSizes

_GROWTH_LENGTHS = (2048, 16384)
_GROWTH_LIMIT = 2.3
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def transformations_change_nothing(case: Case) -> None:
    """jit, vmap, and a scan over layers with remat on four devices give the values and gradients of the plain call."""
    variant, causal = case.variant, modes(case.variant)[0]
    arguments = make_arguments(variant, case.length)
    cotangent = ones_of_output(arguments)

    def plain(arguments: Arguments) -> Any:
        return call(variant, arguments, causal=causal)

    def one_by_one(arguments: Arguments) -> Any:
        # A control that all sequences share is not mapped over.
        axes = jax.tree.map(lambda leaf: None if leaf.shape[0] == 1 else 0, arguments)
        split = jax.tree.map(lambda leaf: leaf if leaf.shape[0] == 1 else leaf[:, None], arguments)
        return jax.vmap(lambda a: plain(a)[0], in_axes=(axes,))(split)

    def two_layers(arguments: Arguments) -> Any:
        stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), arguments)

        def layer(carry: Any, arguments: Arguments) -> tuple[Any, None]:
            return carry + plain(arguments) / 2, None

        return jax.lax.scan(jax.checkpoint(layer), jnp.zeros_like(cotangent), stacked)[0]

    expected = case.steps[causal](arguments, cotangent)[:2]
    expect_close("without jit", plain(arguments), expected[0], 1e-5)
    expect_close("vmap, (output, gradients)", with_gradients(one_by_one)(arguments, cotangent), expected, 1e-5)
    expect(
        jax.device_count() >= 4,
        f"this law needs 4 devices, got {jax.device_count()}; before the first computation call "
        "jax.config.update('jax_num_cpu_devices', 4).",
    )
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("batch",))
    spread, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("batch",), ()))
    placed = jax.tree.map(
        lambda leaf: jax.device_put(leaf, whole if leaf.shape[0] == 1 else spread), (arguments, cotangent)
    )
    expect_close(
        "scan over layers with remat on 4 devices, (output, gradients)",
        with_gradients(two_layers)(*placed),
        expected,
        1e-5,
    )


def growth_is_as_claimed(case: Case) -> None:
    """A variant that claims less than quadratic cost: doubling the length multiplies FLOPs and memory by < 2.3.

    Checked where the claim is made, with gradient: for the variant's default settings (a `max_length` or `horizon`
    raised to the longest), over three doublings from length 2048 to 16384, since compiled temporaries come in steps.
    """
    variant = type(case.variant)(**reaching(case.variant, _GROWTH_LENGTHS[-1]))
    first, last = _GROWTH_LENGTHS
    limit = _GROWTH_LIMIT ** math.log2(last / first)
    if not variant.claims_growth:
        return
    for causal in modes(variant):
        figures = (_figures(variant, length, causal) for length in _GROWTH_LENGTHS)
        for name, before, after in zip(("FLOPs", "temporaries"), *figures, strict=True):
            expect(
                after < limit * before,
                f"from length {first} to {last} {name} grow {after / before:.2f} times (causal={causal}); less than "
                f"{limit:.2f} was claimed, {_GROWTH_LIMIT} per doubling.",
            )


@functools.lru_cache(maxsize=64)  # the cases of one variant share its default settings
def _figures(variant: AttentionVariant, length: int, causal: bool) -> tuple[int, int]:
    """Returns FLOPs and peak temporary bytes of a call with its gradient."""
    arguments = jax.eval_shape(lambda: make_arguments(variant, length, batch=1))
    shapes = arguments, jax.eval_shape(ones_of_output, arguments)
    step = with_gradients(lambda arguments: call(variant, arguments, causal=causal))
    return cost.count_flops(step, *shapes), cost.peak_memory(step, *shapes)


def cost_is_exact(case: Case) -> None:
    """cost() equals the counter over the jaxpr; the cache, its two counters left out, is as large as cost() says.

    It grows as `state_order` says.
    """
    variant, length = case.variant, case.length
    for causal in modes(variant):
        lengths = [(1, 1), (length, length), (211, 211)]
        if not causal and variant.supports_cross:
            lengths.append((length, length - 8))
        for query_length, key_length in lengths:
            arguments = make_arguments(variant, query_length, key_length, batch=1)
            said = variant.cost(query_length, key_length, HEADS, causal)
            counted = cost.count_flops(lambda a, c=causal: call(variant, a, causal=c), arguments)
            where = f"{query_length} queries, {key_length} keys, causal={causal}"
            expect(
                said.executed_flops == counted,
                f"{where}: cost() says {said.executed_flops} executed FLOPs; the counter finds {counted}.",
            )
            pairs = HEADS.pair_flops * int(variant.pattern(query_length, key_length, causal).sum())
            expect(
                0 < said.ideal_flops <= max(pairs, counted),
                f"{where}: cost() says {said.ideal_flops} ideal FLOPs; its permitted pairs come to {pairs}.",
            )
    if variant.supports_causal:
        cache = variant.init_cache(1, length, HEADS, jnp.float32)
        state = {name: leaf for name, leaf in cache._asdict().items() if name not in ("length", "max_length")}
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        said_bytes = variant.cost(length, length, HEADS, True).cache_bytes
        expect(said_bytes == held, f"cost() says {said_bytes} cache bytes; init_cache holds {held}.")
        _expect_state_order(variant)


def _expect_state_order(variant: AttentionVariant) -> None:
    """Expects the cache to grow with length and widths as `state_order` says, within a quarter."""
    wide = HEADS._replace(head_dim=64, value_dim=64)  # beside which counters and normalisers are small
    sizes = {
        "length": (4096, wide),
        "head_dim": (512, wide._replace(head_dim=128)),
        "value_dim": (512, wide._replace(value_dim=128)),
    }
    first, held = _state_order(variant, 512, wide), variant.cost(512, 512, wide, True).cache_bytes
    if not first:  # a field of 0 means another size
        return
    for name, (length, heads) in sizes.items():
        said = _state_order(variant, length, heads) / first
        grown = variant.cost(length, length, heads, True).cache_bytes / held
        expect(
            0.8 < grown / said < 1.25,
            f"state_order {variant.state_order!r} grows {said:.2f} times with {name}, and the cache {grown:.2f} times.",
        )


def _state_order(variant: AttentionVariant, length: int, heads: HeadSizes) -> float:
    """Returns the value of `state_order`."""
    fields = {field.name: getattr(variant, field.name) for field in dataclasses.fields(variant)}
    names = fields | {"length": length, "head_dim": heads.head_dim, "value_dim": heads.value_dim}
    try:
        return _value(ast.parse(variant.state_order.replace("^", "**"), mode="eval").body, names)
    except (SyntaxError, LookupError, TypeError, ValueError) as error:
        raise LawBroken(f"state_order {variant.state_order!r} is no formula of sizes and fields: {error}.") from error


def _value(node: ast.expr, names: Mapping[str, Any]) -> float:
    """Returns the value of sums, differences, products, quotients and powers of numbers and of names."""
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, names), _value(node.right, names))
    return float(names[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node))


def dtypes_are_explicit(case: Case) -> None:
    """Nothing leans on JAX's promotion of dtypes: calls, gradients and `extend` run where it is strict, in bfloat16."""
    variant, causal = case.variant, modes(case.variant)[0]
    arguments = make_arguments(variant, case.length, dtype=jnp.bfloat16)
    bias = SlopeBias(jnp.linspace(0.1, 0.5, NUM_HEADS, dtype=jnp.bfloat16)) if variant.supports_bias else None
    key_mask = random_mask(case.length)

    def attend(both: tuple[Arguments, Any]) -> Any:
        return call(variant, both[0], causal=causal, key_mask=key_mask, bias=both[1])

    def extend(cache: Any, new: Arguments) -> Any:
        return variant.extend(cache, new.query, new.key, new.value, controls=new.controls)

    with jax.numpy_dtype_promotion("strict"):
        try:
            jax.eval_shape(with_gradients(attend), (arguments, bias), ones_of_output(arguments))
            if variant.supports_causal:
                cache = variant.init_cache(BATCH, case.length, HEADS, jnp.bfloat16)
                jax.eval_shape(extend, cache, arguments)
        except ValueError as error:  # TypePromotionError is one
            expect(False, f"causal={causal}: {' '.join(str(error).split())}")


def numpy_arrays_are_taken(case: Case) -> None:
    """NumPy arrays serve as arguments, with a mask and in decoding."""
    variant = case.variant
    query, key, value, controls = jax.tree.map(np.asarray, make_arguments(variant, case.length))
    key_mask: Any = np.asarray(random_mask(case.length))
    causal = modes(variant)[0]
    try:
        jax.eval_shape(lambda: variant(query, key, value, causal=causal, key_mask=key_mask, controls=controls))
        if variant.supports_causal:
            cache = variant.init_cache(BATCH, case.length, HEADS, np.float32)
            jax.eval_shape(lambda: variant.extend(cache, query, key, value, controls=controls))
    except Exception as error:  # whatever a variant under test raises
        expect(False, f"called with NumPy arrays it raises {type(error).__name__}: {error}")


def equal_variants_do_not_retrace(case: Case) -> None:
    """Equal variants are equal, hash alike and share one trace."""
    traces = []

    def run(variant: Any, arguments: Arguments) -> Any:
        traces.append(variant)
        return call(variant, arguments, causal=modes(variant)[0])

    jitted = jax.jit(run, static_argnums=0)
    twin = dataclasses.replace(case.variant)
    expect(twin == case.variant and hash(twin) == hash(case.variant), "equal fields must make equal variants.")
    arguments = make_arguments(case.variant, case.length)
    for variant in (case.variant, twin):
        jitted.trace(variant, arguments)
    expect(len(traces) == 1, f"two equal variants were traced {len(traces)} times; expected 1.")


def wrong_arguments_are_named(case: Case) -> None:
    """A wrong shape or dtype raises ValueError; what is not supported raises NotImplementedError."""
    for kind, calls in ((ValueError, _wrong_calls), (NotImplementedError, _unsupported_calls)):
        for name, run in calls(case.variant, case.length).items():
            try:
                run()
            except Exception as error:  # whatever a variant under test raises
                got = f"{type(error).__name__}: {error}"
                expect(isinstance(error, kind), f"{name} must raise {kind.__name__}; got {got}")
                expect(len(str(error)) > 20, f"{name}: the message {str(error)!r} does not say what was expected.")
            else:
                expect(False, f"{name} must raise {kind.__name__}.")


def _wrong_calls(variant: AttentionVariant, length: int) -> dict[str, Callable[[], Any]]:
    """Returns calls with a wrong argument, by what is wrong."""
    query, key, value, controls = make_arguments(variant, length)
    attend = functools.partial(variant, causal=modes(variant)[0], controls=controls)
    wrong: dict[str, Callable[[], Any]] = {
        "query of rank 3": lambda: attend(query[0], key, value),
        "another head_dim": lambda: attend(query, key[..., :-1], value),
        "num_kv_heads no divisor": lambda: attend(query[:, :, :4], key, value),
        "value of another length": lambda: attend(query, key, value[:, 1:]),
        "an integer query": lambda: attend(query.astype(jnp.int32), key, value),
        "a float mask": lambda: attend(query, key, value, key_mask=jnp.ones((BATCH, length))),
    }
    if variant.has_controls:
        short = jax.tree.map(lambda leaf: jnp.ones((BATCH, length - 1, *leaf.shape[2:])), controls)
        for name, given in (("left out", None), ("of another type", object()), ("of another length", short)):
            wrong[f"controls {name}"] = functools.partial(attend, query, key, value, controls=given)
    if variant.supports_causal:
        wrong["causal with unequal lengths"] = lambda: attend(query[:, 1:], key, value, causal=True)
        one = make_arguments(variant, 1)
        others = {
            "another batch": (BATCH + 1, HEADS),
            "other heads": (BATCH, HEADS._replace(num_kv_heads=HEADS.num_kv_heads + 1)),
            "another value_dim": (BATCH, HEADS._replace(value_dim=HEADS.head_dim)),
        }
        for name, (batch, heads) in others.items():
            cache = variant.init_cache(batch, length, heads, jnp.float32)
            extend = functools.partial(variant.extend, cache, one.query, one.key, one.value, controls=one.controls)
            wrong[f"a cache for {name}"] = extend
        wrong["a cache for no token"] = lambda: variant.init_cache(BATCH, 0, HEADS, jnp.float32)
    return wrong


def _unsupported_calls(variant: AttentionVariant, length: int) -> dict[str, Callable[[], Any]]:
    """Returns calls that ask for what the variant does not support, by what that is."""
    query, key, value, controls = make_arguments(variant, length)
    attend = functools.partial(variant, causal=modes(variant)[0], controls=controls)
    a_bias: Any = object()
    calls: dict[str, tuple[bool, Callable[[], Any]]] = {
        "causal": (variant.supports_causal, lambda: attend(query, key, value, causal=True)),
        "bidirectional": (variant.supports_bidirectional, lambda: attend(query, key, value, causal=False)),
        "cross": (variant.supports_cross, lambda: attend(query[:, 1:], key, value, causal=False)),
        "bias": (variant.supports_bias, lambda: attend(query, key, value, bias=a_bias)),
        "controls": (variant.has_controls, lambda: attend(query, key, value, controls=query)),
    }
    return {name: call for name, (supported, call) in calls.items() if not supported}
