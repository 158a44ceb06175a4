"""What a question's place alone predicts, against an enumeration of all orders in which slots can be drawn."""

import itertools

import numpy as np
import pytest

from experiments.tasks.recall import slots


def orders(num_slots: int, num_pairs: int, power: float) -> list[tuple[tuple[int, ...], float]]:
    """Every draw of slots with its probability, step by step as it is defined."""
    weights = np.arange(1, num_slots + 1) ** (power - 1.0)
    drawn = []
    for order in itertools.permutations(range(num_slots), num_pairs):
        left = 1 - np.cumsum([0.0, *(weights[list(order)] / weights.sum())])[:-1]
        drawn.append((order, float(np.prod(weights[list(order)] / weights.sum() / left))))
    return drawn


SIZES = [(5, 3, 0.01), (4, 4, 0.01), (6, 2, 1.0), (6, 3, 4.0), (5, 5, 9.0), (7, 1, 0.01)]


@pytest.mark.parametrize("num_slots, num_pairs, power", SIZES)
def test_position_and_rank_equal_enumeration(num_slots: int, num_pairs: int, power: float):
    by_slot, by_rank = np.zeros((num_pairs, num_slots)), np.zeros((num_pairs, num_pairs))
    for order, probability in orders(num_slots, num_pairs, power):
        for pair, slot in enumerate(order):
            by_slot[pair, slot] += probability
            by_rank[pair, sorted(order).index(slot)] += probability
    np.testing.assert_allclose(slots.law(num_slots, num_pairs, power), by_slot, atol=1e-8)
    exact = by_slot.max(axis=0).sum() / num_pairs
    assert slots.from_position(num_slots, num_pairs, power) == pytest.approx(exact, abs=1e-7)
    assert slots.from_rank(num_slots, num_pairs, power) == pytest.approx(by_rank.max(axis=0).mean(), abs=3e-3)


@pytest.mark.parametrize("length, num_pairs", [(512, 8), (512, 64), (2048, 16)])
def test_long_rows(length: int, num_pairs: int):
    num_slots = length // 2 - num_pairs
    law = slots.law(num_slots, num_pairs, 0.01)
    np.testing.assert_allclose(law.sum(axis=1), 1, atol=1e-6)  # each pair has a slot
    assert law.sum(axis=0).max() <= 1 + 1e-6  # no slot has two
    scores = [score(num_slots, num_pairs, 0.01) for score in (slots.from_position, slots.from_rank)]
    assert all(1.1 / num_pairs < score < 2 / num_pairs for score in scores)
    assert scores[0] == pytest.approx(scores[1], rel=0.05)


def test_extreme_powers_neither_overflow_nor_lose_probability():
    assert slots.from_position(1800, 4, 100.0) > 0.25
    np.testing.assert_allclose(slots.law(60, 50, 100.0).sum(axis=1), 1, atol=1e-6)
    assert slots.from_position(100, 16, 1.0) == pytest.approx(1 / 16, abs=1e-6)
