"""The contract that every attention variant keeps, and the checks that all of them share.

A call takes query, key and value and, for some variants, `controls`: whatever else a variant reads, such as gates,
decays, write strengths, feature maps or a sink logit. They come from the module that `make_controls` returns: computed
from the layer's input x, or learned and the same for every x. A variant declares their type in `controls_type`.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from attention_variants.arrays import KeyMask, Keys, Outputs, PatternMatrix, Queries, Values, zero_masked
from attention_variants.checks import check_integer, check_shapes
from attention_variants.layer_options import LayerOptions

if TYPE_CHECKING:
    from flax import nnx


BYTES_PER_SCALAR = 4  # of a cache: float32 numbers and int32 indices


class HeadSizes(NamedTuple):
    """Heads of a layer and their widths."""

    num_heads: int
    num_kv_heads: int  # divides num_heads
    head_dim: int  # of queries and keys
    value_dim: int  # of values and outputs

    @property
    def pair_flops(self) -> int:
        """FLOPs of the logits and the outputs of one query and one key, in all heads."""
        return 2 * self.num_heads * (self.head_dim + self.value_dim)

    @property
    def token_bytes(self) -> int:
        """Bytes of the key and the value of one token in a cache, in all heads."""
        return BYTES_PER_SCALAR * self.num_kv_heads * (self.head_dim + self.value_dim)


class Cost(NamedTuple):
    """What one call costs: one sequence, one layer, projections excluded; one multiply-add is 2 FLOPs."""

    executed_flops: int  # the matrix products of the forward fast path; equals the counter in cost.py exactly
    ideal_flops: int  # the same work charged for permitted query-key pairs only
    cache_bytes: int  # decoding state after `key_length` tokens: all arrays, integers too, except the two counters


# The families of variants, in the order of the catalogue.
CHOSEN_BY_CONTENT = "softmax, chosen by content"  # `pattern` covers every key that may be chosen
FAMILIES = (
    "softmax, every key",
    "softmax, static pattern",
    CHOSEN_BY_CONTENT,
    "modified softmax",
    "low rank",
    "linear recurrence",
    "delta rule",
)


@runtime_checkable
class Bias(Protocol):
    """An additive position bias: a small pytree, evaluated block by block so that memory stays linear."""

    def block(self, query_positions: Int[Array, " query"], key_positions: Int[Array, " key"]) -> Array:
        """Returns the bias [num_heads, query, key] of these positions.

        A bias that a variant builds itself may also depend on the sequence: [batch, num_heads, query, key].
        """


class Cache(Protocol):
    """The state that decoding carries: a NamedTuple of arrays with at least these two counters."""

    @property
    def length(self) -> Int[Array, ""]:
        """Tokens seen so far."""

    @property
    def max_length(self) -> Int[Array, ""]:
        """Tokens the cache was made for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionVariant(abc.ABC):
    """One kind of attention: a frozen, hashable set of hyperparameters that holds no arrays.

    A variant implements `_attend`, `_dense_weights`, `_init_cache`, `_extend`, `pattern` and `cost`, and declares what
    it can do in class attributes. A request for anything else raises NotImplementedError and is never ignored. The
    public methods check their arguments. They zero masked keys and values and, in self-attention, the controls of
    masked tokens, so that a NaN there cannot leak. If tokens write more than one value, a variant also defines
    `writes_per_token` and `_dense_values`, and its controls have `further_keys` and `further_values` [batch, length,
    num_kv_heads, writes_per_token - 1, width], which a layer treats like keys and values.
    """

    supports_causal: ClassVar[bool] = True
    supports_bidirectional: ClassVar[bool] = True
    supports_cross: ClassVar[bool] = True  # key_length != query_length, causal=False; controls then do not read x
    supports_bias: ClassVar[bool] = False  # additive position bias such as ALiBi
    normalised: ClassVar[bool] = True  # rows of dense_weights sum to 1
    rotated_parts: ClassVar[int] = 1  # parts of head_dim that RoPE rotates separately, cut as by `jnp.array_split`
    claims_growth: ClassVar[bool] = False  # claims the growth law: doubling the length multiplies cost by < 2.3
    controls_type: ClassVar[type | None] = None  # what the module of `make_controls` returns; None: no controls

    family: ClassVar[str]  # one of FAMILIES
    cost_order: ClassVar[str]  # "length * window_size"; where it counts widths, value_dim is about head_dim
    state_order: ClassVar[str]  # "window_size * (head_dim + value_dim)"
    paper: ClassVar[str]  # "Beltagy et al. 2020, arXiv:2004.05150"
    paper_position: ClassVar[str] = "none"  # spec of the position encoding that is part of the paper's layer
    size_field: ClassVar[str | None] = None  # sets how much a variant sees or carries; matching solves for it
    # length -> the fields of a spec whose windows, blocks and states are well below that length:
    # {16: "window_size=4", 128: "window_size=32"}. A length that is left out takes the defaults.
    examples: ClassVar[Mapping[int, str]] = {}

    def __call__(
        self,
        query: Queries,
        key: Keys,
        value: Values,
        *,
        causal: bool = True,
        key_mask: KeyMask | None = None,
        bias: Bias | None = None,
        controls: Any = None,
    ) -> Outputs:
        """The fast path.

        Inputs must be finite except where `key_mask` hides them: a NaN or an infinity in a later token may reach an
        earlier query, where it is multiplied by a weight of 0. Derivatives are reverse-mode, of any order except where
        cuDNN's kernel runs. Where an engine defines its own gradient, forward mode (`jax.jvp`, `jacfwd`, `hessian`)
        raises TypeError; the definition supports it.

        Args:
          query: [batch, query_length, num_heads, head_dim].
          key: [batch, key_length, num_kv_heads, head_dim], where num_kv_heads divides num_heads.
          value: [batch, key_length, num_kv_heads, value_dim].
          causal: a query sees keys at its own position and before; needs key_length == query_length.
          key_mask: [batch, key_length], True = may be attended. A query with no permitted key gives exactly 0.
          bias: added to the logits, for variants with `supports_bias`.
          controls: a `controls_type`, from the module of `make_controls`; None for variants without controls.

        Returns:
          [batch, query_length, num_heads, value_dim], in the dtype of `value`.

        Raises:
          ValueError: shapes or dtypes do not fit.
          NotImplementedError: the variant does not support what was asked.
        """
        query, key, value, key_mask, controls = _as_jax((query, key, value, key_mask, controls))
        self._check(query, key, value, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        if key_mask is not None:
            key, value = zero_masked(key, key_mask), zero_masked(value, key_mask)
            controls = self._zero_masked_controls(controls, key_mask)
        out = self._attend(query, key, value, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        return out.astype(value.dtype)

    def dense_weights(
        self,
        query: Queries,
        key: Keys,
        *,
        causal: bool = True,
        key_mask: KeyMask | None = None,
        bias: Bias | None = None,
        controls: Any = None,
    ) -> Float[Array, "batch num_heads query_length writes"]:
        """The definition, O(length^2): `dense_weights @ dense_values` is the output. Arguments as in `__call__`.

        Returns:
          [batch, num_heads, query_length, writes_per_token * key_length]: the weight of every write of every key.
        """
        query, key, key_mask, controls = _as_jax((query, key, key_mask, controls))
        self._check(query, key, None, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        if key_mask is not None:
            key = zero_masked(key, key_mask)
            controls = self._zero_masked_controls(controls, key_mask)
        return self._dense_weights(query, key, causal=causal, key_mask=key_mask, bias=bias, controls=controls)

    def dense_values(
        self, value: Values, *, key_mask: KeyMask | None = None, controls: Any = None
    ) -> Float[Array, "batch writes num_kv_heads value_dim"]:
        """Returns the values that `dense_weights` multiplies: those of all writes of every token, 0 where masked.

        [batch, writes_per_token * key_length, num_kv_heads, value_dim], the writes of a token in succession. With one
        write per token, this is `value`; further values come from the controls.
        """
        value, key_mask, controls = _as_jax((value, key_mask, controls))
        if not self.supports_cross:  # otherwise controls belong to the queries
            self._check_controls(controls, value)
        if key_mask is not None:
            value, controls = zero_masked(value, key_mask), self._zero_masked_controls(controls, key_mask)
        return self._dense_values(value, controls)

    def extend(
        self, cache: Any, query: Queries, key: Keys, value: Values, *, bias: Bias | None = None, controls: Any = None
    ) -> tuple[Outputs, Any]:
        """Continues causal attention by one or more tokens.

        Args:
          cache: from `init_cache` or an earlier call; never changed in place.
          query: of the new tokens, shaped as in `__call__`; any length >= 1.
          key: of the new tokens.
          value: of the new tokens.
          bias: as in `__call__`.
          controls: of the new tokens.

        Returns:
          (output, cache). The cache keeps its dtypes and may be donated. Where `cache.length` is traced (inside jit),
          tokens past the capacity give NaN.

        Raises:
          ValueError: the cache is too small for the new tokens, or was made for another batch or other `HeadSizes`.
        """
        cache, query, key, value, controls = _as_jax((cache, query, key, value, controls))
        self._check(query, key, value, causal=True, key_mask=None, bias=bias, controls=controls)
        self._check_cache(cache, query, key, value)
        fits = _fits(cache, query.shape[1])
        out, after = self._extend(cache, query, key, value, bias=bias, controls=controls)
        # Decoding carries a cache through a loop: its dtypes must not change, whatever the arguments and JAX's flags.
        cache = jax.tree.map(lambda new, old: new.astype(old.dtype), after, cache)
        return jnp.where(fits, out, jnp.nan).astype(value.dtype), cache

    def init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any:
        """Returns an empty cache, a NamedTuple of arrays, for `max_length` tokens of layers of these sizes.

        Raises:
          ValueError: a size is not a positive integer.
          NotImplementedError: the variant cannot be causal.
        """
        for name, size in {"batch": batch, "max_length": max_length, **heads._asdict()}.items():
            check_integer(name, size, 1)
        return self._init_cache(batch, max_length, heads, dtype)

    @abc.abstractmethod
    def pattern(self, query_length: int, key_length: int, causal: bool) -> PatternMatrix:
        """Returns which keys a query may see, from the definition: bool [query_length, key_length]."""

    @abc.abstractmethod
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Returns the exact cost of one call on one sequence."""

    @property
    def paper_layer(self) -> LayerOptions:
        """What the paper puts around the attention: one line in a variant, `paper_layer = LayerOptions(...)`."""
        return LayerOptions()

    @property
    def portable(self) -> "AttentionVariant":
        """The same function, in operations that every platform has and that can be counted in a jaxpr."""
        return self

    def at_depth(self, depth: int) -> "AttentionVariant":
        """Returns the variant as its paper defines it for layer `depth`, counted from 0."""
        return self

    @property
    def writes_per_token(self) -> int:
        """How many values a token adds to what queries read: its own, and further ones from the controls."""
        return 1

    @property
    def has_controls(self) -> bool:
        """Whether calls need `controls`."""
        return self.controls_type is not None

    @property
    def rotation_is_relative(self) -> bool:
        """Whether RoPE stays relative: shifting all positions equally changes no output."""
        return True

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: "nnx.Rngs") -> "nnx.Module | None":
        """Returns the module x [batch, length, model_dim] -> controls, or None unless `has_controls`.

        Controls are a pytree of type `controls_type`. The leading axes of its array leaves are [batch, length]; either
        may be 1 if all sequences or all tokens share the leaf (a learned feature map). The next axis counts key-value
        heads if a leaf belongs to keys or to a running state (a decay, a write strength), and query heads if it belongs
        to queries. Parameters are drawn from `rngs.params()`, a separate stream; constants per head are controls too.
        """
        return None

    @abc.abstractmethod
    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array: ...

    @abc.abstractmethod
    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array: ...

    def _dense_values(self, value: Array, controls: Any) -> Array:
        """The values of all writes; `value` itself unless `writes_per_token` is more than 1."""
        return value

    @abc.abstractmethod
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any: ...

    @abc.abstractmethod
    def _extend(
        self, cache: Any, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, Any]: ...

    def _check(
        self, query: Any, key: Any, value: Any, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> None:
        check_shapes(query, key, value, key_mask)
        name = type(self).__name__
        if causal and not self.supports_causal:
            raise NotImplementedError(f"{name} does not support causal=True.")
        if not causal and not self.supports_bidirectional:
            raise NotImplementedError(f"{name} does not support causal=False.")
        if bias is not None and not self.supports_bias:
            raise NotImplementedError(f"{name} does not support an additive position bias.")
        if query.shape[1] != key.shape[1]:
            if causal:
                raise ValueError(
                    "causal attention needs equal lengths; got query_length "
                    f"{query.shape[1]} and key_length {key.shape[1]}. To continue a sequence use `extend`."
                )
            if not self.supports_cross:
                raise NotImplementedError(f"{name} does not support cross-attention (key_length != query_length).")
        self._check_controls(controls, query)

    def _zero_masked_controls(self, controls: Any, key_mask: Array) -> Any:
        """Zeroes the controls of masked tokens; for self-attention only, where a token's controls belong to its key.

        A log gate or decay of 0 keeps everything and a write strength of 0 writes nothing, as if the token were absent.
        """
        if self.supports_cross:
            return controls

        def keep(leaf: Array) -> Array:
            if leaf.shape[:2] != key_mask.shape:  # shared by all sequences or all tokens
                return leaf
            return jnp.where(key_mask.reshape(key_mask.shape + (1,) * (leaf.ndim - 2)), leaf, jnp.zeros((), leaf.dtype))

        return jax.tree.map(keep, controls)

    def _check_controls(self, controls: Any, query: Any) -> None:
        got = type(controls).__name__
        if self.controls_type is None or not self.has_controls:
            if controls is not None:
                raise NotImplementedError(f"{self} has no controls; got {got} for `controls`.")
            return
        name, expected = type(self).__name__, self.controls_type.__name__
        if not isinstance(controls, self.controls_type):
            raise ValueError(
                f"{name} needs `controls`, the {expected} that the module of its make_controls returns; got {got}."
            )
        batch, length = query.shape[:2]
        for leaf in jax.tree.leaves(controls):
            if leaf.ndim < 2 or leaf.shape[0] not in (1, batch) or leaf.shape[1] not in (1, length):
                raise ValueError(
                    f"every array of {name}'s `controls` must begin with [batch {batch} or 1, length {length} or 1]; "
                    f"one has the shape {leaf.shape}."
                )

    def _check_cache(self, cache: Any, query: Any, key: Any, value: Any) -> None:
        (batch, _, num_kv_heads, head_dim), num_heads, value_dim = key.shape, query.shape[2], value.shape[3]
        heads = HeadSizes(num_heads, num_kv_heads, head_dim, value_dim)
        short, long = _cache_shapes(self, batch, heads)
        for name, got, one, many in zip(short._fields, cache, short, long, strict=True):
            # An axis that differs between short and long sequences is the length's; its size is free.
            fits = got.ndim == one.ndim and all(
                size == a or a != b for size, a, b in zip(got.shape, one.shape, many.shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"the cache must come from `init_cache` for batch {batch} and {heads}; its `{name}` is {got.shape}."
                )


def _as_jax(tree: Any) -> Any:
    """Returns a pytree with JAX arrays in place of NumPy's, which lack some methods."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, tree)


@functools.lru_cache(maxsize=256)
def _cache_shapes(variant: AttentionVariant, batch: int, heads: HeadSizes) -> tuple[Any, Any]:
    """Returns the caches of a short and of a long sequence, with shapes in place of arrays."""
    lengths = (1, 2**20)

    def make(length: int) -> Any:
        return variant.init_cache(batch, length, heads, jnp.float32)

    short, long = (jax.eval_shape(functools.partial(make, length)) for length in lengths)
    return short, long


def _fits(cache: Cache, new_tokens: int) -> Bool[Array, ""]:
    """Raises if the cache is known to be too small; otherwise returns whether it is large enough, perhaps traced."""
    fits = cache.length + new_tokens <= cache.max_length
    if not isinstance(fits, jax.core.Tracer) and not bool(fits):
        raise ValueError(
            f"the cache was made for {int(cache.max_length)} tokens and holds {int(cache.length)}; "
            f"cannot extend it by {new_tokens}."
        )
    return jnp.asarray(fits)
