"""Checks of arguments and fields: every message says what was expected and what was given."""

from typing import Any

import jax.numpy as jnp
import numpy as np

LARGEST_INTEGER = 2**30  # sums of two positions still fit 32 bits


def check_shapes(query: Any, key: Any, value: Any = None, key_mask: Any = None) -> None:
    """Raises ValueError, saying what was expected and given, unless these are arguments of one attention call."""
    if query.ndim != 4 or 0 in query.shape:
        raise ValueError(f"`query` must be non-empty [batch, query_length, num_heads, head_dim]; got {query.shape}.")
    for name, array in (("key", key), ("value", value)):
        if array is None:
            continue
        if array.ndim != 4 or 0 in array.shape or array.shape[0] != query.shape[0] or array.shape[:3] != key.shape[:3]:
            raise ValueError(
                f"`{name}` must be [batch, key_length, num_kv_heads, dim] with the batch of `query` {query.shape} and, "
                f"but for dim, the shape of `key` {key.shape}; got {array.shape}."
            )
        if not jnp.issubdtype(array.dtype, jnp.floating) or not jnp.issubdtype(query.dtype, jnp.floating):
            raise ValueError(f"`query`, `key` and `value` must be floating; got {query.dtype} and {array.dtype}.")
    if key.shape[3] != query.shape[3]:
        raise ValueError(f"`key` must have the head_dim of `query` {query.shape}; got {key.shape}.")
    if query.shape[2] % key.shape[2]:
        raise ValueError(f"num_kv_heads must divide num_heads; got {key.shape[2]} and {query.shape[2]}.")
    if key_mask is not None:
        if key_mask.shape != key.shape[:2]:
            raise ValueError(f"`key_mask` must be [batch, key_length] {key.shape[:2]}; got {key_mask.shape}.")
        if key_mask.dtype != jnp.bool_:
            raise ValueError(f"`key_mask` must be boolean, True = may be attended; got dtype {key_mask.dtype}.")


def check_integer(name: str, value: Any, minimum: int, maximum: int = LARGEST_INTEGER) -> None:
    """Raises ValueError unless `value` is an integer in [minimum, maximum]; for `__post_init__`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"`{name}` must be an integer >= {minimum}; got {value!r}.")
    if value > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}; got {value!r}.")


def check_number(name: str, value: Any, low: float, high: float, *, above_low: bool = False) -> None:
    """Raises ValueError unless `value` is a number in [low, high], or in (low, high]; NaN is in no interval."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high or (above_low and value == low):
        interval = f"{'(' if above_low else '['}{low}, {high}]"
        raise ValueError(f"`{name}` must be a number in {interval}; got {value!r}.")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(sorted(choices))}; got {value!r}.")
