import math

import numpy as np
import pytest

from experiments.studies import intervals


def test_mean_interval_by_hand():
    mean, low, high = intervals.mean_interval([0.7, 0.8, 0.9])
    assert mean == pytest.approx(0.8)
    assert high - mean == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)  # t quantile of 2 degrees of freedom
    assert mean - low == pytest.approx(high - mean)


def test_mean_interval_covers_the_truth_in_95_of_100_studies():
    runs = np.random.default_rng(0).normal(0.3, 0.1, (2000, 4))
    covered = [low < 0.3 < high for _, low, high in map(intervals.mean_interval, runs)]
    assert abs(np.mean(covered) - 0.95) < 0.02


def test_mean_interval_of_equal_runs_is_a_point_and_of_one_run_unknown():
    assert intervals.mean_interval([1.0, 1.0, 1.0]) == (1.0, 1.0, 1.0)
    mean, low, high = intervals.mean_interval([0.5])
    assert mean == 0.5 and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf]])
def test_mean_interval_refuses_what_is_no_score(values: list[float]):
    with pytest.raises(ValueError, match="finite numbers"):
        intervals.mean_interval(values)


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    "successes, n, low, high",
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_published_intervals(successes: int, n: int, low: float, high: float):
    assert intervals.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert intervals.wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_at_the_ends():
    assert intervals.wilson(0, 0) == (0.0, 1.0)
    assert intervals.wilson(0, 5)[0] == 0.0 and intervals.wilson(5, 5)[1] == 1.0
    with pytest.raises(ValueError, match="between 0 and n; got 6 of 5"):
        intervals.wilson(6, 5)


@pytest.mark.parametrize(
    "steps, median",
    [
        ([300, 100, 200], 200),
        ([100, 200, 300, 500], 250),
        ([100, None, 200], 200),
        ([100, None, None], None),
        ([100, 200, None, None], None),
        ([None], None),
        ([], None),
    ],
)
def test_median_steps_keeps_unsolved_runs(steps: list[int | None], median: float | None):
    assert intervals.median_steps(steps) == median
