"""Adding, in-context regression, translation and compression: their distributions, and what else they state."""

import jax
import numpy as np
import pytest
from scipy import stats

from experiments.tasks.continuous.adding import Adding
from experiments.tasks.continuous.in_context_regression import InContextRegression
from experiments.tasks.sequences.compression import Compression
from experiments.tasks.sequences.translation import Translation
from tests.experiments.tasks.drawing import assert_drawn_by, sample


def test_marks_are_uniform_over_each_half_and_numbers_over_the_unit_interval():
    task = Adding(length=13)
    batch = sample(task)
    assert (batch.inputs[..., 1].sum(axis=1) == 2).all()
    for half, size, mark in ((0, 6, batch.evidence[:, 0, 0]), (6, 6, batch.evidence[:, 0, 1])):
        assert stats.chisquare(np.bincount(mark - half, minlength=size)).pvalue > 1e-3
        assert (batch.inputs[np.arange(len(mark)), mark, 1] == 1).all()
    assert stats.kstest(batch.inputs[..., 0].ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(batch.evidence[:, 0].T)[0, 1]) < 4 / np.sqrt(len(batch.inputs))


def test_sums_are_exact():
    batch = sample(Adding(length=7))
    numbers, marked = batch.inputs[..., 0].astype(np.float64), batch.inputs[..., 1] == 1
    np.testing.assert_array_equal((numbers * marked).sum(axis=1), batch.targets[:, 0].astype(np.float64))


def test_regression_draws_normal_vectors_and_weights_and_numbers_of_variance_1():
    dim = 3
    task = InContextRegression(num_pairs=5, dim=dim)
    batch = sample(task)
    x, y = batch.inputs[:, ::2, :dim].astype(np.float64), batch.inputs[:, 1::2, dim].astype(np.float64)
    assert (batch.inputs[:, ::2, dim] == 0).all() and (batch.inputs[:, 1::2, :dim] == 0).all()
    weights = np.stack([np.linalg.lstsq(a, b, rcond=None)[0] for a, b in zip(x[:, :-1], y, strict=True)]) * dim**0.5
    for drawn in (x.ravel()[::7], weights.ravel()):  # the grid of 1/256 is finer than what so many numbers resolve
        assert stats.kstest(drawn, "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(weights.T), np.eye(dim), atol=6 / np.sqrt(len(x)))
    answers = np.einsum("bd,bd->b", weights, x[:, -1]) / dim**0.5
    np.testing.assert_allclose(answers, batch.targets[:, 0], atol=1e-3)
    assert np.square(batch.targets).mean() == pytest.approx(task.loss_floors()["always answer 0"], abs=0.1)


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_the_floor_of_answering_0(dim: int):
    """One sample of |x| at a time: given x, y is normal."""
    radius = np.sqrt(np.random.default_rng(0).chisquare(dim, 400_000) / dim)
    within = 2 * stats.norm.cdf(0.1 / radius) - 1
    floor = InContextRegression(num_pairs=dim + 1, dim=dim).floors()["always answer 0"]
    assert floor == pytest.approx(within.mean(), abs=4 * within.std() / np.sqrt(len(within)))


@pytest.mark.parametrize("order", ["reverse", "same", "swap"])
def test_translations_are_drawn_as_defined(order: str):
    task = Translation(min_length=2, max_length=5, vocab_size=4, order=order, map_seed=1)
    image = dict(enumerate(task.image_of.tolist()))
    assert sorted(image.values()) == [0, 1, 2, 3] and image[0] == 0

    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        words = [image[token] for token in rng.integers(1, 4, rng.integers(2, 6)).tolist()]
        written = {"reverse": words[::-1], "same": words, "swap": words.copy()}[order]
        if order == "swap":
            for place in range(0, len(words) - 1, 2):
                written[place], written[place + 1] = words[place + 1], words[place]
        return [0, *written[:-1]] + [0] * (5 - len(words)), dict(enumerate(written))

    assert_drawn_by(task, generate)
    batch = sample(task)
    strings = np.asarray(batch.context)
    assert ((strings > 0).sum(axis=1)[:, None] == batch.slices["length"]).all()
    for row, column in np.argwhere(batch.weights > 0)[:500]:
        assert image[strings[row, batch.evidence[row, column, 0] - 5]] == batch.targets[row, column]


def test_maps_differ_by_their_seed_and_not_by_the_longest_string():
    maps = {tuple(Translation(map_seed=seed).image_of) for seed in range(5)}
    assert len(maps) == 5 and tuple(Translation(max_length=99).image_of) in maps
    shorter = Translation(min_length=8).at_length(5)
    assert (shorter.min_length, shorter.max_length, shorter.context.length) == (5, 5, 5)


def test_everything_of_a_row_is_asked_of_its_last_position():
    batch = Compression(length=5, vocab_size=7).sample(jax.random.key(0), 3)
    np.testing.assert_array_equal(batch.targets, batch.inputs[:, :-1])
    assert (np.asarray(batch.positions) == 4).all() and (np.asarray(batch.inputs[:, -1]) == 0).all()
