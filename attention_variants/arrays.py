"""Arrays as all parts of the library use them: the shapes of one call, and the building blocks of every definition."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

# Shapes, as a glossary. `num_kv_heads` divides `num_heads`; `key_length == query_length` unless stated otherwise.
Queries = Float[Array, "batch query_length num_heads head_dim"]
Keys = Float[Array, "batch key_length num_kv_heads head_dim"]
Values = Float[Array, "batch key_length num_kv_heads value_dim"]
Outputs = Float[Array, "batch query_length num_heads value_dim"]
Weights = Float[Array, "batch num_heads query_length key_length"]
KeyMask = Bool[Array, "batch key_length"]
PatternMatrix = Bool[np.ndarray, "query_length key_length"]


def accumulation_dtype(*dtypes: Any) -> Any:
    """Returns the dtype of softmax, normalisers and running states: float32, or float64 where an input is float64."""
    return jnp.dtype(jnp.float64 if any(jnp.dtype(dtype) == jnp.float64 for dtype in dtypes) else jnp.float32)


def zero_masked(array: Float[Array, "batch key_length heads dim"], key_mask: KeyMask) -> Array:
    """Returns `array` with masked positions exactly 0, whatever stood there."""
    return jnp.where(key_mask[:, :, None, None], array, jnp.zeros((), array.dtype))


def repeat_heads(array: Float[Array, "batch length num_kv_heads dim"], num_heads: int) -> Array:
    """Repeats grouped heads: query head h reads key-value head h // (num_heads // num_kv_heads)."""
    return jnp.repeat(array, num_heads // array.shape[2], axis=2)


@jax.custom_jvp
def rounded(logits: Float[Array, "..."]) -> Array:
    """Returns logits that are rounded alike wherever they are used, so that none exceeds their maximum.

    A compiler may fuse the multiplication that scales logits with the subtraction of their maximum, while the maximum
    itself was rounded: for logits near 1e10, hundreds then remain where exp expects 0. A comparison in between prevents
    this fusion.
    """
    largest = jnp.finfo(logits.dtype).max
    return jnp.where(logits >= largest, largest, logits)


@rounded.defjvp
def _rounded_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return rounded(*primals), tangents[0]


def masked_softmax(logits: Float[Array, "*batch query key"], mask: Bool[Array, "*#batch #query key"]) -> Array:
    """Softmax over permitted keys only; a row with none is 0, with gradient 0."""
    logits = jnp.where(mask, rounded(logits), -jnp.inf)
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    shifted = jnp.where(mask, logits - jnp.where(highest == -jnp.inf, 0.0, highest), 0.0)
    exponentials = jnp.where(mask, jnp.exp(shifted), 0.0)
    total = jnp.sum(exponentials, axis=-1, keepdims=True)
    return exponentials / jnp.where(total == 0, 1.0, total)


def dense_logits(query: Queries, key: Keys, bias: Any = None) -> Weights:
    """Returns query . key / sqrt(head_dim) + bias, [batch, num_heads, query_length, key_length]; for definitions.

    `bias` is an `interface.Bias`, or None.
    """
    dtype = accumulation_dtype(query.dtype)
    key = repeat_heads(key, query.shape[2])
    logits = jnp.einsum("bqhd,bkhd->bhqk", query.astype(dtype), key.astype(dtype), precision="highest")
    logits = logits / math.sqrt(query.shape[3])
    if bias is not None:
        logits = logits + bias.block(jnp.arange(query.shape[1]), jnp.arange(key.shape[1]))[None].astype(dtype)
    return logits
