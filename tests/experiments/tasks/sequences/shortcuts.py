"""What shortcuts answer in tasks on sequences, row by row, from definitions of their own."""

import functools
import itertools

import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks.position_shortcuts import PLACES
from tests.experiments.tasks.shortcuts import Guess, fitted, token_from

NONE, FIRST = 2, 3  # tokens of `skill_pairs`: no skill, and the first map


def _string(task: Task, row: np.ndarray) -> np.ndarray:
    return row[2 : 2 + task.string_length]


def _one_skill(place: int) -> Guess:
    """Solves the row as if the other skill were not named."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        inputs = batch.inputs[row : row + 1].copy()
        inputs[0, 1 - place] = NONE
        return task.solve(batch._replace(inputs=inputs, positions=batch.positions[row : row + 1]))[0]

    return guess


def _shown_partners(task: Task, place: int, skill: int) -> list[int]:
    """Returns the names that training shows beside one in this place: all but neighbours in the ring."""
    count = task.num_skills
    maps, orders = (list(range(first, first + count)) for first in (FIRST, FIRST + count))
    pairs = zip(zip(maps[::2], maps[1::2], strict=True), zip(orders[::2], orders[1::2], strict=True), strict=True)
    ring = [skill for two_maps, two_orders in pairs for skill in (*two_maps, *two_orders)]
    if skill == NONE:
        return ring
    at = ring.index(skill)
    return [NONE, *(other for other in ring if other not in (skill, ring[at - 1], ring[(at + 1) % len(ring)]))]


@functools.cache
def _in_training(task: Task, place: int, skill: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns from which place each answer is best made, and what each symbol there is best answered by.

    Strings of one symbol but for one place tell what a pair makes of a place: it is found by solving them all.
    """
    length, symbols, first = task.string_length, task.num_symbols, task.vocab_size - task.num_symbols
    partners = _shown_partners(task, place, skill)
    right = np.zeros((length, length, symbols, symbols))  # answer, place, symbol, answered by
    for partner, source, symbol in itertools.product(partners, range(length), range(symbols)):
        strings = np.full((symbols, length), first) + np.arange(symbols)[:, None]
        strings[:, source] = first + symbol
        names = (skill, partner) if place == 0 else (partner, skill)
        rows = np.pad(strings, ((0, 0), (2, task.length - 2 - length)))
        rows[:, :2] = names
        batch = Batch(rows, rows, np.tile(np.arange(length), (symbols, 1)), rows, rows, {})
        answers = task.solve(batch) - first
        for answer, others in itertools.product(range(length), answers):
            right[answer, source, symbol, others[answer]] += 1
    best = right.max(axis=3).sum(axis=2).argmax(axis=1)
    return best, first + right[np.arange(length), best].argmax(axis=2)


def _likeliest(place: int) -> Guess:
    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        source, answer = _in_training(task, place, int(batch.inputs[row, place]))
        symbols = _string(task, batch.inputs[row])[source] - (task.vocab_size - task.num_symbols)
        return answer[np.arange(task.string_length), symbols]

    return guess


GUESSES: dict[tuple[str, str], Guess] = {
    ("skill_pairs", "guess a symbol"): lambda task, batch, row, rng: token_from(task.first_symbol)(
        task, batch, row, rng
    ),
    ("skill_pairs", "copy each answer from its likeliest place"): fitted(PLACES["rank"]),
    ("skill_pairs", "apply the first skill alone"): _one_skill(0),
    ("skill_pairs", "apply the second skill alone"): _one_skill(1),
    ("skill_pairs", "know the first skill, and what is likeliest with it in training"): _likeliest(0),
    ("skill_pairs", "know the second skill, and what is likeliest with it in training"): _likeliest(1),
}
