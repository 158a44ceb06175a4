"""The tables of the benchmark of attention: times and memory at every length, and how they scale."""

from collections.abc import Sequence

from experiments.benchmarks.attention import BASELINE, Sizes, Timing
from experiments.benchmarks.scaling import Exponent, Scaling
from experiments.reporting.text import human, table


def render(timings: Sequence[Timing], scalings: Sequence[Scaling], style: str, sizes: Sizes) -> str:
    """Returns the timings and, where there are any, the exponents, each with a line that explains its columns."""
    parts = [_times(timings, style, sizes)]
    return "\n\n".join([*parts, _exponents(scalings, style)] if scalings else parts)


def _times(timings: Sequence[Timing], style: str, sizes: Sizes) -> str:
    peers, apart = any(each.peer_of for each in timings), any(each.resident_bytes for each in timings)
    header = [
        *("variant", "length", "forward ms", "with gradient ms", "spread", "FLOPs", "temporaries"),
        *("forward x", "gradient x", "time x", "memory x"),
        *(["variant / peer"] if peers else []),
        *(["process"] if apart else []),
    ]
    lines = [[*_cells(each), *_further(each, peers, apart)] for each in timings]
    limit = "" if sizes.longest_call is None else f", no longer once a call took {sizes.longest_call:g} s"
    notes = [
        f"{sizes.batch} x {sizes.num_heads} heads x {sizes.head_dim}, {sizes.dtype}, causal={sizes.causal}; medians of "
        f"{sizes.repeats}{limit}. Spread: between the quartiles, over the median, with gradient. FLOPs and "
        f"temporaries: of forward and gradient together; forward x and gradient x: times faster than {BASELINE}; "
        "time x and memory x: over the shortest length, with gradient."
    ]
    if peers:
        notes.append("Variant / peer: time of the variant in brackets over that of the other library, with gradient.")
    if apart:
        notes.append("Process: the most memory that a process of its own held, the program itself included.")
    return f"{table([header, *lines], style)}\n\n{' '.join(notes)}"


def _cells(timing: Timing) -> list[str]:
    spread = ""
    if timing.gradient_quartiles is not None and timing.gradient_ms:
        low, high = timing.gradient_quartiles
        spread = f"{(high - low) / timing.gradient_ms:.0%}"
    ratios = timing.forward_speedup, timing.speedup, timing.time_growth, timing.memory_growth
    return [
        timing.variant,
        str(timing.length),
        f"{timing.forward_ms:.1f}",
        f"{timing.gradient_ms:.1f}",
        spread,
        human(timing.executed_flops),
        human(timing.peak_bytes, "B"),
        *map(_ratio, ratios),
    ]


def _further(timing: Timing, peers: bool, apart: bool) -> list[str]:
    ratio, resident = _ratio(timing.peer_ratio), human(timing.resident_bytes, "B")
    return [*([ratio] if peers else []), *([resident] if apart else [])]


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _exponents(scalings: Sequence[Scaling], style: str) -> str:
    header = ["variant", "lengths", "time forward", "time with gradient", "memory forward", "memory with gradient"]
    lines = [
        [
            each.variant,
            f"{each.lengths[0]} to {each.lengths[-1]}",
            *map(_exponent, (each.forward_time, each.gradient_time, each.forward_memory, each.gradient_memory)),
        ]
        for each in scalings
    ]
    note = (
        "Exponents: of the length, by least squares on the logarithms of time, and of temporaries; 1 is linear, 2 "
        "quadratic. In brackets the smallest and the largest between neighbouring lengths."
    )
    return f"{table([header, *lines], style)}\n\n{note}"


def _exponent(exponent: Exponent | None) -> str:
    return "-" if exponent is None else f"{exponent.value:.2f} ({exponent.low:.2f} to {exponent.high:.2f})"
