"""Times attention, forward and with gradient, and measures its memory."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from attention_variants import cost
from attention_variants.interface import AttentionVariant, HeadSizes
from attention_variants.registry import VARIANTS, make_variant
from experiments.benchmarks import peers
from experiments.benchmarks.clock import Times, take_turns

BASELINE = "jax.nn"  # jax.nn.dot_product_attention, which materialises length^2 weights
_MODEL_DIM = 64  # of the input that controls are computed from
_HORIZON = 2**20  # of cosformer, which must see the whole sequence; longer ones are not measured

Contender = Callable[[Any, Any, Any], Any]


class Sizes(NamedTuple):
    """What all contenders are called on."""

    batch: int = 1
    num_heads: int = 4
    head_dim: int = 64
    causal: bool = True
    repeats: int = 5  # timed calls of each contender
    baseline_max_length: int = 4096  # longest sequence for the baseline
    dtype: str = "float32"  # of queries, keys and values
    longest_call: float | None = None  # seconds; what takes longer with gradient is left out at greater lengths


@dataclasses.dataclass
class Timing:
    """One contender at one length; times in milliseconds, medians, and quartiles."""

    variant: str
    length: int
    forward_ms: float
    gradient_ms: float  # forward and gradient together
    executed_flops: int | None  # forward and gradient together; None for another library
    peak_bytes: int | None  # temporaries of the compiled forward and gradient; None for another library
    forward_speedup: float | None = None  # over the baseline at this length
    speedup: float | None = None  # over the baseline at this length, with gradient
    time_growth: float | None = None  # over the shortest length, with gradient
    memory_growth: float | None = None  # over the shortest length
    peer_of: str | None = None  # for another library: the variant that computes the same
    peer_ratio: float | None = None  # time of that variant over this one's, with gradient
    forward_quartiles: tuple[float, ...] | None = None  # of the timed calls
    gradient_quartiles: tuple[float, ...] | None = None
    forward_bytes: int | None = None  # temporaries of the compiled forward alone; None for another library
    resident_bytes: int | None = None  # the peak of a process of its own; None in a shared one


def contenders(specs: str | None, causal: bool) -> dict[str, AttentionVariant | None]:
    """Returns name -> variant, the baseline first as None.

    Args:
      specs: separated by '|'; None for every registered variant that supports this mode, the window at 128 keys.
      causal: whether the attention is to be causal.
    """
    if specs is None:
        sharper = {"sliding_window": "sliding_window:window_size=128", "cosformer": f"cosformer:horizon={_HORIZON}"}
        able = [
            name for name, kind in VARIANTS.items() if (kind.supports_causal if causal else kind.supports_bidirectional)
        ]
        specs = "|".join(sharper.get(name, name) for name in able)
    names = [name.strip() for name in specs.split("|")]
    return {BASELINE: None} | {name: make_variant(name) for name in names if name != BASELINE}


def measure(
    variants: Mapping[str, AttentionVariant | None], lengths: Sequence[int], sizes: Sizes, *, with_peers: bool = False
) -> Iterator[Timing]:
    """Measures every contender at every length, lengths ascending, and yields the timings of each length together.

    Args:
      variants: as `contenders` returns them.
      lengths: ascending.
      sizes: of every call.
      with_peers: whether other libraries take turns with the variants that compute the same.

    Raises:
      ValueError: a peer computes another function; one line.
    """
    by_key: dict[tuple[str, int], Timing] = {}
    slow: set[str] = set()
    for length in lengths:
        present = {name: v for name, v in variants.items() if v is not None or length <= sizes.baseline_max_length}
        present = {name: v for name, v in present.items() if name not in slow}
        timings = measure_at(present, length, sizes, with_peers=with_peers) if present else []
        if sizes.longest_call is not None:
            slow |= {timing.variant for timing in timings if timing.gradient_ms > 1e3 * sizes.longest_call}
        by_key |= {(timing.variant, length): timing for timing in timings}
        for timing in timings:
            compare(timing, by_key.get((BASELINE, length)), by_key.get((timing.variant, lengths[0])))
        yield from timings


def compare(timing: Timing, baseline: Timing | None, first: Timing | None) -> None:
    """Sets the ratios to the baseline at the same length, and to the shortest length."""
    if baseline is not None:
        timing.forward_speedup = baseline.forward_ms / timing.forward_ms
        timing.speedup = baseline.gradient_ms / timing.gradient_ms
    if first is not None and first is not timing:
        timing.time_growth = timing.gradient_ms / first.gradient_ms
        if timing.peak_bytes and first.peak_bytes:
            timing.memory_growth = timing.peak_bytes / first.peak_bytes


def measure_at(
    variants: Mapping[str, AttentionVariant | None], length: int, sizes: Sizes, *, with_peers: bool = False
) -> list[Timing]:
    """Measures contenders at one length, in turns."""
    shape = 3, sizes.batch, length, sizes.num_heads, sizes.head_dim
    arrays = tuple(jax.random.normal(jax.random.key(0), shape, sizes.dtype))
    calls: dict[str, _Calls] = {}
    for name, variant in variants.items():
        calls[name] = _compiled(name, contender(variant, sizes), arrays)
        for peer in peers.peers_of(variant, sizes.causal, sizes.dtype) if with_peers and variant else []:
            if not peer.is_quadratic or length <= sizes.baseline_max_length:
                calls[f"{peer.name} ({name})"] = _of_peer(peer, name, arrays, calls[name])
    forward = _take_turns({name: each.forward for name, each in calls.items()}, arrays, sizes.repeats)
    gradient = _take_turns({name: each.gradient for name, each in calls.items()}, arrays, sizes.repeats)
    for name, (timing, *_) in calls.items():
        timing.forward_ms, *quartiles = forward[name].milliseconds
        timing.forward_quartiles = tuple(quartiles)
        timing.gradient_ms, *quartiles = gradient[name].milliseconds
        timing.gradient_quartiles = tuple(quartiles)
        if timing.peer_of is not None:
            timing.peer_ratio = gradient[timing.peer_of].median / gradient[name].median
    return [each.timing for each in calls.values()]


class _Calls(NamedTuple):
    """What is timed of one contender, and where its times go."""

    timing: Timing
    forward: Callable[..., Any]
    gradient: Callable[..., Any]


def _compiled(name: str, attend: Contender, arrays: tuple[Any, ...]) -> _Calls:
    with_gradient = _with_gradient(attend)
    flops = cost.count_flops(with_gradient, *arrays)
    forward = jax.jit(attend).lower(*arrays).compile()
    gradient = jax.jit(with_gradient).lower(*arrays).compile()
    timing = Timing(name, arrays[0].shape[1], 0.0, 0.0, flops, cost.temporary_bytes(gradient))
    timing.forward_bytes = cost.temporary_bytes(forward)
    return _Calls(timing, forward, gradient)


def _of_peer(peer: peers.Peer, variant: str, arrays: tuple[Any, ...], ours: _Calls) -> _Calls:
    """Returns what is timed of a peer, which computes what `ours` does."""
    name = f"{peer.name} ({variant})"
    if peer.is_torch:
        timing = Timing(name, arrays[0].shape[1], 0.0, 0.0, None, None)
        calls = _Calls(timing, *peers.torch_calls(peer.attend, arrays))
    else:
        calls = _compiled(name, peer.attend, arrays)
    peers.check_equal(name, calls.forward(*arrays), ours.forward(*arrays))
    calls.timing.peer_of = variant
    return calls


def contender(variant: AttentionVariant | None, sizes: Sizes) -> Contender:
    """Returns the timed function of a variant, its controls computed from constants; for None, that of the baseline."""
    if variant is None:
        return functools.partial(jax.nn.dot_product_attention, is_causal=sizes.causal)
    heads = HeadSizes(sizes.num_heads, sizes.num_heads, sizes.head_dim, sizes.head_dim)
    controls: Any = variant.make_controls(_MODEL_DIM, heads, rngs=nnx.Rngs(0))

    def attend(query: Any, key: Any, value: Any) -> Any:
        if not variant.has_controls:
            return variant(query, key, value, causal=sizes.causal)
        # Behind a barrier; else XLA computes the controls at compile time, and what is counted is not what is timed.
        x = lax.optimization_barrier(jnp.ones((*query.shape[:2], _MODEL_DIM), query.dtype))
        return variant(query, key, value, causal=sizes.causal, controls=controls(x))

    return attend


def _with_gradient(attend: Contender) -> Contender:
    def loss(query: Any, key: Any, value: Any) -> Any:
        return jnp.sum(attend(query, key, value) * value)

    return jax.value_and_grad(loss, argnums=(0, 1, 2))


def _take_turns(functions: Mapping[str, Callable[..., Any]], arrays: tuple[Any, ...], repeats: int) -> dict[str, Times]:
    return take_turns({name: functools.partial(each, *arrays) for name, each in functions.items()}, repeats)
