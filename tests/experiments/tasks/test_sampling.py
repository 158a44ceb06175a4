import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments.tasks import sampling


@pytest.mark.parametrize("total", [3, 4])
def test_distinct_makes_every_order_equally_likely(total: int):
    rows = np.asarray(sampling.distinct(jax.random.key(0), 6000, 3, total))
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    assert {tuple(kind) for kind in kinds.tolist()} == set(itertools.permutations(range(total), 3))
    assert stats.chisquare(counts).pvalue > 1e-4


def test_weighted_distinct_renormalises_after_each_draw():
    weights = np.array([5.0, 3.0, 2.0])
    rows = np.asarray(sampling.weighted_distinct(jax.random.key(0), jnp.log(jnp.tile(weights[None], (6000, 1))), 2))
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    expected = [weights[a] / 10 * weights[b] / (10 - weights[a]) * 6000 for a, b in kinds]
    assert len(kinds) == 6 and stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("draws, kinds", [(1, 5), (2, 7), (5, 3), (6, 2), (4, 1)])
def test_expected_highest_count_equals_enumeration(draws: int, kinds: int):
    rows = itertools.product(range(kinds), repeat=draws)
    highest = np.mean([np.bincount(row).max() for row in rows])
    assert sampling.expected_highest_count(draws, kinds) == pytest.approx(highest, rel=1e-9)


@pytest.mark.parametrize("count, kinds", [(1, 3), (3, 2), (4, 3), (3, 5)])
def test_right_when_sorted_equals_enumeration(count: int, kinds: int):
    rows = np.array(list(itertools.product(range(kinds), repeat=count)))
    ordered = np.sort(rows, axis=1)
    likeliest = [np.bincount(column).max() / len(rows) for column in ordered.T]
    copied = (ordered == rows[:, :1]).mean(axis=0)
    np.testing.assert_allclose(sampling.right_when_sorted(count, kinds), np.maximum(likeliest, copied))


@pytest.mark.parametrize("draws, kinds", [(300, 15), (60, 40)])
def test_expected_highest_count_is_the_same_by_fourier_transforms(draws: int, kinds: int, monkeypatch):
    expected = sampling.expected_highest_count(draws, kinds)
    monkeypatch.setattr(sampling, "_MANY", 0)
    assert sampling.expected_highest_count.__wrapped__(draws, kinds) == pytest.approx(expected, rel=1e-9)


def test_expected_highest_count_of_long_rows():
    rng = np.random.default_rng(0)
    highest = [np.bincount(rng.integers(0, 15, 1000)).max() for _ in range(2000)]
    assert sampling.expected_highest_count(1000, 15) == pytest.approx(np.mean(highest), abs=0.6)
