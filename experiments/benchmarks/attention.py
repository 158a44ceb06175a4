"""Times attention, forward and with gradient, and measures its memory."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from attention_variants import cost
from attention_variants.interface import AttentionVariant, HeadSizes
from attention_variants.registry import VARIANTS, make_variant
from experiments.reporting.text import human

BASELINE = "jax.nn"  # jax.nn.dot_product_attention, which materialises length^2 weights
_MODEL_DIM = 64  # of what controls are read from
_HORIZON = 2**14  # of cosformer, which must see the whole sequence

Contender = Callable[[Any, Any, Any], Any]


class Sizes(NamedTuple):
    """What all contenders are called on."""

    batch: int = 1
    num_heads: int = 4
    head_dim: int = 64
    causal: bool = True
    repeats: int = 5  # timed calls of each contender
    baseline_max_length: int = 4096  # longest sequence for the baseline


@dataclasses.dataclass
class Timing:
    """One contender at one length; times in milliseconds, medians."""

    variant: str
    length: int
    forward_ms: float
    gradient_ms: float  # forward and gradient together
    executed_flops: int  # forward and gradient together
    peak_bytes: int  # temporaries of the compiled forward and gradient
    forward_speedup: float | None = None  # over the baseline at this length
    speedup: float | None = None  # over the baseline at this length, with gradient
    time_growth: float | None = None  # over the shortest length, with gradient
    memory_growth: float | None = None  # over the shortest length


def contenders(specs: str | None, causal: bool) -> dict[str, AttentionVariant | None]:
    """Returns name -> variant, the baseline first as None.

    Args:
      specs: of variants, between '|'; None for every registered one that can do it, the window at 128 keys.
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


def measure(variants: Mapping[str, AttentionVariant | None], lengths: Sequence[int], sizes: Sizes) -> Iterator[Timing]:
    """Measures every contender at every length, lengths ascending, and yields those of a length together."""
    by_key: dict[tuple[str, int], Timing] = {}
    for length in lengths:
        present = {name: v for name, v in variants.items() if v is not None or length <= sizes.baseline_max_length}
        timings = measure_at(present, length, sizes)
        by_key |= {(timing.variant, length): timing for timing in timings}
        for timing in timings:
            _compare(timing, by_key.get((BASELINE, length)), by_key.get((timing.variant, lengths[0])))
        yield from timings


def _compare(timing: Timing, baseline: Timing | None, first: Timing | None) -> None:
    """Sets what is told over the baseline at the same length, and over the shortest length."""
    if baseline is not None:
        timing.forward_speedup = baseline.forward_ms / timing.forward_ms
        timing.speedup = baseline.gradient_ms / timing.gradient_ms
    if first is not None and first is not timing:
        timing.time_growth = timing.gradient_ms / first.gradient_ms
        timing.memory_growth = timing.peak_bytes / first.peak_bytes


def measure_at(variants: Mapping[str, AttentionVariant | None], length: int, sizes: Sizes) -> list[Timing]:
    """Measures contenders at one length, in turns."""
    query, key, value = jax.random.normal(jax.random.key(0), (3, sizes.batch, length, sizes.num_heads, sizes.head_dim))
    forward, gradient, timings = {}, {}, {}
    for name, variant in variants.items():
        attend = contender(variant, sizes)
        with_gradient = _with_gradient(attend)
        flops = cost.count_flops(with_gradient, query, key, value)
        forward[name] = jax.jit(attend).lower(query, key, value).compile()
        gradient[name] = jax.jit(with_gradient).lower(query, key, value).compile()
        timings[name] = Timing(name, length, 0.0, 0.0, flops, cost.temporary_bytes(gradient[name]))
    forward_ms = _take_turns(forward, (query, key, value), sizes.repeats)
    gradient_ms = _take_turns(gradient, (query, key, value), sizes.repeats)
    for name, timing in timings.items():
        timing.forward_ms, timing.gradient_ms = forward_ms[name], gradient_ms[name]
    return list(timings.values())


def render(timings: Sequence[Timing], style: str, sizes: Sizes) -> str:
    """Returns the timings as aligned text or as a Markdown table, with a line that explains its columns."""
    header = (
        "variant",
        "length",
        "forward ms",
        "with gradient ms",
        "FLOPs",
        "temporaries",
        "forward x",
        "gradient x",
        "time x",
        "memory x",
    )
    rows = [header, *(_cells(timing) for timing in timings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    aligned = [
        [cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    what = (
        f"{sizes.batch} x {sizes.num_heads} heads x {sizes.head_dim}, float32, causal={sizes.causal}; medians of "
        f"{sizes.repeats}. FLOPs and temporaries: of forward and gradient together; forward x and gradient x: times "
        f"faster than {BASELINE}; time x and memory x: over the shortest length, with gradient."
    )
    if style == "markdown":
        aligned.insert(1, ["---", *["---:"] * (len(header) - 1)])
        return "\n".join([*("| " + " | ".join(row) + " |" for row in aligned), "", what])
    return "\n".join([*("  ".join(row) for row in aligned), "", what])


def contender(variant: AttentionVariant | None, sizes: Sizes) -> Contender:
    """Returns what is timed of a variant, its controls read from constants; of None the baseline."""
    if variant is None:
        return functools.partial(jax.nn.dot_product_attention, is_causal=sizes.causal)
    heads = HeadSizes(sizes.num_heads, sizes.num_heads, sizes.head_dim, sizes.head_dim)
    controls: Any = variant.make_controls(_MODEL_DIM, heads, rngs=nnx.Rngs(0))

    def attend(query: Any, key: Any, value: Any) -> Any:
        if not variant.has_controls:
            return variant(query, key, value, causal=sizes.causal)
        x = jnp.ones((*query.shape[:2], _MODEL_DIM), query.dtype)
        return variant(query, key, value, causal=sizes.causal, controls=controls(x))

    return attend


def _with_gradient(attend: Contender) -> Contender:
    def loss(query: Any, key: Any, value: Any) -> Any:
        return jnp.sum(attend(query, key, value) * value)

    return jax.value_and_grad(loss, argnums=(0, 1, 2))


def _take_turns(compiled: Mapping[str, Any], arguments: tuple[Any, ...], repeats: int) -> dict[str, float]:
    """Returns the median milliseconds of each function.

    They are called in turns, and each turn is an untimed call and a timed one: what the others left in the caches would
    cost a long call more than a short one.
    """
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(repeats):
        for name, function in compiled.items():
            jax.block_until_ready(function(*arguments))
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def _cells(timing: Timing) -> tuple[str, ...]:
    ratios = (timing.forward_speedup, timing.speedup, timing.time_growth, timing.memory_growth)
    return (
        timing.variant,
        str(timing.length),
        f"{timing.forward_ms:.1f}",
        f"{timing.gradient_ms:.1f}",
        human(timing.executed_flops),
        human(timing.peak_bytes, "B"),
        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    )
