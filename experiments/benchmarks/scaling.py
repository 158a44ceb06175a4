"""How time and memory grow with the length: exponents, fitted over the lengths that were measured."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from experiments.benchmarks.attention import Timing

_LEAST = 3  # lengths; some power of the length fits any two points


@dataclasses.dataclass(frozen=True)
class Exponent:
    """The power of the length that a cost grows with: cost ~ length^value."""

    value: float  # the slope of log cost over log length, by least squares
    low: float  # the smallest slope between neighbouring lengths, and the largest: far apart where no power fits
    high: float


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How one contender scales; None where fewer than three lengths count."""

    variant: str
    lengths: tuple[int, ...]  # measured, ascending
    forward_time: Exponent | None
    gradient_time: Exponent | None  # forward and gradient together
    forward_memory: Exponent | None  # of temporaries
    gradient_memory: Exponent | None


def fit(points: Iterable[tuple[int, float | None]]) -> Exponent | None:
    """Returns the exponent of (length, cost) at ascending lengths; None for fewer than three that are above 0."""
    logs = [(np.log(length), np.log(cost)) for length, cost in points if cost and cost > 0]
    if len(logs) < _LEAST:
        return None
    x, y = np.asarray(logs).T
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in itertools.pairwise(logs)]
    value = (x - x.mean()) @ (y - y.mean()) / np.square(x - x.mean()).sum()
    return Exponent(float(value), float(min(slopes)), float(max(slopes)))


def of(timings: Sequence[Timing]) -> list[Scaling]:
    """Returns the scaling of every contender that was measured at three lengths or more, in their order."""
    found = []
    for name in dict.fromkeys(timing.variant for timing in timings):
        own = sorted((each for each in timings if each.variant == name), key=lambda each: each.length)
        if len(own) < _LEAST:
            continue
        fields = "forward_ms", "gradient_ms", "forward_bytes", "peak_bytes"
        exponents = [fit([(each.length, getattr(each, field)) for each in own]) for field in fields]
        found.append(Scaling(name, tuple(each.length for each in own), *exponents))
    return found
