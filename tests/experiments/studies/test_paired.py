"""Rows of one task compared over the seeds that they share."""

import numpy as np
import pytest
from scipy import stats

from experiments.studies import paired
from experiments.studies.results import read_study
from tests.experiments.fake_study import config_of, write_run

SEEDS = 7
SHARED = [0.5, 0.62, 0.41, 0.58, 0.45, 0.55, 0.49]  # what a seed does to every row
NAMES = ("conv+full", "conv+linear", "conv+sliding_window:window_size=16", "conv+bigbird")


def write(folder, scores, environments=None):
    """Writes a study with the scores of each row by seed, and returns its rows by attention."""
    for name, by_seed in scores.items():
        for seed, score in by_seed.items():
            environment = (environments or {}).get((name, seed), {})
            write_run(folder, config_of(name, seed), test_accuracy=score, environment=environment)
    return {row.attention: row for row in read_study(folder).rows}


def noisy(offset, seed):
    rng = np.random.default_rng(seed)
    return {place: score + offset + 0.001 * rng.normal() for place, score in enumerate(SHARED)}


def test_what_a_seed_does_to_both_rows_cancels(tmp_path):
    rows = write(tmp_path / "study", {NAMES[0]: noisy(0.0, 1), NAMES[1]: noisy(-0.01, 2)})
    full, linear = (rows[name] for name in NAMES[:2])
    (found,) = paired.differences([linear], full)
    assert found.separates and found.estimate.mean == pytest.approx(-0.01, abs=0.002) and found.estimate.n == SEEDS
    assert found.estimate.high < 0 and found.estimate.high - found.estimate.low < 0.01
    assert linear.accuracy.high > full.accuracy.low, "though the intervals of the rows overlap"
    assert stats.ttest_ind(full.accuracies, linear.accuracies).pvalue > 0.5


def test_only_seeds_of_both_rows_count_whatever_their_order(tmp_path):
    scores = {NAMES[0]: {11: 0.5, 3: 0.7, 5: 0.25}, NAMES[1]: {5: 0.5, 2: 0.0, 11: 1.0}, NAMES[2]: {2: 0.5, 13: 0.5}}
    rows = write(tmp_path / "study", scores)
    found, alone = paired.differences([rows[NAMES[1]], rows[NAMES[2]]], rows[NAMES[0]])
    assert found.estimate == pytest.approx((0.375, 0.25, 0.5, 2)) and found.estimate.kind == "range"
    assert found.p is None and found.separates is None
    assert alone.estimate is None and alone.p is None and alone.separates is None


def test_a_run_without_a_score_has_no_difference(tmp_path):
    rows = write(tmp_path / "study", {NAMES[0]: noisy(0.0, 1), NAMES[1]: noisy(-0.1, 2) | {3: None}})
    (found,) = paired.differences([rows[NAMES[1]]], rows[NAMES[0]])
    assert found.estimate.n == SEEDS - 1


def test_more_rows_make_p_values_larger_and_intervals_wider(tmp_path):
    names = [f"conv+linear:chunk_size={size}" for size in range(1, 12)]
    scores = {name: noisy(-0.002, seed) for seed, name in enumerate(names)}
    rows = write(tmp_path / "study", {NAMES[0]: noisy(0.0, 99), **scores})
    full = rows.pop(NAMES[0])
    together = paired.differences(list(rows.values()), full)
    alone = [paired.differences([row], full)[0] for row in rows.values()]
    assert all(one.p < each.p for one, each in zip(alone, together, strict=True))
    assert min(each.p for each in together) == pytest.approx(len(names) * min(each.p for each in alone))
    widths = [[each.estimate.high - each.estimate.low for each in found] for found in (alone, together)]
    assert all(one < each for one, each in zip(*widths, strict=True))


@pytest.mark.parametrize("change", [{"device": "Another CPU"}, {"jax": "0.0.1"}])
def test_rows_that_ran_elsewhere_are_not_told_apart(tmp_path, change):
    scores = {NAMES[0]: noisy(0.0, 1), NAMES[1]: noisy(-0.2, 2)}
    for name, environments, alike in (
        ("whole", {(NAMES[1], seed): change for seed in range(SEEDS)}, False),
        ("one seed", {(NAMES[1], 3): change}, False),
        ("both", {(name, 3): change for name in NAMES[:2]}, True),
    ):
        rows = write(tmp_path / name, scores, environments)
        (found,) = paired.differences([rows[NAMES[1]]], rows[NAMES[0]])
        assert found.alike is alike and found.separates is (True if alike else None) and found.estimate.n == SEEDS
        assert paired.best(list(rows.values())) is (rows[NAMES[0]] if alike else None)


@pytest.mark.parametrize(
    ("offsets", "first"),
    [
        ((0.0, -0.1, -0.2), 0),
        ((-0.1, 0.0, -0.2), 1),
        ((0.0, 0.0, -0.2), None),
        ((0.0, None, -0.2), None),
        ((0.0,), None),
    ],
)
def test_the_best_row_is_told_apart_from_every_other_one(tmp_path, offsets, first):
    without = dict.fromkeys(range(SEEDS))
    scores = {
        name: without if offset is None else noisy(offset, seed)
        for seed, (name, offset) in enumerate(zip(NAMES, offsets, strict=False))
    }
    rows = write(tmp_path / "study", scores)
    assert paired.best(list(rows.values())) is (None if first is None else rows[NAMES[first]])


def test_a_row_that_is_best_by_seeds_of_its_own_is_not_told_apart(tmp_path):
    better = dict.fromkeys(range(20, 40), 0.99)
    rows = write(tmp_path / "study", {NAMES[0]: noisy(-0.1, 1) | better, NAMES[1]: noisy(0.0, 2)})
    full, linear = (rows[name] for name in NAMES[:2])
    assert full.accuracy.mean > linear.accuracy.mean and paired.differences([linear], full)[0].separates
    assert paired.best([full, linear]) is None


def test_identical_rows_do_not_differ(tmp_path):
    rows = write(tmp_path / "study", {name: dict(enumerate(SHARED)) for name in NAMES[:3]})
    full = rows.pop(NAMES[0])
    for found in paired.differences(list(rows.values()), full):
        assert found.estimate[:3] == (0.0, 0.0, 0.0) and found.p == 1.0 and found.separates is False
