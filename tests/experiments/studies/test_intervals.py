"""Intervals cover as often as they say, near the bounds too, and a correction keeps its rate of errors."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from experiments.studies import intervals
from experiments.studies.intervals import Estimate

STUDIES = 20_000  # simulated; the error of a coverage is 0.15 points
TESTED = 31  # rows of a task, one of which the others are compared with
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def beta(mean: float, deviation: float) -> tuple[float, Draw]:
    total = mean * (1 - mean) / deviation**2 - 1
    return mean, lambda rng, shape: rng.beta(mean * total, (1 - mean) * total, shape)


def clipped(centre: float, deviation: float) -> tuple[float, Draw]:
    """A normal score that cannot leave [0, 1], and its mean."""
    ends = (np.array([0.0, 1.0]) - centre) / deviation
    below, inside = stats.norm.cdf(ends[0]), np.diff(stats.norm.cdf(ends))[0]
    mean = centre * inside - deviation * np.diff(stats.norm.pdf(ends))[0] + (1 - below - inside)
    return float(mean), lambda rng, shape: np.clip(rng.normal(centre, deviation, shape), 0.0, 1.0)


def solved(rate: float) -> tuple[float, Draw]:
    """Runs that solve their task at this rate, near 0.995, and else stay near 0.2."""
    high, low = beta(0.995, 0.003)[1], beta(0.2, 0.01)[1]
    mean = 0.995 * rate + 0.2 * (1 - rate)
    return mean, lambda rng, shape: np.where(rng.random(shape) < rate, high(rng, shape), low(rng, shape))


SPREADS = {
    "half, narrow": beta(0.5, 0.01),
    "half, wide": beta(0.5, 0.2),
    "0.9": beta(0.9, 0.02),
    "0.9, wide": beta(0.9, 0.05),
    "0.97": beta(0.97, 0.01),
    "0.97, wide": beta(0.97, 0.02),
    "0.995": beta(0.995, 0.002),
    "0.995, wide": beta(0.995, 0.003),
    "0.995, densest at 1": beta(0.995, 0.005),
    "0.03": beta(0.03, 0.01),
    "0.005": beta(0.005, 0.002),
    "0.97, clipped": clipped(0.97, 0.02),
    "0.99, clipped": clipped(0.99, 0.01),
    "0.995, clipped": clipped(0.995, 0.005),
}


def covered(low: np.ndarray, high: np.ndarray, mean: float) -> float:
    return float(((low <= mean) & (mean <= high)).mean())


@pytest.mark.parametrize("runs", [5, 10])
@pytest.mark.parametrize("spread", SPREADS)
def test_the_interval_of_accuracies_covers_within_2_points_of_95_percent(spread: str, runs: int):
    mean, draw = SPREADS[spread]
    low, high = intervals.log_odds_ends(draw(np.random.default_rng(0), (STUDIES, runs)))
    assert 0.93 <= covered(low, high, mean) <= 0.97


def test_students_interval_of_the_accuracies_themselves_would_not_do():
    mean, draw = SPREADS["0.995, densest at 1"]
    runs = draw(np.random.default_rng(0), (STUDIES, 5))
    half = stats.t.ppf(0.975, 4) * runs.std(-1, ddof=1) / math.sqrt(5)
    assert covered(runs.mean(-1) - half, runs.mean(-1) + half, mean) < 0.9
    assert (runs.mean(-1) + half > 1).mean() > 0.1, "and it leaves the bounds"


def test_an_interval_of_runs_that_rarely_fail_is_known_to_miss_the_mean():
    mean, draw = solved(0.9)
    low, high = intervals.log_odds_ends(draw(np.random.default_rng(0), (STUDIES, 5)))
    assert covered(low, high, mean) == pytest.approx(0.4, abs=0.03), "as the docstring says"


def test_mean_accuracy_by_hand():
    runs = [0.91, 0.93, 0.95, 0.97, 0.99]  # mean 0.95, variance 0.001
    step = 2.776445 * math.sqrt(0.001 / 5) / (0.95 * 0.05)  # t quantile of 4 degrees of freedom
    odds = 0.95 / 0.05
    low, high = (odds * math.exp(sign * step) / (1 + odds * math.exp(sign * step)) for sign in (-1, 1))
    assert intervals.mean_accuracy(runs) == pytest.approx((0.95, low, high, 5), rel=1e-6)


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("runs", [2, 3, 5, 7])
def test_ends_stay_within_the_bounds_on_both_sides_of_the_mean_and_mirror(spread: str, runs: int):
    for values in SPREADS[spread][1](np.random.default_rng(1), (13, runs)):
        found, mirrored = intervals.mean_accuracy(values), intervals.mean_accuracy(1 - values)
        assert 0 <= found.low <= found.mean <= found.high <= 1
        assert mirrored[:3] == pytest.approx((1 - found.mean, 1 - found.high, 1 - found.low), abs=1e-12)


def test_fewer_than_five_runs_have_the_range_and_a_single_one_has_neither():
    assert intervals.mean_accuracy([0.25, 1.0, 0.25]) == Estimate(0.5, 0.25, 1.0, 3)
    kinds = [intervals.mean_accuracy([0.1 * run for run in range(n)]).kind for n in range(1, 8)]
    assert kinds == ["", "range", "range", "range", "interval", "interval", "interval"]
    assert intervals.mean_difference([0.25, 0.5], [0.75, 0.25]) == Estimate(-0.125, -0.5, 0.25, 2)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7, 1 - 1e-16, 1.0])
@pytest.mark.parametrize("runs", [1, 3, 5, 11])
def test_equal_runs_are_a_point_and_never_nan(value: float, runs: int):
    assert intervals.mean_accuracy([value] * runs) == Estimate(value, value, value, runs)
    for other in (0.0, 0.5, value):
        difference = value - other
        assert intervals.mean_difference([value] * runs, [other] * runs, 7) == Estimate(*3 * [difference], runs)
        p_value = intervals.paired_p(np.full((3, max(runs, 2)), value), np.full((3, max(runs, 2)), other))
        assert p_value == pytest.approx(float(difference == 0))


def test_almost_equal_runs_are_no_nan():
    for runs in ([1.0, 1.0, 1.0, 1.0, 1 - 2e-16], [0.0, 0.0, 0.0, 0.0, 5e-324], [0.0, 1.0, 1.0, 1.0, 1.0]):
        found = intervals.mean_accuracy(runs)
        assert 0 <= found.low <= found.mean <= found.high <= 1


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [math.inf], [1.5], [-0.1, 0.5]])
def test_what_is_no_accuracy_is_refused(values: list[float]):
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        intervals.mean_accuracy(values)


def test_differences_are_of_pairs():
    with pytest.raises(ValueError, match="must be pairs; got 2 and 3"):
        intervals.mean_difference([0.5, 0.5], [0.1, 0.2, 0.3])


PAIRS = [  # of all pairs, those are among them that are covered least and most often
    ("half, narrow", "0.9"),
    ("0.9, wide", "0.995"),
    ("0.97", "0.97"),
    ("0.97, wide", "0.995"),
    ("0.995, wide", "0.995, wide"),
    ("0.99, clipped", "0.97, clipped"),
    ("0.995", "0.995, densest at 1"),
    ("0.995, densest at 1", "0.995, densest at 1"),
    ("0.995, clipped", "0.995, clipped"),
    ("0.995, wide", "0.99, clipped"),
]


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("spread, other", PAIRS)
def test_intervals_of_differences_cover_one_by_one_and_all_at_once(spread: str, other: str, seeds: int):
    (mean, draw), (reference, draw_reference) = SPREADS[spread], SPREADS[other]
    rng = np.random.default_rng(2)
    low, high = intervals.difference_ends(draw(rng, (STUDIES, seeds)), draw_reference(rng, (STUDIES, seeds)))
    assert 0.93 <= covered(low, high, mean - reference) <= 0.97, "one by one"
    rows, first = draw(rng, (1009, TESTED - 1, seeds)), draw_reference(rng, (1009, 1, seeds))
    low, high = intervals.difference_ends(rows, np.broadcast_to(first, rows.shape), TESTED - 1)
    assert ((low <= mean - reference) & (mean - reference <= high)).all(-1).mean() >= 0.93, "all at once"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 10])
def test_intervals_of_differences_cover_in_all_pairs_of_spreads(seeds: int):
    rng, found = np.random.default_rng(1), []
    for (mean, draw), (reference, draw_reference) in itertools.combinations_with_replacement(SPREADS.values(), 2):
        low, high = intervals.difference_ends(draw(rng, (STUDIES, seeds)), draw_reference(rng, (STUDIES, seeds)))
        found.append(covered(low, high, mean - reference))
    assert len(found) == 105 and 0.93 <= min(found) and max(found) <= 0.97


def test_students_interval_of_the_differences_alone_would_not_do():
    (mean, draw), (reference, draw_reference) = SPREADS["0.97, wide"], SPREADS["0.995"]
    rng = np.random.default_rng(2)
    differences = draw(rng, (STUDIES, 5)) - draw_reference(rng, (STUDIES, 5))
    half = stats.t.ppf(0.975, 4) * differences.std(-1, ddof=1) / math.sqrt(5)
    middle = differences.mean(-1)
    assert covered(middle - half, middle + half, mean - reference) < 0.925


@pytest.mark.parametrize("comparisons", [1, 30])
@pytest.mark.parametrize("seeds, taken_off", [(5, 0.04), (11, 0.0064)])
def test_so_much_is_taken_off_students_quantile(seeds: int, taken_off: float, comparisons: int):
    one, two = 0.5 + 1e-5 * np.random.default_rng(7).normal(size=(2, seeds))  # so near that all scales are one

    def length(other: np.ndarray) -> float:  # in Student's
        found = intervals.mean_difference(one, other, comparisons)
        quantile = stats.t.ppf(1 - 0.025 / comparisons, seeds - 1)
        return (found.high - found.low) / (2 * quantile * (one - other).std(ddof=1) / math.sqrt(seeds))

    assert length(two) == pytest.approx(1 - taken_off / math.sqrt(comparisons), abs=1e-3)
    assert length(np.full(seeds, 0.5)) == pytest.approx(1), "nothing where a row has no spread"


@pytest.mark.parametrize("spread", ["0.9", "0.97, wide", "0.99, clipped"])
def test_a_difference_has_a_small_p_value_where_its_interval_leaves_out_0(spread: str):
    rng = np.random.default_rng(5)
    one, two = SPREADS[spread][1](rng, (2003, 5)), SPREADS["0.9"][1](rng, (2003, 5))
    p_value = intervals.paired_p(one, two)
    for comparisons in (1, 7, 31):
        low, high = intervals.difference_ends(one, two, comparisons)
        apart, limit = (low > 0) | (high < 0), 0.05 / comparisons
        assert (p_value[apart] < 1.01 * limit).all() and (p_value[~apart] > 0.99 * limit).all()


def test_equal_differences_of_rows_that_spread_are_no_point():
    one = np.array([0.71, 0.83, 0.9, 0.95, 0.97, 0.99, 0.88])
    found, p_value = intervals.mean_difference(one, one - 0.125), intervals.paired_p(one, one - 0.125)
    assert found.low <= found.mean <= found.high and found.high - found.low > 0.01
    assert found.mean == pytest.approx(0.125)
    assert (p_value < 0.05) == (found.low > 0)


def test_a_pair_exchanged_has_the_opposite_difference():
    rng = np.random.default_rng(6)
    one, two = SPREADS["0.9, wide"][1](rng, (7,)), SPREADS["0.995"][1](rng, (7,))
    there, back = intervals.mean_difference(one, two, 3), intervals.mean_difference(two, one, 3)
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low), rel=2e-3)
    mirrored = intervals.mean_difference(1 - one, 1 - two, 3)
    assert mirrored[:3] == pytest.approx(back[:3], rel=2e-3)


EQUAL_ROWS = ("half, narrow", "0.97, wide", "0.995, densest at 1", "0.99, clipped")


@pytest.mark.parametrize("seeds", [5, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("spread", [*EQUAL_ROWS, "half of the runs solve", "most runs solve"])
def test_rows_that_do_not_differ_separate_in_at_most_5_percent_of_studies(spread: str, seeds: int):
    rates = {"half of the runs solve": 0.5, "most runs solve": 0.9}
    draw = solved(rates[spread])[1] if spread in rates else SPREADS[spread][1]
    scores = draw(np.random.default_rng(3), (STUDIES // 5, TESTED, seeds))
    first = np.broadcast_to(scores[:, :1], scores[:, 1:].shape)

    def separate(comparisons: int) -> float:  # Holm's correction begins with Bonferroni's
        low, high = intervals.difference_ends(scores[:, 1:], first, comparisons)
        return ((low > 0) | (high < 0)).any(-1).mean()

    assert separate(TESTED - 1) <= 0.055, "0.3 points is the error of the simulation"
    assert separate(1) > 0.15, "which no correction would not keep"


def test_the_paired_test_sees_through_what_seeds_share():
    rng = np.random.default_rng(4)
    shared = 0.5 + 0.05 * rng.normal(size=(1009, 7))
    one, two = shared + 0.001 * rng.normal(size=(2, 1009, 7))
    p_values = intervals.paired_p(one + 0.005, two)
    assert (p_values < 0.05).mean() > 0.99
    assert (p_values >= 0.88 * stats.ttest_rel(one + 0.005, two, axis=-1).pvalue).all()
    assert (stats.ttest_ind(one + 0.005, two, axis=-1).pvalue < 0.05).mean() < 0.1
    low, high = intervals.difference_ends(one + 0.005, two)
    assert (high - low).mean() < 0.01


@pytest.mark.parametrize(
    "p_values, corrected",
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # as R's p.adjust(method="holm")
        ([0.02], [0.02]),
        ([0.9, 0.5, 0.6], [1.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_holms_correction_by_hand(p_values: list[float], corrected: list[float]):
    assert intervals.holm(np.array(p_values)).tolist() == pytest.approx(corrected)


# Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    "successes, n, low, high",
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_published_intervals(successes: int, n: int, low: float, high: float):
    assert intervals.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert intervals.wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize("n, covered_on_average, covered_at_worst", [(5, 0.955, 0.832), (10, 0.954, 0.842)])
def test_wilson_covers_as_its_docstring_says(n: int, covered_on_average: float, covered_at_worst: float):
    rates = np.linspace(0.001, 0.999, 999)
    ends = [intervals.wilson(successes, n) for successes in range(n + 1)]
    chances = stats.binom.pmf(np.arange(n + 1)[:, None], n, rates)
    inside = np.array([(low <= rates) & (rates <= high) for low, high in ends])
    coverage = (chances * inside).sum(0)
    assert (coverage.mean(), coverage.min()) == pytest.approx((covered_on_average, covered_at_worst), abs=1e-3)


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
