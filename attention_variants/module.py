"""Multi-head attention as a Flax module: the projections around any attention variant, and its decoding cache."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from attention_variants.arrays import repeat_heads, zero_masked
from attention_variants.heads import head_sizes
from attention_variants.interface import AttentionVariant
from attention_variants.layer_options import LayerOptions
from attention_variants.layer_values import AttentionCache, Mixing, Pasts
from attention_variants.positions import NoPosition, Position
from attention_variants.surroundings import (
    Convolution,
    OutputGate,
    OutputNorm,
    Readings,
    Skip,
    TokenShift,
    dense,
    linear,
)

Stream = Float[Array, "batch length model_dim"]

_OF_OPTIONS = 1  # folded into the controls' key, so that options and controls draw different numbers


class MultiHeadAttention(nnx.Module):
    """Projects x to queries, keys and values, lets a variant mix them, and projects the result.

    With the same seed, the projections of all variants are bit-identical where their shapes agree. They are drawn from
    `rngs.params()` in a fixed order; `rngs.controls()` is drawn from exactly once, for what the variant learns in
    addition and for the options.

    Self-attention reads everything from x. Cross-attention (`context`) reads keys and values from the context instead.
    The positions of two sequences have no common origin, so cross-attention applies none, and the short convolution
    acts on x alone.
    """

    def __init__(
        self,
        variant: AttentionVariant,
        model_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        value_dim: int | None = None,
        position: Position = NoPosition(),  # noqa: B008 - frozen
        options: LayerOptions = LayerOptions(),  # noqa: B008 - frozen
        rngs: nnx.Rngs,
    ):
        """Builds the layer.

        Args:
          variant: the attention, as an object (see `registry.make_variant`).
          model_dim: width of x.
          num_heads: query heads.
          num_kv_heads: key and value heads; divides num_heads. None: as many as num_heads.
          head_dim: of queries and keys. None: `options.key_expansion` * model_dim / num_heads.
          value_dim: of values. None: head_dim if that is given, or else `options.value_expansion` * model_dim /
            num_heads.
          position: rotates queries and keys; what it adds at the model's input is left to the model.
          options: what surrounds the attention; `variant.paper_layer` is what its paper puts there.
          rngs: streams `params` and `controls`.

        Raises:
          ValueError: a size is not a positive integer, or one does not divide the other.
          NotImplementedError: the variant cannot carry the bias of this position encoding.
        """
        _check_kinds(variant, position, options)
        self.variant, self.position, self.options, self.model_dim = variant, position, options, model_dim
        self.heads = heads = head_sizes(model_dim, num_heads, num_kv_heads, head_dim, value_dim, options)
        query_heads, key_heads = (1, 1) if options.qk_shared else heads[:2]
        self.query = linear(model_dim, query_heads * heads.head_dim, rngs)
        self.key = linear(model_dim, key_heads * heads.head_dim, rngs)
        self.value = linear(model_dim, heads.num_kv_heads * heads.value_dim, rngs)
        self.output = linear(heads.num_heads * heads.value_dim, model_dim, rngs)
        self.query_norm = nnx.RMSNorm(heads.head_dim, rngs=rngs) if options.qk_norm else None
        self.key_norm = nnx.RMSNorm(heads.head_dim, rngs=rngs) if options.qk_norm else None
        self.bias = position.make_bias(num_heads, rngs=rngs)
        if self.bias is not None and not variant.supports_bias:
            name = type(variant).__name__
            raise NotImplementedError(f"{name} does not support an additive position bias such as {position}.")
        taps, residual = options.short_conv, options.conv_residual
        self.short_conv = Convolution(taps, model_dim, residual, rngs) if taps else None
        key = rngs.controls()
        self.controls = variant.make_controls(model_dim, heads, rngs=nnx.Rngs(key))
        self._make_parts(nnx.Rngs(jax.random.fold_in(key, _OF_OPTIONS)))

    def _make_parts(self, rngs: nnx.Rngs) -> None:
        """Makes the optional parts, each from its own key."""
        options, heads = self.options, self.heads
        shift_rngs, query_rngs, key_rngs, value_rngs, skip_rngs, gate_rngs = (nnx.Rngs(rngs.params()) for _ in range(6))
        further_key_rngs, further_value_rngs = (nnx.Rngs(rngs.params()) for _ in range(2))
        shift, taps, residual = options.token_shift, options.qkv_conv, options.conv_residual
        self.token_shift = TokenShift(self.model_dim, shift == "ddlerp", shift_rngs) if shift != "none" else None
        self.query_conv = Convolution(taps, self.query.out_features, residual, query_rngs) if taps else None
        self.key_conv = Convolution(taps, self.key.out_features, residual, key_rngs) if taps else None
        self.value_conv = Convolution(taps, self.value.out_features, residual, value_rngs) if taps else None
        further = taps and (self.variant.writes_per_token - 1) * heads.num_kv_heads
        self.further_key_conv, self.further_value_conv = (
            Convolution(taps, further * width, residual, rngs) if further else None
            for width, rngs in ((heads.head_dim, further_key_rngs), (heads.value_dim, further_value_rngs))
        )
        self.skip = Skip(options.skip, heads.num_heads, skip_rngs) if options.skip else None
        kind, width = options.output_gate, 1 if options.gate_per_head else heads.value_dim
        sizes = self.model_dim, heads.num_heads, width, heads.value_dim if options.gate_low_rank else 0
        self.gate = OutputGate(kind, *sizes, gate_rngs) if kind != "none" else None
        kind = options.output_norm
        self.norm = OutputNorm(kind, heads.num_heads, heads.value_dim) if kind != "none" else None

    def parts(self) -> tuple[nnx.Module | None, ...]:
        """Returns the parts that the options add to the projections, None if off; all are drawn with the controls."""
        convolutions = self.query_conv, self.key_conv, self.value_conv, self.further_key_conv, self.further_value_conv
        return self.token_shift, *convolutions, self.skip, self.gate, self.norm

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
          causal: a token sees itself and what came before. Convolutions and the token shift are always causal.
          key_mask: [batch, length], or [batch, context_length] with a context; False is padding, read as zeros.
          positions: [length], of the tokens of x, for the position encoding; None: 0, 1, 2 ...

        Returns:
          [batch, length, model_dim], in the dtype of x.

        Raises:
          ValueError: shapes do not fit, or causal attention to a context.
          NotImplementedError: the variant does not support what was asked.
        """
        mixing = self.prepare(x, context=context, causal=causal, key_mask=key_mask, positions=positions)
        return self.finish(mixing, self.attend(mixing))

    def prepare(
        self,
        x: Stream,
        *,
        context: Float[Array, "batch context_length model_dim"] | None = None,
        causal: bool = True,
        key_mask: Bool[Array, "batch key_length"] | None = None,
        positions: Int[Array, " length"] | None = None,
    ) -> Mixing:
        """Does what comes before the attention; arguments and errors as in `__call__`.

        `finish(mixing, attend(mixing))` is the layer. The step in between can be inspected or replaced: `weights` and
        `values` define what `attend` returns, and `finish` takes any output of the heads.
        """
        self._check_input("x", x)
        if context is not None:
            self._check_input("context", context)
            self._check_cross(causal)
        source = x if context is None else context
        if key_mask is not None:
            if key_mask.shape != source.shape[:2]:
                raise ValueError(f"`key_mask` must be [batch, key_length] {source.shape[:2]}; got {key_mask.shape}.")
            if key_mask.dtype != bool:
                raise ValueError(f"`key_mask` must be boolean, True = may be attended; got dtype {key_mask.dtype}.")
            # A NaN in padding must not reach projections, convolutions and controls either.
            source = jnp.where(key_mask[:, :, None], source, jnp.zeros((), source.dtype))
        start = self._no_pasts(x.shape[0], x.dtype)
        readings, pasts = self._read(source if context is None else x, start)
        if context is None:
            positions = jnp.arange(x.shape[1]) if positions is None else positions
            query, key, value, pasts = self._project(readings, readings, positions, pasts)
        else:
            # A context starts afresh: the last token of x does not precede its first.
            query, key, value, pasts = self._project(readings, self._shift(source, start)[0], None, pasts)
        if key_mask is not None and self.skip is not None:
            value = zero_masked(value, key_mask)  # a convolution carries tokens into the padding that follows
        bias = None if self.bias is None or context is not None else self.bias(causal, positions)
        controls, pasts = self._control(readings, None if context is not None else positions, pasts)
        return Mixing(query, key, value, causal, key_mask, bias, controls, readings, pasts)

    def attend(self, mixing: Mixing) -> Float[Array, "batch length num_heads value_dim"]:
        """Returns the output of every head, by the variant's fast path."""
        return self.variant(
            mixing.query,
            mixing.key,
            mixing.value,
            causal=mixing.causal,
            key_mask=mixing.key_mask,
            bias=mixing.bias,
            controls=mixing.controls,
        )

    def weights(self, mixing: Mixing) -> Float[Array, "batch num_heads length writes"]:
        """Returns how much each token weighs in each output, by the definition; see `dense_weights`."""
        return self.variant.dense_weights(
            mixing.query,
            mixing.key,
            causal=mixing.causal,
            key_mask=mixing.key_mask,
            bias=mixing.bias,
            controls=mixing.controls,
        )

    def values(self, mixing: Mixing) -> Float[Array, "batch writes num_heads value_dim"]:
        """Returns the values that `weights` multiplies, for each head: the product is what `attend` returns."""
        values = self.variant.dense_values(mixing.value, key_mask=mixing.key_mask, controls=mixing.controls)
        return repeat_heads(values, self.heads.num_heads)

    def finish(self, mixing: Mixing, out: Float[Array, "batch length num_heads value_dim"]) -> Stream:
        """Does what follows the attention: skip, gate, norm and the output projection."""
        return self._merge(out, mixing.value, mixing.readings, mixing.pasts, mixing.causal)[0]

    def init_cache(self, batch: int, max_length: int, dtype: Any = jnp.float32) -> AttentionCache:
        """Returns an empty cache for `max_length` tokens of causal self-attention."""
        return AttentionCache(
            self.variant.init_cache(batch, max_length, self.heads, dtype), self._no_pasts(batch, dtype)
        )

    def extend(self, cache: AttentionCache, x: Stream) -> tuple[Stream, AttentionCache]:
        """Continues a sequence by the tokens x [batch, new_length, model_dim], one or more.

        Returns:
          (output, cache): what `__call__` with causal=True gives at these positions.

        Raises:
          ValueError: shapes do not fit, or the cache is too small for the new tokens.
        """
        self._check_input("x", x)
        if cache.pasts.short_conv.shape[0] != x.shape[0]:
            raise ValueError(
                f"the cache was made for batch {cache.pasts.short_conv.shape[0]}; got x of shape {x.shape}."
            )
        readings, pasts = self._read(x, cache.pasts)
        positions = cache.length + jnp.arange(x.shape[1])
        query, key, value, pasts = self._project(readings, readings, positions, pasts)
        bias = None if self.bias is None else self.bias(True)
        controls, pasts = self._control(readings, positions, pasts)
        out, attention = self.variant.extend(cache.attention, query, key, value, bias=bias, controls=controls)
        out, pasts = self._merge(out, value, readings, pasts, True)
        kept = (new.astype(old.dtype) for new, old in zip(pasts, cache.pasts, strict=True))
        return out, AttentionCache(attention, Pasts(*kept))

    def _read(self, x: Stream, pasts: Pasts) -> tuple[Readings, Pasts]:
        """Returns what queries, keys, values, controls and the gate read from x."""
        if self.short_conv is not None:
            x, past = self.short_conv(x, pasts.short_conv)
            pasts = pasts._replace(short_conv=past)
        return self._shift(x, pasts)

    def _shift(self, x: Stream, pasts: Pasts) -> tuple[Readings, Pasts]:
        if self.token_shift is None:
            return Readings(x, x, x, x, x), pasts
        readings, past = self.token_shift(x, pasts.token_shift)
        return readings, pasts._replace(token_shift=past)

    def _project(
        self, readings: Readings, source: Readings, positions: Array | None, pasts: Pasts
    ) -> tuple[Array, Array, Array, Pasts]:
        """Returns query, key, value [batch, length, heads, width]; `positions` None: not rotated."""
        query, key = dense(self.query, readings.query), dense(self.key, source.key)
        value = dense(self.value, source.value)
        query, query_past = self._mixed(query, self.query_conv, pasts.query_conv)
        key, key_past = self._mixed(key, self.key_conv, pasts.key_conv)
        value, value_past = self._mixed(value, self.value_conv, pasts.value_conv)
        pasts = pasts._replace(query_conv=query_past, key_conv=key_past, value_conv=value_past)
        query = self._turned(query, self.query_norm, positions)
        key, value = self._turned(key, self.key_norm, positions), self._cut(value)
        if self.options.qk_shared:
            query, key = repeat_heads(query, self.heads.num_heads), repeat_heads(key, self.heads.num_kv_heads)
        return query, key, value, pasts

    def _mixed(self, x: Stream, part: Convolution | None, past: Array) -> tuple[Stream, Array]:
        """Returns queries, keys or values after their convolution and its SiLU, if any."""
        if part is not None:
            x, past = part(x, past)
        return jax.nn.silu(x) if self.options.conv_silu else x, past

    def _turned(self, x: Stream, norm: nnx.RMSNorm | None, positions: Array | None) -> Array:
        """Returns queries or keys split into heads, normalised and rotated if asked for."""
        heads = x.reshape(*x.shape[:2], -1, self.heads.head_dim)
        if norm is not None:
            heads = norm(self._wide(heads)).astype(x.dtype)
        return heads if positions is None else self.position.rotate_parts(heads, positions, self.variant.rotated_parts)

    def _cut(self, value: Stream) -> Array:
        """Returns values split into heads, after their own SiLU."""
        value = jax.nn.silu(value) if self.options.value_silu else value
        return value.reshape(*value.shape[:2], -1, self.heads.value_dim)

    def _control(self, readings: Readings, positions: Array | None, pasts: Pasts) -> tuple[Any, Pasts]:
        """Returns the controls; their further keys and values are treated like the key and the value."""
        if self.controls is None:
            return None, pasts
        controls = self.controls(self._wide(readings.controls))
        if self.variant.writes_per_token == 1:
            return controls, pasts
        key, value = controls.further_keys, controls.further_values
        keys, values = (x.reshape(*x.shape[:2], -1).astype(readings.key.dtype) for x in (key, value))
        keys, key_past = self._mixed(keys, self.further_key_conv, pasts.further_key_conv)
        values, value_past = self._mixed(values, self.further_value_conv, pasts.further_value_conv)
        keys, values = self._turned(keys, self.key_norm, positions), self._cut(values)
        controls = controls._replace(further_keys=keys.reshape(key.shape), further_values=values.reshape(value.shape))
        return controls, pasts._replace(further_key_conv=key_past, further_value_conv=value_past)

    def _wide(self, x: Array) -> Array:
        """Returns x in the dtype to which Flax's layers would promote it together with their parameters."""
        return x.astype(max(x.dtype, self.query.kernel.dtype, key=lambda dtype: jnp.finfo(dtype).bits))

    def _merge(self, out: Array, value: Array, readings: Readings, pasts: Pasts, causal: bool) -> tuple[Stream, Pasts]:
        """Returns the layer's output from that of the variant."""
        if self.skip is not None:
            out, past = self.skip(out, repeat_heads(value, self.heads.num_heads), pasts.skip, causal)
            pasts = pasts._replace(skip=past)
        gate = None if self.gate is None else self.gate(readings.gate)
        if gate is not None and self.options.norm_after_gate:
            out = out * gate
        if self.norm is not None:
            out = self.norm(out)
        if gate is not None and not self.options.norm_after_gate:
            out = out * gate
        if self.options.output_scale != 1:
            out = out * self.options.output_scale
        return dense(self.output, out.reshape(*out.shape[:2], -1)), pasts

    def _no_pasts(self, batch: int, dtype: Any) -> Pasts:
        """Returns the pasts of the first token: zeros."""
        heads = self.heads
        query, key, value = (projection.out_features for projection in (self.query, self.key, self.value))
        further = (self.variant.writes_per_token - 1) * heads.num_kv_heads
        parts = (
            (self.short_conv, self.model_dim),
            (self.token_shift, self.model_dim),
            (self.query_conv, query),
            (self.key_conv, key),
            (self.value_conv, value),
            (self.skip, heads.num_heads * heads.value_dim),
            (self.further_key_conv, further * heads.head_dim),
            (self.further_value_conv, further * heads.value_dim),
        )
        sizes = ((0 if part is None else part.past, width) for part, width in parts)
        return Pasts(*(jnp.zeros((batch, *size), dtype) for size in sizes))

    def _check_input(self, name: str, x: Any) -> None:
        if x.ndim != 3 or x.shape[2] != self.model_dim or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"`{name}` must be floating [batch, length, model_dim={self.model_dim}]; got {x.dtype} {x.shape}."
            )

    def _check_cross(self, causal: bool) -> None:
        if causal:
            raise ValueError("attention to a `context` needs causal=False; got causal=True.")
        if not self.variant.supports_cross:
            raise NotImplementedError(f"{type(self.variant).__name__} does not support attention to a `context`.")
        if self.skip is not None:
            raise NotImplementedError("`skip` adds a token's own value; in attention to a `context` it has none.")


def _check_kinds(variant: Any, position: Any, options: Any) -> None:
    if not isinstance(variant, AttentionVariant):
        raise ValueError(f"`variant` must be an AttentionVariant, such as make_variant('full'); got {variant!r}.")
    if not isinstance(position, Position):
        raise ValueError(f"`position` must be a Position, such as make_position('rope'); got {position!r}.")
    if not isinstance(options, LayerOptions):
        raise ValueError(f"`options` must be LayerOptions, such as LayerOptions(qk_norm=True); got {options!r}.")
