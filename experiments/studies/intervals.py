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
_SHORTER = 0.64  # what is taken off the quantile of differences, times the squared degrees of freedom
_HALVINGS = 14  # of the interval searched for a p value, which is then right to 0.1 %
_ANGLES = 90  # at which an ellipse is sampled; its widths are then right to 0.1 %


class Estimate(NamedTuple):
    """A mean over runs, and the ends of its interval or, with fewer than `LEAST` runs, of the range of the runs."""

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
        """The ends as they can be drawn: an infinite one, from runs that do not solve, is put at the mean."""
        return self.low, self.high if math.isfinite(self.high) else self.mean


class _Interval(Estimate):
    """An estimate whose ends are an interval, however few runs there are."""

    kind = "interval"


class _Range(Estimate):
    """An estimate whose ends are the range, however many runs there are."""

    kind = "range"


def mean_accuracy(values: Sequence[float]) -> Estimate:
    """Returns the mean of independent accuracies and its 95 % interval, or their range if they are few.

    The interval is Student's on the scale of log-odds, by the delta method, and so stays within [0, 1]: with mean m and
    standard error s it is the inverse logit of logit(m) +- t s / (m (1 - m)). Equal runs give a point.

    Simulated coverage for 5 and 10 runs is 93.1 to 95.9 %, for means from 0.005 to 0.995 with the spreads of beta and
    of clipped normal runs (tests/experiments/studies/test_intervals.py). Student's interval on the scale of accuracies
    has 88 % for 5 runs of mean 0.995 whose density is highest at 1. No interval from 5 runs is right if few of them
    fall far below the rest, for example if one in ten does not solve its task: most studies then see no such run, and
    about 40 % of the intervals cover the mean. In that case, read the solve rate with Wilson's interval.

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

    The interval is Student's, with Bonferroni's correction for the number of `comparisons`.
    """
    runs = np.asarray(one, np.float64) - np.asarray(two, np.float64)
    return _with_interval(_range(runs), runs, comparisons)


def number_p(one: Runs, two: Runs) -> Each:
    """Returns two-sided p values that paired numbers have equal means, by Student's t test of their differences."""
    return 2 * scipy.stats.t.sf(_student((one - two).mean(-1), _error(one - two)), one.shape[-1] - 1)


def solve_rate(solved: Sequence[float]) -> Estimate:
    """Returns the share of runs that solve (each is 1 or 0) and its Wilson interval, however few they are."""
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

    Each end lies between that of Student's interval of the differences and the wider of it and another one: the
    differences of means that are possible while both log-odds, whose errors are correlated, are in Student's joint
    region. The first is too narrow if one of two rows near a bound is wide and the other narrow (91.7 % instead of 95),
    the second if both are densest at the bound (92.4 %), and the wider of the two is too wide if scores are clipped
    (97.5 %). Halfway, 5 runs of two equal rows that are densest at the bound are covered in 97.5 %, while Student's
    alone has 96.7 %; so the quantile is smaller than Student's, by 0.64 over the squared degrees of freedom, which is
    4 % for 5 runs and 0.8 % for 10. That is chosen by simulation, not derived. The interval then covers 93.2 to 97.0 %
    in all 210 simulated pairs of spreads and numbers of runs (tests/experiments/studies/test_intervals.py).

    With Bonferroni's correction, the intervals of all `comparisons` cover all of their means at once in 95 % of
    studies, and in 93 % or more for 30 rows with skewed runs. This far out, Student's is the worse of the two, and its
    weight, a half for one comparison, is 1 / (2 sqrt(comparisons)); the reduction of the quantile falls in the same
    way. Equal rows, and rows of equal runs, give a point.

    References:
      Dunn 1961, "Multiple comparisons among means".

    Raises:
      ValueError: there are no accuracies, the two differ in number, or one is not from 0 to 1.
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
    joint, quantile = _Joint.of(one, two), _quantile(one.shape[-1], comparisons)
    return joint.low_end(quantile), -_Joint.of(two, one).low_end(quantile)


def paired_p(one: Runs, two: Runs) -> Each:
    """Returns two-sided p values for equal means of paired accuracies: the levels at which the interval ends at 0.

    Rows without any spread have p 0, or 1 where they are equal.
    """
    above = (one.mean(-1) >= two.mean(-1))[..., None]
    size = _Joint.of(np.where(above, one, two), np.where(above, two, one)).reach()
    return 2 * scipy.stats.t.sf(size, one.shape[-1] - 1)


class _Joint(NamedTuple):
    """Pairs of rows on both scales; `low_end` and `reach` say how far below the mean their difference may lie."""

    runs: int  # of each row
    mean: Each  # of the differences
    error: Each  # its standard error
    odds: tuple[Each, Each]  # log-odds of both means
    errors: tuple[Each, Each]  # their standard errors
    correlation: Each  # of these errors
    spread: Bool[np.ndarray, "*studies"]  # whether both rows have log-odds with an error; else only Student's is used

    @classmethod
    def of(cls, one: Runs, two: Runs) -> "_Joint":
        """Reads off what follows from the runs."""
        (odds, part), (other_odds, other_part), spread = _log_odds(one, two)
        correlation = (part * other_part).sum(-1) / np.sqrt((part**2).sum(-1) * (other_part**2).sum(-1))
        errors = _error(part), _error(other_part)
        middles = (one - two).mean(-1), _error(one - two)
        return cls(one.shape[-1], *middles, (odds, other_odds), errors, correlation, spread)

    def low_end(self, quantile: float | Each) -> Each:
        """Returns the lower ends of intervals at the level at which Student's reach `quantile` standard errors."""
        level = 2 * scipy.stats.t.sf(quantile, self.runs - 1)
        share = np.sqrt(np.minimum(level / (1 - CONFIDENCE), 1.0))  # 1 for one comparison, less for one of many
        quantile = np.where(self.spread, quantile * (1 - _SHORTER * share / (self.runs - 1) ** 2), quantile)
        student = self.mean - quantile * self.error
        alone = np.sqrt(np.maximum(1 - self.correlation**2, 0.0))
        reach, other_reach = (quantile * error for error in self.errors)
        low = student
        for angle in np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False):  # around the joint region, which is an ellipse
            shift = other_reach * (self.correlation * math.cos(angle) + alone * math.sin(angle))
            found = scipy.special.expit(self.odds[0] + reach * math.cos(angle)) - scipy.special.expit(
                self.odds[1] + shift
            )
            low = np.minimum(low, found)
        return np.where(self.spread, low + share / 2 * (student - low), student)

    def reach(self) -> Each:
        """Returns the quantile at which the lower end is 0, for pairs whose mean difference is at least 0."""
        student = _student(self.mean, self.error)
        wide = self.spread & np.isfinite(student)
        most = np.where(wide, student / (1 - _SHORTER / (self.runs - 1) ** 2), student)
        low, high = np.where(wide, 0.0, most), most
        for _ in range(_HALVINGS if wide.any() else 0):  # the end falls as it reaches further
            middle = np.where(wide, (low + high) / 2, most)
            inside = self.low_end(np.where(wide, middle, 0.0)) > 0
            low, high = np.where(wide & inside, middle, low), np.where(wide & ~inside, middle, high)
        return high


def holm(p_values: Float[np.ndarray, "*studies tests"]) -> Float[np.ndarray, "*studies tests"]:
    """Returns p values corrected for their number: rejecting those up to 0.05 errs anywhere in at most 5 % of studies.

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
    """Returns a mean with its interval by Student's t, or unchanged if the runs are few or equal."""
    if estimate.n < LEAST or estimate.low == estimate.high:
        return estimate
    half = float(_half(runs, comparisons))
    return estimate._replace(low=estimate.mean - half, high=estimate.mean + half)


def _half(runs: Runs, comparisons: int = 1) -> Each:
    """Returns half the width of the interval of the mean by Student's t, corrected for the number of `comparisons`."""
    return _quantile(runs.shape[-1], comparisons) * _error(runs)


def _quantile(runs: int, comparisons: int) -> float:
    """Returns how many standard errors an interval reaches."""
    return float(scipy.stats.t.ppf(1 - (1 - CONFIDENCE) / (2 * comparisons), runs - 1))


def _error(runs: Runs) -> Each:
    """Returns the standard error of the mean."""
    return runs.std(-1, ddof=1) / math.sqrt(runs.shape[-1])


def _student(mean: Each, error: Each) -> Each:
    """Returns the absolute value of Student's t: the mean in standard errors, infinite if the error is 0."""
    return np.divide(np.abs(mean), error, out=np.where(mean == 0, 0.0, math.inf), where=error > 0)


def _log_odds(one: Runs, two: Runs) -> tuple[tuple[Each, Runs], tuple[Each, Runs], Bool[np.ndarray, "*studies"]]:
    """Returns, for both rows, the log-odds of the mean and what each run adds to them, and whether both have a spread.

    If one has none, its log-odds have no error and may be infinite; the values of both are then of no use.
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

    Over all rates it covers 95.5 % for 5 runs and 95.4 % for 10. At single rates near 0 or 1, coverage falls to 83 %:
    so few runs have few possible counts, and no interval of a count covers every rate alike.

    References:
      Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= successes <= n:
        raise ValueError(f"`successes` must be between 0 and n; got {successes} of {n}.")
    if n == 0:
        return 0.0, 1.0
    z = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2))
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
