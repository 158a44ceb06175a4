"""ListOps against a recursive generator that follows its definition node by node."""

import functools
import random

import jax
import numpy as np
import pytest

from experiments.tasks.base import Batch
from experiments.tasks.formal import listops
from experiments.tasks.formal.listops import ListOps, _length_law
from tests.experiments.tasks.drawing import same_distribution
from tests.experiments.tasks.formal.shortcuts import listops_tree

SMALL = ListOps(min_length=7, max_length=61)


@functools.cache
def sample(task: ListOps, rows: int) -> Batch:
    return jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(1), rows))


@functools.cache
def defined(task: ListOps, rows: int) -> np.ndarray:
    """Values, lengths, depths, root operators and their numbers of children, [5, rows]."""
    rng, kept = random.Random(0), []
    while len(kept) < rows:
        tree = listops_tree(rng, 1, operator=True)  # a digit is never long enough
        kept += [tree] if task.min_length < tree.length < task.max_length else []
    return np.array([(tree.value, tree.length, tree.depth, tree.operator, tree.children) for tree in kept]).T


def drawn(task: ListOps, rows: int) -> np.ndarray:
    """The same of sampled rows; the root's children are told by brackets alone."""
    batch = sample(task, rows)
    changes = np.cumsum(np.select([batch.inputs == 16, batch.inputs >= 12], [-1, 1]), axis=1)
    begins = (batch.inputs >= 2) & (batch.inputs < 16) & (changes == np.where(batch.inputs >= 12, 2, 1))
    children = begins[:, 1:].sum(axis=1)
    targets, lengths, depths = batch.targets[:, 0] - 2, batch.slices["length"][:, 0], changes.max(axis=1)
    assert (batch.slices["depth"][:, 0] == depths + 1).all()
    return np.stack([targets, lengths, depths, batch.inputs[:, 0] - 12, children])


def assert_drawn_as_defined(task: ListOps, rows: int, bin_size: int) -> None:
    for ours, theirs in zip(drawn(task, rows), defined(task, rows), strict=True):
        if np.ptp(theirs) > 10:
            ours, theirs = ours // bin_size, theirs // bin_size
        assert same_distribution(ours, theirs)
    lengths = sample(task, rows).slices["length"]
    assert lengths.min() > task.min_length and lengths.max() < task.max_length


@pytest.mark.slow
def test_trees_are_drawn_as_defined():
    assert_drawn_as_defined(SMALL, 1500, 4)


def test_the_law_of_lengths_is_that_of_drawn_trees():
    rng, law = random.Random(3), _length_law()
    lengths = np.array([listops_tree(rng, 1, operator=True).length for _ in range(1000)])
    assert law.sum() == pytest.approx(1, abs=1e-6) and law[4] == pytest.approx((3 / 4) ** 2 / 9)
    for bound in (9, 40, 200, 700, 2000):
        share = law[:bound].sum()
        assert abs((lengths < bound).mean() - share) < 4 * np.sqrt(share * (1 - share) / len(lengths))


@pytest.mark.slow
def test_no_tree_is_deeper_than_ten():
    assert sample(ListOps(min_length=100, max_length=400), 200).slices["depth"].max() == 10


def test_expressions_are_followed_by_cls_and_padding():
    batch = sample(SMALL, 1500)
    column = np.arange(61)[None]
    end = batch.positions
    np.testing.assert_array_equal(batch.inputs == 1, column == end)
    np.testing.assert_array_equal(batch.inputs == 0, column > end)
    np.testing.assert_array_equal(batch.evidence[:, 0], np.where(column < end, column, -1))


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
def test_published_size(monkeypatch):
    task = ListOps(min_length=500, max_length=2000)
    assert_drawn_as_defined(task, 1000, 150)
    monkeypatch.setattr(listops, "_FLOOR_ROWS", 1024)  # the certificate `listops_shortcut` draws all
    majority, root, *_, three_levels = listops._floors.__wrapped__(task).values()
    assert majority == pytest.approx(0.174, abs=0.02)
    assert root == pytest.approx(0.369, abs=0.02)
    assert three_levels == pytest.approx(0.85, abs=0.02)
