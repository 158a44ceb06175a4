"""MQAR against an independent generator that follows its definition draw by draw."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from experiments.tasks.base import Batch
from experiments.tasks.recall.mqar import MQAR

ROWS = 4000
PLAIN = MQAR(length=22, num_pairs=4, vocab_size=29)
EVEN_AND_RANDOM = MQAR(length=22, num_pairs=4, vocab_size=29, power=1.0, random_fillers=True)


def slots_by_definition(num_slots: int, num_pairs: int, power: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.empty((ROWS, num_pairs), int)
    for row in rows:
        weights = np.arange(1, num_slots + 1) ** (power - 1.0)
        for i in range(num_pairs):
            row[i] = rng.choice(num_slots, p=weights / weights.sum())
            weights[row[i]] = 0
    return rows


@functools.cache
def sample(task: MQAR) -> Batch:
    return jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(1), ROWS))


def same_distribution(one: np.ndarray, other: np.ndarray) -> bool:
    """Two samples of small integers; True unless chi-squared is sure that they differ."""
    values = np.union1d(one, other)
    table = np.array([[np.sum(sample == value) for value in values] for sample in (one, other)])
    return stats.chi2_contingency(table).pvalue > 1e-4


@pytest.mark.parametrize("task", [PLAIN, EVEN_AND_RANDOM])
def test_slots_are_drawn_as_defined(task: MQAR):
    slots = (sample(task).positions - 8) // 2
    expected = slots_by_definition(7, 4, task.power)
    for i in range(4):  # the order of the draws matters: early ones come close
        assert same_distribution(slots[:, i], expected[:, i])
    assert same_distribution(slots[:, 0] * 7 + slots[:, 3], expected[:, 0] * 7 + expected[:, 3])
    assert same_distribution(slots[:, 0], slots[:, 3]) == (task.power == 1.0)


@pytest.mark.parametrize("task", [PLAIN, EVEN_AND_RANDOM])
def test_rows_are_laid_out_as_defined(task: MQAR):
    batch = sample(task)
    keys, values = batch.inputs[:, 0:8:2], batch.inputs[:, 1:8:2]
    assert set(np.unique(keys)) == set(range(1, 14)) and set(np.unique(values)) == set(range(14, 29))
    assert all(len(set(row)) == 4 for row in (*keys, *values))
    for tokens in (keys, values):  # every id is equally likely at every place
        for i in range(4):
            assert stats.chisquare(np.unique(tokens[:, i], return_counts=True)[1]).pvalue > 1e-4
    np.testing.assert_array_equal(np.take_along_axis(batch.inputs, batch.positions, axis=1), keys)
    np.testing.assert_array_equal(batch.targets, values)
    assert (batch.positions % 2 == 0).all() and batch.positions.min() == 8 and batch.positions.max() == 20

    rest = np.ones_like(batch.inputs, bool)
    rest[:, :8] = False
    np.put_along_axis(rest, batch.positions, False, axis=1)
    fillers = batch.inputs[rest]
    if task.random_fillers:
        assert stats.chisquare(np.bincount(fillers, minlength=29)).pvalue > 1e-4
    else:
        assert not fillers.any()


def test_mixture_draws_rows_of_each_kind_and_pads_them():
    task = MQAR(mixture="14x3*2/22x5/10x1*0.5", vocab_size=37, random_fillers=True)
    batch = sample(task)
    assert batch.inputs.shape == (ROWS, 22) and batch.targets.shape == (ROWS, 5)
    kind = batch.slices["length"][:, 0]
    for length, num_pairs, share in ((14, 3, 4 / 7), (22, 5, 2 / 7), (10, 1, 1 / 7)):
        rows = kind == length
        assert abs(rows.mean() - share) < 4 * np.sqrt(share * (1 - share) / ROWS)
        assert (batch.weights[rows] == (np.arange(5) < num_pairs)).all()
        assert (batch.slices["num_pairs"][rows, 0] == num_pairs).all()
        assert not batch.inputs[rows, length:].any() and batch.inputs[rows, length - 1].any()
        slots = slots_by_definition(length // 2 - num_pairs, num_pairs, task.power)
        for i in range(num_pairs):
            assert same_distribution(batch.positions[rows, i], 2 * (num_pairs + slots[:, i]))
            assert stats.chisquare(np.unique(batch.targets[rows, i], return_counts=True)[1]).pvalue > 1e-4


def test_mixture_with_one_kind_is_that_kind():
    assert MQAR(mixture="22x5", vocab_size=29).parts == MQAR(length=22, num_pairs=5, vocab_size=29).parts


@pytest.mark.parametrize(("unseen", "keys"), [(False, range(1, 8)), (True, range(8, 14))])
def test_held_out_keys_are_those_that_other_rows_do_without(unseen: bool, keys: range):
    task = MQAR(length=18, num_pairs=4, vocab_size=28, held_out_keys=6, unseen_keys=unseen)
    stated = sample(task).inputs[:, 0:8:2]
    assert set(np.unique(stated)) == set(keys)
    assert stats.chisquare(np.unique(stated[:, 0], return_counts=True)[1]).pvalue > 1e-4
