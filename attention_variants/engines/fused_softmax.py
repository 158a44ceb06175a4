"""Softmax attention by cuDNN's fused kernel, which computes what `block_softmax` does where the call fits it.

Whether it fits is known before tracing: `misfit` names the first reason why it does not. `auto` asks for the kernel
where the process computes on a CUDA device that has it and the call fits; `cudnn` insists, and `xla` never does. The
choice is made at tracing time, so a program exported elsewhere for CUDA has the kernel only under `cudnn`.

Gradients are reverse-mode and first-order. Decoding does not use this engine.

References: `jax.nn.dot_product_attention(implementation="cudnn")`; the algorithm is that of Dao et al. 2022,
arXiv:2205.14135.
"""

import dataclasses
import functools
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from attention_variants.arrays import Keys, Outputs, Queries, Values

Variant = TypeVar("Variant")
IMPLEMENTATIONS = ("auto", "xla", "cudnn")

_DTYPES = (jnp.bfloat16, jnp.float16)
_LARGEST_HEAD, _LARGEST_HEAD_OLDER = 256, 128  # from compute capability 9.0 on, and before
_OLDEST, _NEWER = (8, 0), (9, 0)  # compute capabilities
_KERNEL: Literal["xla", "cudnn"] = "cudnn"  # tests put XLA's form of the same call here, which runs anywhere


def fused_softmax(query: Queries, key: Keys, value: Values, *, causal: bool, window_size: int | None = None) -> Outputs:
    """Returns softmax attention over all keys or, where causal, over the newest `window_size` up to the query's own.

    Args:
      query: [batch, query_length, num_heads, head_dim]; shapes and dtypes as `misfit` requires.
      key: [batch, key_length, num_kv_heads, head_dim].
      value: [batch, key_length, num_kv_heads, head_dim].
      causal: a query sees keys at its own position and before.
      window_size: keys visible, the query's own included; None: all.

    Returns:
      [batch, query_length, num_heads, head_dim], in the dtype of `query`; softmax is in float32.

    Raises:
      NotImplementedError: JAX has no cuDNN here, or the device at hand is older than the kernel for this head_dim.
    """
    # One key fewer: JAX counts those before the query's own.
    window = None if window_size is None else (window_size - 1, 0)
    try:
        return jax.nn.dot_product_attention(
            query, key, value, is_causal=causal, local_window_size=window, implementation=_KERNEL
        )
    except RuntimeError as error:  # NotImplementedError is one
        raise NotImplementedError(f"`implementation` cudnn: {error} Choose auto or xla.") from error


@functools.lru_cache(maxsize=256)
def without_kernel(variant: Variant) -> Variant:
    """Returns the variant with `implementation` xla: the same function, in operations that can be counted."""
    return dataclasses.replace(variant, implementation="xla")  # type: ignore[type-var]


def uses_cudnn(implementation: str, query: Array, key: Array, value: Array, **options: Any) -> bool:
    """Returns whether a call, its arguments and options as in `misfit`, goes to the kernel.

    Raises:
      NotImplementedError: `implementation` is cudnn, and the call does not fit.
    """
    if implementation == "xla":
        return False
    reason = misfit(query, key, value, **options)
    if implementation == "cudnn" and reason is not None:
        raise NotImplementedError(f"`implementation` cudnn needs {reason}. Choose auto or xla.")
    return reason is None and (implementation == "cudnn" or _device_fits(query.shape[3]))


def misfit(
    query: Array,
    key: Array,
    value: Array,
    *,
    causal: bool,
    window_size: int | None = None,
    key_mask: Any = None,
    bias: Any = None,
) -> str | None:
    """Returns what a call, perhaps with a mask or a bias, would need to fit `fused_softmax`; None if it fits."""
    head_dim, value_dim = query.shape[3], value.shape[3]
    dtypes = {jnp.dtype(array.dtype) for array in (query, key, value)}
    if len(dtypes) > 1 or dtypes.pop() not in _DTYPES:
        given = ", ".join(str(jnp.dtype(array.dtype)) for array in (query, key, value))
        return f"queries, keys and values all in bfloat16 or all in float16; got {given}"
    if head_dim % 8 or head_dim > _LARGEST_HEAD:
        return f"a head_dim that is a multiple of 8, at most {_LARGEST_HEAD}; got {head_dim}"
    if value_dim != head_dim:
        return f"values as wide as keys; got {value_dim} and {head_dim}"
    if bias is not None:
        return "no position bias, which would be a matrix of length^2 there; got one"
    if key_mask is not None:
        return "no key_mask, which would be a matrix of length^2 there; got one"
    if window_size is not None and not causal:
        return "causal=True for a window; got causal=False"
    return None


def _device_fits(head_dim: int) -> bool:
    """Whether this process computes on a CUDA device that has the kernel."""
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return False
    capability = tuple(int(part) for part in device.compute_capability.split("."))
    largest = _LARGEST_HEAD if capability >= _NEWER else _LARGEST_HEAD_OLDER
    return capability >= _OLDEST and head_dim <= largest
