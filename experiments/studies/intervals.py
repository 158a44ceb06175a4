"""Intervals, ranges and tests for a handful of runs, and their medians."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Bool, Float

Runs = Float[np.ndarray, "*studies runs"]
Each = Float[np.ndarray, "*studies"]
CONFIDENCE = 0.95
LEAST = 5  # runs; fewer have a range and no interval
_ANGLES = 90  # at which an ellipse is looked at; its widths are then right to 0.1 %


class Estimate(NamedTuple):
    """A mean over runs, and between which ends: of its interval or, with fewer than `LEAST` runs, of the runs."""

    mean: float
    low: float
    high: float
    n: int  # runs

    @property
    def kind(self) -> str:
        """What the ends are: "interval", "range", or nothing for a single run."""
        return "interval" if self.n >= LEAST else "range" if self.n > 1 else ""

    @property
    def seen(self) -> tuple[float, float]:
        """The ends as they can be drawn: one that is infinite, of runs that do not solve, stands at the mean."""
        return self.low, self.high if math.isfinite(self.high) else self.mean


class _Interval(Estimate):
    """One whose ends are an interval, however few runs there are."""

    kind = "interval"


class _Range(Estimate):
    """One whose ends are the range, however many runs there are."""

    kind = "range"


def mean_accuracy(values: Sequence[float]) -> Estimate:
    """Returns the mean of independent accuracies and its 95 % interval, or their range if they are few.

    The interval is Student's on the scale of log-odds, by the delta method, and so stays within [0, 1]: with mean m and
    standard error s it is the inverse logit of logit(m) +- t s / (m (1 - m)). Equal runs give a point.

    Simulated coverage for 5 and 10 runs is 93.1 to 95.9 %, for means from 0.005 to 0.995 with the spreads of beta and
    of clipped normal runs (tests/experiments/studies/test_intervals.py). Student's interval on the scale of accuracies
    has 88 % for 5 runs of mean 0.995 whose density is highest at 1. No interval from 5 runs is right where few of them
    fall far below the rest, as where one in ten does not solve its task: most studies then see no such run, and about
    40 % of the intervals cover the mean. The solve rate, with Wilson's interval, is what to read there.

    References:
      Oehlert 1992, "A note on the delta method".

    Raises:
      ValueError: there are no values, or one is not from 0 to 1; give a diverged run a score before it gets here.
    """
    runs = _accuracies(values)
    estimate = _range(runs)
    if estimate.n < LEAST or estimate.low == estimate.high:
        return estimate
    low, high = log_odds_ends(runs)
    return estimate._replace(low=float(low), high=float(high))


def mean_number(values: Sequence[float]) -> Estimate:
    """Returns the mean of independent numbers and its 95 % interval by Student's t, or their range if they are few."""
    runs = np.asarray(values, np.float64)
    return _with_interval(_range(runs), runs)


def number_difference(one: Sequence[float], two: Sequence[float], comparisons: int = 1) -> Estimate:
    """Returns the mean of `one` - `two`, any numbers paired by seed, with its interval or range.

    The interval is Student's, by Bonferroni's correction for so many `comparisons`.
    """
    runs = np.asarray(one, np.float64) - np.asarray(two, np.float64)
    return _with_interval(_range(runs), runs, comparisons)


def number_p(one: Runs, two: Runs) -> Each:
    """Returns two-sided p values that paired numbers have equal means, by Student's t test of their differences."""
    return 2 * _t_tail(_student((one - two).mean(-1), one - two), one.shape[-1] - 1)


def solve_rate(solved: Sequence[float]) -> Estimate:
    """Returns the share of runs that solve, 1 of each or 0, and its Wilson interval, however few they are."""
    rate = float(np.mean(solved))
    return _Interval(rate, *wilson(round(sum(solved)), len(solved)), len(solved))


def median_and_range(steps: Sequence[float]) -> Estimate | None:
    """Returns the median steps to solve and their range; None where the median run is unsolved, which is infinite."""
    median = median_steps([None if math.isinf(value) else int(value) for value in steps])
    return None if median is None else _Range(median, min(steps), max(steps), len(steps))


def log_odds_ends(runs: Runs) -> tuple[Each, Each]:
    """Returns the ends of the intervals of `mean_accuracy`, of many studies at once."""
    mean = runs.mean(-1)
    slope = mean * (1 - mean)  # of accuracies over log-odds
    half = np.divide(_half(runs), slope, out=np.zeros_like(mean), where=slope > 0)
    middle = scipy.special.logit(mean)
    return scipy.special.expit(middle - half), scipy.special.expit(middle + half)


def mean_difference(one: Sequence[float], two: Sequence[float], comparisons: int = 1) -> Estimate:
    """Returns the mean of `one` - `two`, accuracies paired by seed, with its interval, or the range of the differences.

    The interval is the wider at each end of two: Student's of the differences, and what the differences of means can be
    while both log-odds, whose errors are correlated, are in Student's joint region. The first is too narrow where one
    of two rows near a bound is wide and the other narrow (91.7 % instead of 95), the second where both are densest at
    the bound (92.4 %). Together they cover 94.6 to 97.4 % in simulations. Equal rows, and rows of equal runs, give a
    point. By Bonferroni's correction the intervals of so many `comparisons` cover all of their means at once in 95 % of
    studies; of 30 rows with skewed runs, in 93 % or more.

    References:
      Dunn 1961, "Multiple comparisons among means".

    Raises:
      ValueError: there are no accuracies, or not as many of both, or one is not from 0 to 1.
    """
    first, second = _accuracies(one), _accuracies(two)
    if first.shape != second.shape:
        raise ValueError(f"`one` and `two` must be pairs; got {first.size} and {second.size} accuracies.")
    estimate = _range(first - second)
    equal = estimate.low == estimate.high and (estimate.low == 0 or np.ptp(first) == 0)
    if estimate.n < LEAST or equal:
        return estimate
    low, high = difference_ends(first, second, comparisons)
    return estimate._replace(low=float(low), high=float(high))


def difference_ends(one: Runs, two: Runs, comparisons: int = 1) -> tuple[Each, Each]:
    """Returns the ends of the intervals of `mean_difference`, of many pairs of rows at once."""
    middle, half = (one - two).mean(-1), _half(one - two, comparisons)
    low, high = middle - half, middle + half
    (odds, part), (other_odds, other_part), spread = _log_odds(one, two)
    reach, other_reach = _half(part, comparisons), _half(other_part, comparisons)
    correlation = (part * other_part).sum(-1) / np.sqrt((part**2).sum(-1) * (other_part**2).sum(-1))
    alone = np.sqrt(np.maximum(1 - correlation**2, 0.0))
    ends: tuple[Each, Each] = (low, high)
    for angle in np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False):  # around the joint region, which is an ellipse
        shift = other_reach * (correlation * math.cos(angle) + alone * math.sin(angle))
        found = scipy.special.expit(odds + reach * math.cos(angle)) - scipy.special.expit(other_odds + shift)
        ends = np.minimum(ends[0], found), np.maximum(ends[1], found)
    return np.where(spread, ends[0], low), np.where(spread, ends[1], high)


def paired_p(one: Runs, two: Runs) -> Each:
    """Returns two-sided p values that paired accuracies have equal means: the larger one of two, as of the intervals.

    One is of Student's t test of the differences, the other of that of the log-odds of both means. Rows without any
    spread have p 0, or 1 where they are equal.
    """
    (odds, part), (other_odds, other_part), spread = _log_odds(one, two)
    plain = _student((one - two).mean(-1), one - two)
    size = np.where(spread, np.minimum(plain, _student(odds - other_odds, part - other_part)), plain)
    return 2 * _t_tail(size, one.shape[-1] - 1)


def holm(p_values: Float[np.ndarray, "*studies tests"]) -> Float[np.ndarray, "*studies tests"]:
    """Returns p values corrected for their number: to reject those up to 0.05 errs anywhere in at most 5 % of studies.

    References:
      Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = np.argsort(p_values, -1)
    left = np.arange(p_values.shape[-1], 0, -1)  # how many tests are left, the one itself included
    stepped = np.minimum(np.take_along_axis(p_values, order, -1) * left, 1.0)
    corrected = np.empty_like(p_values)
    np.put_along_axis(corrected, order, np.maximum.accumulate(stepped, -1), -1)
    return corrected


def _accuracies(values: Sequence[float]) -> Float[np.ndarray, "runs"]:
    runs = np.asarray(values, np.float64)
    if runs.ndim != 1 or not runs.size or not ((runs >= 0) & (runs <= 1)).all():
        raise ValueError(f"`values` must be one or more numbers from 0 to 1; got {values!r}.")
    return runs


def _range(runs: Float[np.ndarray, "runs"]) -> Estimate:
    """Returns mean and range; rounding moves no mean out of the range."""
    low, high = float(runs.min()), float(runs.max())
    return Estimate(min(max(float(runs.mean()), low), high), low, high, runs.size)


def _with_interval(estimate: Estimate, runs: Float[np.ndarray, "runs"], comparisons: int = 1) -> Estimate:
    """Returns a mean with its interval by Student's t, or as it is where the runs are few or equal."""
    if estimate.n < LEAST or estimate.low == estimate.high:
        return estimate
    half = float(_half(runs, comparisons))
    return estimate._replace(low=estimate.mean - half, high=estimate.mean + half)


def _half(runs: Runs, comparisons: int = 1) -> Each:
    """Returns half the width of the interval of the mean by Student's t, which so many `comparisons` share."""
    n = runs.shape[-1]
    quantile = scipy.special.stdtrit(n - 1, 1 - (1 - CONFIDENCE) / (2 * comparisons))
    return quantile * runs.std(-1, ddof=1) / math.sqrt(n)


def _t_tail(size: Each, freedom: int) -> Each:
    """Returns how likely Student's t exceeds `size`; `scipy.stats`, which has it too, takes a second to import."""
    return scipy.special.stdtr(freedom, -size)


def _student(mean: Each, runs: Runs) -> Each:
    """Returns the size of Student's t: of a mean in standard errors, infinite where `runs` are all equal."""
    error = runs.std(-1, ddof=1) / math.sqrt(runs.shape[-1])
    return np.divide(np.abs(mean), error, out=np.where(mean == 0, 0.0, math.inf), where=error > 0)


def _log_odds(one: Runs, two: Runs) -> tuple[tuple[Each, Runs], tuple[Each, Runs], Bool[np.ndarray, "*studies"]]:
    """Returns of both the log-odds of the mean and what each run adds to them, and whether both have a spread.

    Where one has none, its log-odds have no error and may be infinite; what stands in both is then of no use.
    """
    means = [runs.mean(-1) for runs in (one, two)]
    inside = [(np.ptp(runs, -1) > 0) & (mean * (1 - mean) > 0) for runs, mean in zip((one, two), means, strict=True)]
    spread = inside[0] & inside[1]
    found = []
    for runs, mean in zip((one, two), means, strict=True):
        middle, apart = np.where(spread, mean, 0.5), runs - mean[..., None]
        slope = middle * (1 - middle)  # of accuracies over log-odds
        part = np.where(spread[..., None], apart, np.arange(runs.shape[-1])) / slope[..., None]
        found.append((scipy.special.logit(middle), part))
    return found[0], found[1], spread


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a rate, `successes` out of `n`, by Wilson's score; (0, 1) where n is 0.

    References:
      Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= successes <= n:
        raise ValueError(f"`successes` must be between 0 and n; got {successes} of {n}.")
    if n == 0:
        return 0.0, 1.0
    z = float(scipy.special.ndtri((1 + CONFIDENCE) / 2))
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
