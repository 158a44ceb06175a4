"""The clock of the benchmarks: times of calls that take turns."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Times(NamedTuple):
    """What some calls took, in seconds."""

    median: float
    low: float  # quartiles
    high: float

    @property
    def milliseconds(self) -> "Times":
        """Returns the same in milliseconds."""
        return Times(*(1e3 * each for each in self))


def take_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Returns how long each call took over `repeats` turns.

    A turn calls each one untimed, then timed; otherwise, what the others left in the caches would cost a long call more
    than a short one. A busy moment affects all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            jax.block_until_ready(call())
            started = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - started)
    return {name: Times(*np.quantile(each, (0.5, 0.25, 0.75)).tolist()) for name, each in seconds.items()}
