"""What the laws share: cases, random arguments, comparison."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attention_variants import arrays
from attention_variants.interface import AttentionVariant, HeadSizes

BATCH = 4
HEADS = HeadSizes(num_heads=6, num_kv_heads=3, head_dim=5, value_dim=7)  # distinct, so that a swapped axis cannot pass
NUM_HEADS, NUM_KV_HEADS, HEAD_DIM, VALUE_DIM = HEADS
MODEL_DIM = 11
_SMALLEST_SCALE = 0.3  # arguments are standard normal: what is smaller is the rounding of terms that cancel
TOLERANCE = {jnp.dtype(jnp.float32): 1e-5, jnp.dtype(jnp.bfloat16): 4e-2}  # of the largest entry of the reference


class LawBroken(AssertionError):
    """A law does not hold; the message says where and by how much."""


class Picture(NamedTuple):
    """What a variant shows causally at a short length, drawn by hand from its definition."""

    variant: AttentionVariant
    drawing: str  # a line per query: "1" for a key that it sees, "." for one that it does not

    def matrix(self) -> np.ndarray:
        """Returns the drawing as a bool matrix [length, length]."""
        return np.array([[character == "1" for character in line.split()] for line in self.drawing.strip().split("\n")])


@dataclasses.dataclass(frozen=True)
class Case:
    """A variant at a size where its special features show.

    Attributes:
      variant: small enough that windows, blocks and chunks end well within `length`.
      length: a prime.
      limit: the same kind of attention with settings that make it full attention at `length`, if there are any.
      sharp: whether `variant` must differ from full attention at `length`, as it should in a table of cases.
      picture: the same kind of attention at a short length, if its pattern is static.
    """

    variant: AttentionVariant
    length: int = 37
    limit: AttentionVariant | None = None
    sharp: bool = True
    picture: Picture | None = None

    def lengths(self) -> tuple[int, ...]:
        """Returns awkward lengths: 1, `length`, and one less than, equal to and one more than each size of the variant.

        Sizes are the fields that count tokens; by convention their names end in `_size`, or are `stride`.
        """
        sizes = {
            getattr(self.variant, field.name)
            for field in dataclasses.fields(self.variant)
            if field.name.endswith(("_size", "stride"))
        }
        edges = {size + offset for size in sizes for offset in (-1, 0, 1)}
        return tuple(sorted({1, self.length} | {edge for edge in edges if 1 < edge < self.length}))

    @functools.cached_property
    def steps(self) -> dict[bool, Callable[..., Any]]:
        """The fast path's `step` for each value of `causal`; shared, so that the laws compile each program once."""
        return {causal: step(call, self.variant, causal) for causal in modes(self.variant)}

    @functools.cached_property
    def definitions(self) -> dict[bool, Callable[..., Any]]:
        """The definition's `step` for each value of `causal`, shared as `steps` are; takes and returns float64."""
        return {causal: _in_float64(step(call_dense, self.variant, causal)) for causal in modes(self.variant)}

    @functools.cached_property
    def extend(self) -> Callable[[Any, Any], Any]:
        """The jitted `(cache, new arguments) -> (output, cache)`, shared as `steps` are; donates the cache."""

        def run(cache: Any, new: Arguments) -> Any:
            return self.variant.extend(cache, new.query, new.key, new.value, controls=new.controls)

        return jax.jit(run, donate_argnums=0)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the programs behind when a case goes to another process."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


class Arguments(NamedTuple):
    """One call; `controls` is None for most variants."""

    query: Any
    key: Any
    value: Any
    controls: Any


def make_arguments(
    variant: AttentionVariant,
    query_length: int,
    key_length: int | None = None,
    *,
    num_kv_heads: int = NUM_KV_HEADS,
    dtype: Any = jnp.float32,
    seed: int = 0,
    batch: int = BATCH,
) -> Arguments:
    """Returns random arguments of one call."""
    random = np.random.RandomState(seed)

    def normal(*shape: int) -> Any:
        return cast(random.standard_normal(shape), dtype)

    key_length = key_length or query_length
    query = normal(batch, query_length, NUM_HEADS, HEAD_DIM)
    key, value = (normal(batch, key_length, num_kv_heads, dim) for dim in (HEAD_DIM, VALUE_DIM))
    controls = variant.make_controls(MODEL_DIM, HEADS._replace(num_kv_heads=num_kv_heads), rngs=nnx.Rngs(seed))
    if controls is not None:
        draw_zeros(controls, random)
        controls = cast(controls(cast(normal(batch, query_length, MODEL_DIM), jnp.float32)), dtype)
    return Arguments(query, key, value, controls)


def output_shape(arguments: Arguments) -> tuple[int, ...]:
    """Returns the shape of the output, [batch, query_length, num_heads, value_dim]."""
    return *arguments.query.shape[:3], arguments.value.shape[3]


def ones_of_output(arguments: Arguments) -> Any:
    """Returns a cotangent of the output: ones."""
    return cast(np.ones(output_shape(arguments)), arguments.query.dtype)


def reaching(variant: AttentionVariant, length: int) -> dict[str, int]:
    """Returns the fields, `max_length` or `horizon`, that let a variant take rows of a length, set to that length."""
    return {name: length for name in ("max_length", "horizon") if hasattr(variant, name)}


def draw_zeros(module: nnx.Module, random: np.random.RandomState) -> None:
    """Draws the parameters that start at zero; else what they multiply would not depend on the token in any law."""
    for _, param in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        drawn = random.standard_normal(param.shape) / np.sqrt(MODEL_DIM)
        param[...] = jnp.where(jnp.any(param[...] != 0), param[...], jnp.asarray(drawn, param.dtype))


def cut(arguments: Arguments, start: int, stop: int) -> Arguments:
    """Returns the positions from `start` to `stop`; a control that all tokens share stays whole."""
    length = arguments.query.shape[1]
    return jax.tree.map(lambda leaf: leaf[:, start:stop] if leaf.shape[1] == length else leaf, arguments)


def random_mask(key_length: int, seed: int = 1) -> Any:
    """Returns a key mask [batch, key_length]: about a third masked, the first key visible except in the last row."""
    mask = np.random.RandomState(seed).random_sample((BATCH, key_length)) < 0.7
    mask[:, 0] = True
    if key_length > 1:
        mask[-1, 0] = False  # leaves its first causal query with no key
    return jnp.asarray(mask)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SlopeBias:
    """A small position bias with a learned leaf, to check that values and gradients pass through."""

    slopes: Any  # [num_heads]

    def block(self, query_positions: Any, key_positions: Any) -> Any:
        """Returns -slope * distance, [num_heads, query, key]."""
        distance = jnp.abs(query_positions[:, None] - key_positions[None, :])
        return -self.slopes[:, None, None] * distance[None].astype(self.slopes.dtype)


def call(variant: AttentionVariant, arguments: Arguments, **options: Any) -> Any:
    """Returns the fast path's output."""
    query, key, value, controls = arguments
    return variant(query, key, value, controls=controls, **options)


def call_dense(variant: AttentionVariant, arguments: Arguments, **options: Any) -> Any:
    """Returns `dense_weights @ dense_values`."""
    query, key, value, controls = arguments
    weights = variant.dense_weights(query, key, controls=controls, **options)
    values = variant.dense_values(value, key_mask=options.get("key_mask"), controls=controls)
    values = arrays.repeat_heads(values, query.shape[2]).astype(weights.dtype)
    return jnp.einsum("bhqw,bwhd->bqhd", weights, values, precision="highest")


def with_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the jitted `(arguments, cotangent, *rest) -> (output, gradients of the arguments)`."""

    def both(arguments: Any, cotangent: Any, *rest: Any) -> Any:
        output, pull = jax.vjp(lambda arguments: function(arguments, *rest), arguments)
        expect(output.shape == cotangent.shape, f"the output must be {cotangent.shape}; got {output.shape}.")
        return output, pull(cotangent.astype(output.dtype))[0]

    return jax.jit(both)


def step(form: Callable[..., Any], variant: AttentionVariant, causal: bool) -> Callable[..., Any]:
    """Returns the jitted `(arguments, cotangent, key_mask=None, bias=None) -> (output, gradients, that of the bias)`.

    Args:
      form: `call` or `call_dense`.
      variant: what is called.
      causal: as in the call.
    """
    attend = with_gradients(lambda both, mask: form(variant, both[0], causal=causal, key_mask=mask, bias=both[1]))

    def run(arguments: Arguments, cotangent: Any, key_mask: Any = None, bias: Any = None) -> Any:
        output, gradients = attend((arguments, bias), cotangent, key_mask)
        return output, *gradients

    return run


def _in_float64(run: Callable[..., Any]) -> Callable[..., Any]:
    def wide(arguments: Arguments, cotangent: Any, key_mask: Any = None, bias: Any = None) -> Any:
        with jax.enable_x64(True):
            arguments, cotangent, bias = cast((arguments, cotangent, bias), jnp.float64)
            return run(arguments, cotangent, key_mask, bias)

    return wide


def cast(tree: Any, dtype: Any) -> Any:
    """Casts the floating leaves of a pytree; in NumPy where it can, as JAX compiles a program for each shape."""

    def one(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        if isinstance(leaf, jax.core.Tracer):
            return leaf.astype(dtype)
        return jax.device_put(np.asarray(leaf).astype(dtype))

    return jax.tree.map(one, tree)


def expect_close(what: str, actual: Any, expected: Any, tolerance: float) -> None:
    """Compares pytrees leaf by leaf, relative to the largest entry of each; names the worst leaf."""
    leaves = zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, leaf), reference in leaves:
        leaf, reference = np.asarray(leaf, np.float64), np.asarray(reference, np.float64)
        name = what + jax.tree_util.keystr(path)
        if leaf.shape != reference.shape:
            raise LawBroken(f"{name}: expected shape {reference.shape}; got {leaf.shape}.")
        if not np.isfinite(leaf).all():
            raise LawBroken(f"{name}: not finite.")
        scale = max(np.abs(reference).max(initial=0.0), _SMALLEST_SCALE)
        error = np.abs(leaf - reference).max(initial=0.0) / scale
        if not error <= tolerance:
            raise LawBroken(f"{name}: differs by {error:.2e} of the largest entry; at most {tolerance:.0e} is allowed.")


def expect(condition: Any, message: str) -> None:
    """Raises LawBroken with `message` unless the condition holds."""
    if not bool(condition):
        raise LawBroken(message)


def modes(variant: AttentionVariant) -> tuple[bool, ...]:
    """Returns the values of `causal` that the variant supports."""
    supported = {True: variant.supports_causal, False: variant.supports_bidirectional}
    return tuple(causal for causal, supports in supported.items() if supports)
