"""Multi-head attention as a Flax module: the projections around any attention variant, and its decoding cache."""

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from attention_variants.checks import check_integer
from attention_variants.engines.causal_convolution import causal_convolution
from attention_variants.interface import AttentionVariant, HeadSizes
from attention_variants.positions import NoPosition, Position

Stream = Float[Array, "batch length model_dim"]


class AttentionCache(NamedTuple):
    """What one layer carries while decoding."""

    attention: Any  # the variant's own cache
    history: Float[Array, "batch past model_dim"]  # the last kernel_size - 1 inputs of the short convolution

    @property
    def length(self) -> Int[Array, ""]:
        """Tokens seen so far; the next token's position."""
        return self.attention.length

    @property
    def max_length(self) -> Int[Array, ""]:
        """Tokens the cache was made for."""
        return self.attention.max_length


class MultiHeadAttention(nnx.Module):
    """Projects x to queries, keys and values, lets a variant mix them, and projects the result.

    Under one seed the projections of all variants are bit-identical: `rngs.params()` draws them, in a fixed order, and
    `rngs.controls()` is drawn from exactly once, for whatever the variant learns beyond them.

    Self-attention reads queries, keys, values and controls from x, behind the short convolution if there is one.
    Cross-attention (`context`) reads keys and values from the context instead. Positions of two different sequences
    have no common origin, so there they are not applied, and the convolution acts on x alone.
    """

    def __init__(
        self,
        variant: AttentionVariant,
        model_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        position: Position = NoPosition(),  # noqa: B008 - frozen
        qk_norm: bool = False,
        short_conv: int = 0,
        rngs: nnx.Rngs,
    ):
        """Builds the layer.

        Args:
          variant: the attention, an object (see `registry.make_variant`).
          model_dim: width of x.
          num_heads: query heads; divides model_dim.
          num_kv_heads: key and value heads; divides num_heads. None: as many as num_heads.
          position: rotates queries and keys; what it adds at the model's input is the model's business.
          qk_norm: RMS-normalise queries and keys per head, with a learned scale.
          short_conv: kernel size of a causal depthwise convolution of x before the projections; 0: none.
          rngs: streams `params` and `controls`.

        Raises:
          ValueError: a size is not positive, or one does not divide the other.
        """
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        _check_sizes(variant, position, model_dim, num_heads, num_kv_heads, short_conv)
        self.variant, self.position = variant, position
        self.model_dim, self.num_heads, self.num_kv_heads = model_dim, num_heads, num_kv_heads
        self.head_dim = head_dim = model_dim // num_heads
        self.query = _linear(model_dim, num_heads * head_dim, rngs)
        self.key = _linear(model_dim, num_kv_heads * head_dim, rngs)
        self.value = _linear(model_dim, num_kv_heads * head_dim, rngs)
        self.output = _linear(num_heads * head_dim, model_dim, rngs)
        self.query_norm = nnx.RMSNorm(head_dim, rngs=rngs) if qk_norm else None
        self.key_norm = nnx.RMSNorm(head_dim, rngs=rngs) if qk_norm else None
        # Variance 1 / kernel_size per tap keeps the scale of x.
        kernel_init = nnx.initializers.normal(max(short_conv, 1) ** -0.5)
        self.bias = position.make_bias(num_heads, rngs=rngs)
        if self.bias is not None and not variant.supports_bias:
            name = type(variant).__name__
            raise NotImplementedError(f"{name} does not support an additive position bias such as {position}.")
        self.conv_kernel = nnx.Param(kernel_init(rngs.params(), (short_conv, model_dim))) if short_conv else None
        streams = nnx.Rngs(rngs.controls())
        heads = HeadSizes(num_heads, num_kv_heads, head_dim, head_dim)
        self.controls = variant.make_controls(model_dim, heads, rngs=streams)

    def __call__(
        self,
        x: Stream,
        *,
        context: Float[Array, "batch context_length model_dim"] | None = None,
        causal: bool = True,
        key_mask: Bool[Array, "batch key_length"] | None = None,
        positions: Int[Array, " length"] | None = None,
    ) -> Stream:
        """Attends over a whole sequence.

        Args:
          x: [batch, length, model_dim].
          context: [batch, context_length, model_dim]: attend to this instead of to x itself; needs causal=False.
          causal: a token sees itself and what came before.
          key_mask: [batch, length], or [batch, context_length] with a context; False is padding, read as zeros.
          positions: [length], where the tokens of x stand for the position encoding; None: 0, 1, 2 ...

        Returns:
          [batch, length, model_dim], in the dtype of x.

        Raises:
          ValueError: shapes do not fit, or causal attention to a context.
          NotImplementedError: the variant does not support what was asked.
        """
        self._check_input("x", x)
        if context is not None:
            self._check_input("context", context)
            self._check_cross(causal)
        source = x if context is None else context
        if key_mask is not None:
            if key_mask.shape != source.shape[:2]:
                raise ValueError(f"`key_mask` must be [batch, key_length] {source.shape[:2]}; got {key_mask.shape}.")
            # Not only the variant but also projections, convolution and controls must not meet a NaN in padding.
            source = jnp.where(key_mask[:, :, None], source, jnp.zeros((), source.dtype))
        x, _ = self._convolve(source if context is None else x, self._no_history(x.shape[0], x.dtype))
        if context is None:
            query, key, value = self._project(x, x, jnp.arange(x.shape[1]) if positions is None else positions)
        else:
            query, key, value = self._project(x, source, None)
        controls = None if self.controls is None else self.controls(self._wide(x))
        bias = None if self.bias is None or context is not None else self.bias(causal, positions)
        attend = functools.partial(self.variant, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        return self._merge(attend(query, key, value))

    def init_cache(self, batch: int, max_length: int, dtype: Any = jnp.float32) -> AttentionCache:
        """Returns an empty cache for `max_length` tokens of causal self-attention."""
        heads = HeadSizes(self.num_heads, self.num_kv_heads, self.head_dim, self.head_dim)
        attention = self.variant.init_cache(batch, max_length, heads, dtype)
        return AttentionCache(attention, self._no_history(batch, dtype))

    def extend(self, cache: AttentionCache, x: Stream) -> tuple[Stream, AttentionCache]:
        """Continues a sequence by the tokens x [batch, new_length, model_dim], one or more.

        Returns:
          (output, cache): what `__call__` with causal=True gives at these positions.

        Raises:
          ValueError: shapes do not fit, or the cache is too small for the new tokens.
        """
        self._check_input("x", x)
        if cache.history.shape[0] != x.shape[0]:
            raise ValueError(f"the cache was made for batch {cache.history.shape[0]}; got x of shape {x.shape}.")
        x, history = self._convolve(x, cache.history)
        query, key, value = self._project(x, x, cache.length + jnp.arange(x.shape[1]))
        controls = None if self.controls is None else self.controls(self._wide(x))
        bias = None if self.bias is None else self.bias(True)
        out, attention = self.variant.extend(cache.attention, query, key, value, bias=bias, controls=controls)
        return self._merge(out), AttentionCache(attention, history.astype(cache.history.dtype))

    def _project(self, x: Array, source: Array, positions: Array | None) -> tuple[Array, Array, Array]:
        """Returns query, key, value [batch, length, heads, head_dim]; `positions` None: not rotated."""
        query, key, value = (
            _dense(linear, array).reshape(*array.shape[:2], -1, self.head_dim)
            for linear, array in ((self.query, x), (self.key, source), (self.value, source))
        )
        if self.query_norm is not None and self.key_norm is not None:
            query = self.query_norm(self._wide(query)).astype(x.dtype)
            key = self.key_norm(self._wide(key)).astype(x.dtype)
        if positions is not None:
            parts = self.variant.rotated_parts
            query, key = (self.position.rotate_parts(array, positions, parts) for array in (query, key))
        return query, key, value

    def _wide(self, x: Array) -> Array:
        """Returns x as Flax's layers would promote it that meet it with parameters."""
        return x.astype(max(x.dtype, self.query.kernel.dtype, key=lambda dtype: jnp.finfo(dtype).bits))

    def _merge(self, out: Array) -> Array:
        return _dense(self.output, out.reshape(*out.shape[:2], -1))

    def _no_history(self, batch: int, dtype: Any) -> Array:
        past = 0 if self.conv_kernel is None else self.conv_kernel.shape[0] - 1
        return jnp.zeros((batch, past, self.model_dim), dtype)

    def _convolve(self, x: Array, history: Array) -> tuple[Array, Array]:
        """Returns the convolution of x and the last inputs; x itself without a kernel."""
        if self.conv_kernel is None:
            return x, history
        return causal_convolution(x, history, self.conv_kernel[...])

    def _check_input(self, name: str, x: Any) -> None:
        if x.ndim != 3 or x.shape[2] != self.model_dim or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"`{name}` must be floating [batch, length, model_dim={self.model_dim}]; got {x.dtype} {x.shape}."
            )

    def _check_cross(self, causal: bool) -> None:
        name = type(self.variant).__name__
        if causal:
            raise ValueError("attention to a `context` needs causal=False; got causal=True.")
        if not self.variant.supports_cross:
            raise NotImplementedError(f"{name} does not support attention to a `context`.")
        if self.controls is not None:
            raise NotImplementedError(f"{name} has controls, which are read from x; a `context` has none.")


def _check_sizes(
    variant: Any, position: Any, model_dim: int, num_heads: int, num_kv_heads: int, short_conv: int
) -> None:
    if not isinstance(variant, AttentionVariant):
        raise ValueError(f"`variant` must be an AttentionVariant, such as make_variant('full'); got {variant!r}.")
    if not isinstance(position, Position):
        raise ValueError(f"`position` must be a Position, such as make_position('rope'); got {position!r}.")
    check_integer("model_dim", model_dim, 1)
    check_integer("num_heads", num_heads, 1)
    check_integer("num_kv_heads", num_kv_heads, 1)
    check_integer("short_conv", short_conv, 0)
    if model_dim % num_heads:
        raise ValueError(f"`num_heads` must divide `model_dim`; got num_heads {num_heads} and model_dim {model_dim}.")
    if num_heads % num_kv_heads:
        raise ValueError(
            f"`num_kv_heads` must divide `num_heads`; got num_kv_heads {num_kv_heads} and num_heads {num_heads}."
        )


def _linear(features_in: int, features_out: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(features_in, features_out, use_bias=False, promote_dtype=_compute_in_input_dtype, rngs=rngs)


def _compute_in_input_dtype(arrays: Any, **_: Any) -> Any:
    """Flax would compute bfloat16 inputs in the float32 of the parameters; here the caller's dtype decides."""
    return tuple(None if array is None else array.astype(arrays[0].dtype) for array in arrays)


def _dense(linear: nnx.Linear, x: Array) -> Array:
    """Applies `linear` over tokens flattened to two axes, which XLA on CPU runs several times faster than three."""
    return linear(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
