"""The same attention by other libraries, for `experiments.benchmark --peers`.

JAX's own and Flax's are always there; those of PyTorch only where it is installed, which this project does not do:
`pip install torch local-attention`. Before a peer is timed, its output is checked against that of the variant beside
it. Both read the same arrays and use as many threads.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from attention_variants.interface import AttentionVariant
from attention_variants.variants.full import FullAttention
from attention_variants.variants.linear import LinearAttention
from attention_variants.variants.sliding_window import SlidingWindowAttention

_TOLERANCE, _TOLERANCE_BFLOAT16 = 1e-4, 5e-2  # of outputs that are means of values of size 1
_FLOOR = 1e-6  # that `linear` adds to each feature

Attend = Callable[[Any, Any, Any], Any]


class Peer(NamedTuple):
    """One function of another library; `attend` takes arrays of its own kind, [batch, length, heads, dim]."""

    name: str
    attend: Attend
    is_torch: bool = False
    is_quadratic: bool = False  # keeps length^2 weights, so that long sequences do not fit


def peers_of(variant: AttentionVariant, causal: bool, dtype: str = "float32") -> list[Peer]:
    """Returns the installed peers of a variant; most variants have none.

    In bfloat16 only full attention has peers: the others accumulate in the dtype of their inputs, and differ.
    """
    found: list[Peer] = []
    if type(variant) is FullAttention:
        found.append(Peer("flax.nnx", functools.partial(_flax, causal=causal), is_quadratic=True))
        if missing("torch") is None:
            found.append(Peer("torch", functools.partial(_torch_full, causal=causal), True))
    if dtype != "float32":
        return found
    if type(variant) is SlidingWindowAttention and causal and missing("torch", "local_attention") is None:
        found.append(Peer("local-attention", _local_attention(variant.window_size), True))
    if type(variant) is LinearAttention and causal and variant.feature_map == "elu" and missing("torch") is None:
        found.append(Peer("torch, in chunks", functools.partial(_torch_linear, chunk_size=variant.chunk_size), True))
    return found


def missing(*modules: str) -> str | None:
    """Returns the first of the modules that is not installed."""
    return next((name for name in modules if importlib.util.find_spec(name) is None), None)


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that have peers and are installed."""
    names = {"torch": "torch", "local_attention": "local-attention"}
    found = {name: importlib.metadata.version(name) for module, name in names.items() if missing(module) is None}
    return {"flax": importlib.metadata.version("flax")} | found


def check_equal(name: str, theirs: Any, ours: Any) -> None:
    """Raises a one-line ValueError if a peer computes another function than the variant beside it."""
    difference = float(np.abs(_plain(theirs) - _plain(ours)).max())
    tolerance = _TOLERANCE_BFLOAT16 if np.asarray(ours).dtype.name == "bfloat16" else _TOLERANCE
    if not difference <= tolerance:
        raise ValueError(f"{name} must compute the same function; its output differs by {difference:.2g}.")


def _plain(array: Any) -> np.ndarray:
    """Returns an array in float32; NumPy cannot read PyTorch's bfloat16."""
    return np.asarray(array.float() if hasattr(array, "float") else array, np.float32)


def torch_calls(attend: Attend, arrays: tuple[Any, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns forward and forward with gradient of a peer in PyTorch, on copies of `arrays`.

    The gradient is that of sum(output * value), as for the variants. The calls ignore their arguments.
    """
    torch = _torch()
    query, key, value = (
        torch.from_numpy(np.array(array, np.float32)).to(getattr(torch, array.dtype.name)) for array in arrays
    )
    leaves = [array.clone().requires_grad_() for array in (query, key, value)]

    def forward(*_: Any) -> Any:
        with torch.no_grad():
            return attend(query, key, value)

    def gradient(*_: Any) -> Any:
        for leaf in leaves:
            leaf.grad = None
        (attend(*leaves) * leaves[2]).sum().backward()
        return [leaf.grad for leaf in leaves]

    return forward, gradient


def use_threads(number: int) -> None:
    """Makes PyTorch, where it is installed, compute with that many threads."""
    if missing("torch") is None:
        _torch().set_num_threads(number)


def _torch() -> Any:
    return importlib.import_module("torch")


def _flax(query: Any, key: Any, value: Any, *, causal: bool) -> Any:
    """The function that `flax.nnx.MultiHeadAttention` calls between its projections."""
    mask = nnx.make_causal_mask(query[:, :, 0, 0]) if causal else None
    return nnx.dot_product_attention(query, key, value, mask=mask)


def _torch_full(query: Any, key: Any, value: Any, *, causal: bool) -> Any:
    heads_first = (array.transpose(1, 2) for array in (query, key, value))
    return _torch().nn.functional.scaled_dot_product_attention(*heads_first, is_causal=causal).transpose(1, 2)


def _local_attention(window_size: int) -> Attend:
    """LocalAttention of exactly `window_size` keys; it counts those before the query's own."""
    module = importlib.import_module("local_attention").LocalAttention(
        window_size=window_size - 1,
        causal=True,
        look_backward=1,
        exact_windowsize=True,
        autopad=True,
        use_rotary_pos_emb=False,
    )

    def attend(query: Any, key: Any, value: Any) -> Any:
        return module(*(array.transpose(1, 2) for array in (query, key, value))).transpose(1, 2)

    return attend


def _torch_linear(query: Any, key: Any, value: Any, *, chunk_size: int) -> Any:
    """Causal linear attention as `linear` does it: products within chunks, and a running sum over those before."""
    torch = _torch()
    batch, length, heads, dim = query.shape
    padded = -(-length // chunk_size) * chunk_size
    chunks = batch, heads, padded // chunk_size, chunk_size

    def cut(array: Any) -> Any:
        array = torch.nn.functional.pad(array.transpose(1, 2), (0, 0, 0, padded - length))
        return array.reshape(*chunks, array.shape[-1])

    elu = torch.nn.functional.elu
    query, key = cut(elu(query) + 1 + _FLOOR), cut(elu(key) + 1 + _FLOOR)
    value = cut(torch.cat([value, torch.ones_like(value[..., :1])], dim=-1))  # the last column sums the weights
    states = key.transpose(-1, -2) @ value
    before = states.cumsum(dim=2) - states
    within = (query @ key.transpose(-1, -2)).tril() @ value
    out = (within + query @ before).reshape(batch, heads, padded, -1)[:, :, :length].transpose(1, 2)
    return out[..., :-1] / out[..., -1:]
