"""Markov chains against their definition: symbols, posteriors, and what they are worth."""

import numpy as np
import pytest
from scipy import special, stats

from experiments.tasks.recall.markov_icl import MarkovICL
from experiments.tasks.recall.markov_lags import MarkovLags
from tests.experiments.tasks.drawing import ROWS, same_distribution, sample


def test_chains_are_drawn_as_defined():
    task, rng = MarkovICL(length=9), np.random.default_rng(0)
    batch, rows = sample(task), np.zeros((ROWS, 9), int)
    for row in rows:
        matrix = rng.dirichlet(np.ones(3), 3)
        row[0] = rng.integers(3)
        for place in range(1, 9):
            row[place] = rng.choice(3, p=matrix[row[place - 1]])
    for some in ((0, 1, 2, 3), (5, 6, 7, 8), (0, 3, 5, 8)):
        one, other = (inputs[:, some] @ 3 ** np.arange(4) for inputs in (batch.inputs, rows))
        assert same_distribution(one, other), some


@pytest.mark.parametrize("task", [MarkovICL(length=30), MarkovLags(length=30, num_symbols=4, map_seed=1)])
def test_the_posterior_says_how_often_each_symbol_comes_next(task):
    batch = sample(task)
    chances, following = batch.targets.reshape(-1, task.num_symbols), batch.inputs[:, 2:].ravel()
    for symbol in range(task.num_symbols):
        bins = np.minimum(10 * chances[:, symbol], 9).astype(int)
        for each in np.unique(bins):
            there = bins == each
            expected, came = chances[there, symbol].mean(), (following[there] == symbol).mean()
            assert abs(expected - came) < 5 * np.sqrt(expected * (1 - expected) / there.sum()) + 1e-3
    loss = -np.log(np.take_along_axis(chances, following[:, None], axis=1)).mean()
    assert loss == pytest.approx(special.entr(chances).sum(axis=1).mean(), abs=0.02)


def test_lags_are_drawn_as_defined():
    task = MarkovLags(length=40, max_lag=3)
    batch = sample(task)
    lag = batch.slices["lag"][:, 0]
    assert stats.chisquare(np.bincount(lag)[1:]).pvalue > 1e-4 and lag.max() == 3
    for each in (1, 2, 3):
        rows = batch.inputs[lag == each]
        assert stats.chisquare(np.bincount(rows[:, :each].ravel())).pvalue > 1e-4
        for symbol in range(3):
            came = np.bincount(rows[:, each:][rows[:, :-each] == symbol], minlength=3)
            assert stats.chisquare(came, came.sum() * task.chances[symbol] / 4096).pvalue > 1e-4


@pytest.mark.parametrize(
    "task", [MarkovICL(length=40), MarkovLags(length=40), MarkovLags(length=40, max_lag=16, num_symbols=8)]
)
def test_posteriors_are_those_of_exact_arithmetic(task):
    batch = sample(task)
    some = batch._replace(inputs=batch.inputs[:200])
    np.testing.assert_allclose(
        batch.targets[:200], task.solve(some), atol=1e-6 if isinstance(task, MarkovICL) else 5e-3
    )


@pytest.mark.parametrize("length", [99, 100])
def test_one_answer_is_chosen_among_those_of_all_positions(length: int):
    floors = MarkovLags(length=length).floors()
    assert floors["answer with what is most often close"] == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_matrix_is_of_chances_none_of_which_is_0(seed: int):
    chances = MarkovLags(num_symbols=7, map_seed=seed).chances
    assert chances.min() >= 1 and (chances.sum(axis=1) == 4096).all()
