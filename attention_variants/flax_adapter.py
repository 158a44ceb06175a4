"""Any variant as the `attention_fn` of today's Flax attention layers, NNX and Linen.

    nnx.MultiHeadAttention(..., attention_fn=attention_fn(make_variant("linear"), causal=True))
    linen.MultiHeadDotProductAttention(..., attention_fn=attention_fn(make_variant("linear"), causal=True))

Flax passes a dense mask, but a variant only needs to know whether attention is causal and which keys are padding. The
adapter reads both off the mask, and refuses, rather than ignores, any mask that holds more than that.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from attention_variants.interface import AttentionVariant


@dataclasses.dataclass(frozen=True)
class AttentionFn:
    """What `attention_fn` returns: equal for equal variants, so that Flax does not retrace."""

    variant: AttentionVariant
    causal: bool | None

    def __call__(
        self,
        query: Array,
        key: Array,
        value: Array,
        bias: Any = None,
        mask: Any = None,
        broadcast_dropout: bool = True,
        dropout_rng: Any = None,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: Any = None,
        force_fp32_for_softmax: bool = False,
        is_causal: bool = False,
        einsum_dot_general: Any = None,
        qk_attn_weights_einsum: Any = None,
        attn_weights_value_einsum: Any = None,
        input_positions: Any = None,
    ) -> Array:
        """Attends as `flax.nnx.dot_product_attention` does, and takes its arguments together with Linen's.

        Every argument is spelt out: Linen passes only those it finds in the signature, the mask included.

        Returns:
          [batch..., query_length, num_heads, value_dim]; a query with all keys masked gives 0.

        Raises:
          ValueError: shapes do not fit, or the mask is not causal, padding or both.
          NotImplementedError: the variant, or this adapter, does not support what was asked.
        """
        _refuse(
            bias=bias,
            dropout_rate=dropout_rate if dropout_rate and not deterministic else None,
            precision=precision,
            sow_weights=module,
            einsum_dot_general=einsum_dot_general,
            qk_attn_weights_einsum=qk_attn_weights_einsum,
            attn_weights_value_einsum=attn_weights_value_einsum,
            input_positions=input_positions,
        )
        if is_causal and self.causal is False:
            raise ValueError("is_causal=True contradicts attention_fn(..., causal=False).")
        *batch, query_length, num_heads, _ = query.shape
        query, key, value = (_flatten_batch(array, dtype) for array in (query, key, value))
        key_length = key.shape[1]
        self._check_decoding(query_length, key_length)
        causal = True if is_causal else self.causal
        read = _Read(bool(causal), None, None, None)
        if mask is not None:
            read = _read_mask(mask, (*batch, num_heads, query_length, key_length), causal)
        if read.query_mask is not None:
            # A NaN in the padding must not reach the gradients either.
            query = jnp.where(read.query_mask[:, :, None, None], query, jnp.zeros((), query.dtype))
        out = self.variant(query, key, value, causal=read.causal, key_mask=read.key_mask)
        if read.query_mask is not None:
            out = jnp.where(read.query_mask[:, :, None, None], out, jnp.zeros((), out.dtype))
        if read.exact is not None:
            out = jnp.where(read.exact[:, None, None, None], out, jnp.nan)
        return out.reshape(*batch, *out.shape[1:])

    def _check_decoding(self, query_length: int, key_length: int) -> None:
        """With decode=True, Flax passes one query and the whole cache, but not the query's position in it."""
        if query_length == 1 < key_length and not self.variant.pattern(1, key_length, False).all():
            raise NotImplementedError(
                f"{type(self.variant).__name__} cannot place one query among {key_length} keys, as in Flax's "
                "decode=True; decode with attention_variants.module.MultiHeadAttention.extend."
            )


def attention_fn(variant: AttentionVariant, *, causal: bool | None = None) -> AttentionFn:
    """Returns `variant` as an `attention_fn` for `nnx.MultiHeadAttention` and `linen.MultiHeadDotProductAttention`.

    Masks may be causal, padding (of keys, of queries), or both, as `make_causal_mask`, `make_attention_mask` and
    `combine_masks` make them: boolean or 0/1, broadcastable to [batch..., num_heads, query_length, key_length], equal
    for all heads. Sparser structure comes from the variant, not from a mask. Any other mask raises ValueError.

    Under `jax.jit` the values of a mask are not known when the call is built. There `causal` (or Flax's `is_causal`)
    must state the kind; a row of the batch whose mask turns out not to be of that kind gives NaN.

    Args:
      variant: the attention, without controls.
      causal: True: always causal, whether or not a mask is causal. False: never. None: read off the mask.

    Raises:
      NotImplementedError: the variant needs controls, for which Flax has no place.
    """
    if not isinstance(variant, AttentionVariant):
        raise ValueError(f"`variant` must be an AttentionVariant, such as make_variant('full'); got {variant!r}.")
    if variant.has_controls:
        raise NotImplementedError(
            f"{type(variant).__name__} needs controls, for which Flax's attention layers have no place; use "
            "attention_variants.module.MultiHeadAttention."
        )
    return AttentionFn(variant, causal)


class _Read(NamedTuple):
    """What a mask means: allowed = causal & query_mask & key_mask, for the rows of the batch that are `exact`."""

    causal: bool
    query_mask: Any  # [batch, query_length], None: all
    key_mask: Any  # [batch, key_length], None: all
    exact: Any  # [batch], traced; None: all, and checked


def _read_mask(mask: Any, shape: tuple[int, ...], causal: bool | None) -> _Read:
    """Splits `mask`, broadcastable to `shape` [batch..., num_heads, query_length, key_length], into its parts."""
    traced = isinstance(mask, Tracer)
    xp: Any = jnp if traced else np
    mask = mask if traced else np.asarray(mask)
    padded = (1,) * (len(shape) - mask.ndim) + mask.shape
    if len(padded) != len(shape) or any(have not in (1, want) for have, want in zip(padded, shape, strict=True)):
        raise ValueError(f"`mask` must be broadcastable to {shape}; got {mask.shape}.")
    batch, (query_length, key_length) = int(np.prod(shape[:-3])), shape[-2:]
    mask = xp.broadcast_to(mask.reshape(padded), (*shape[:-3], *padded[-3:])).reshape(batch, *padded[-3:])
    allowed = mask.astype(bool)
    binary = (mask == allowed).all((1, 2, 3))
    same_heads = (allowed == allowed[:, :1]).all((1, 2, 3))
    allowed = allowed[:, 0]
    if not traced and not binary.all():
        raise ValueError("`mask` must be boolean or hold only 0 and 1, where 1 = may attend; got other values.")
    if not traced and not same_heads.all():
        raise ValueError("`mask` must be the same for all heads; got one that differs.")

    if padded[-2] == 1 < query_length:
        key_mask = xp.broadcast_to(allowed[:, 0], (batch, key_length))
        return _Read(bool(causal), None, jnp.asarray(key_mask), binary & same_heads if traced else None)

    allowed = xp.broadcast_to(allowed, (batch, query_length, key_length))
    if causal is None:
        causal = _is_causal(allowed)
    # Top left, as in Flax; for unequal lengths the variant refuses causal=True.
    base = xp.arange(query_length)[:, None] >= xp.arange(key_length)[None, :] if causal else xp.ones((1, 1), bool)
    allowed = allowed & base[None]
    query_mask, key_mask = allowed.any(2), allowed.any(1)
    exact = (allowed == (base[None] & query_mask[:, :, None] & key_mask[:, None, :])).all((1, 2))
    if traced:
        return _Read(causal, query_mask, key_mask, exact & binary & same_heads)
    if not exact.all():
        kinds = "causal, padding or both" if causal else "padding, for attention that is not causal"
        raise ValueError(
            f"`mask` must be {kinds}; got one of shape {shape} with other structure. Sparse structure comes from the "
            "attention variant."
        )
    query_mask, key_mask = (None if part.all() else jnp.asarray(part) for part in (query_mask, key_mask))
    return _Read(causal, query_mask, key_mask, None)


def _is_causal(allowed: Any) -> bool:
    """Returns whether an undeclared mask [batch, query_length, key_length] is causal; raises where it cannot tell."""
    if isinstance(allowed, Tracer):
        raise ValueError(
            "the values of `mask` are not known under jit; pass attention_fn(variant, causal=True) for causal masks, "
            "with or without padding, or causal=False for padding masks."
        )
    query_length, key_length = allowed.shape[1:]
    causal = query_length == key_length and not np.triu(allowed, 1).any()
    outer = allowed.any(2)[:, :, None] & allowed.any(1)[:, None, :]
    if causal and query_length > 1 and allowed.any() and (allowed == outer).all():
        raise ValueError(
            "`mask` is both a causal and a padding mask, with one key to see; pass attention_fn(variant, causal=True) "
            "or causal=False."
        )
    return causal


def _flatten_batch(array: Array, dtype: Any) -> Array:
    if array.ndim < 3:
        raise ValueError(f"query, key and value must be [batch..., length, num_heads, dim]; got {array.shape}.")
    array = array.reshape(-1, *array.shape[-3:])
    return array if dtype is None else array.astype(dtype)


def _refuse(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"attention variants do not support Flax's `{name}`; got {value!r}.")
