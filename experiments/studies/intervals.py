"""Confidence intervals and medians for a handful of runs."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean of independent runs and its 95 % interval by Student's t.

    The spread of a single run is unknown: its interval is (nan, nan), and comparing it with another is never true.
    Bounds are not clipped to the range of an accuracy.

    Raises:
      ValueError: there are no values, or one is not finite; give a diverged run a score before it gets here.
    """
    runs = np.asarray(values, np.float64)
    if runs.ndim != 1 or not runs.size or not np.isfinite(runs).all():
        raise ValueError(f"`values` must be one or more finite numbers; got {values!r}.")
    mean = float(runs.mean())
    if runs.size == 1:
        return mean, math.nan, math.nan
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, runs.size - 1)
    half = float(quantile * runs.std(ddof=1) / math.sqrt(runs.size))
    return mean, mean - half, mean + half


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a rate, `successes` out of `n`, by Wilson's score; (0, 1) where n is 0.

    References:
      Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= successes <= n:
        raise ValueError(f"`successes` must be between 0 and n; got {successes} of {n}.")
    if n == 0:
        return 0.0, 1.0
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    rate, shrink = successes / n, 1 + z**2 / n
    middle = (rate + z**2 / (2 * n)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / shrink
    low = 0.0 if successes == 0 else middle - half  # exactly; rounding would leave a small remainder
    high = 1.0 if successes == n else middle + half
    return low, high


def median_steps(steps: Sequence[int | None]) -> float | None:
    """Returns the median number of steps to solve, or None where the median run is unsolved.

    Args:
      steps: per run; None for an unsolved or diverged one, which is kept and counts as longer than any other.
    """
    if not steps:
        return None
    ordered = sorted(math.inf if value is None else value for value in steps)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle if math.isfinite(middle) else None
