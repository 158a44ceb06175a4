"""Pairs of skills against what rows of one skill each say that the skills do."""

import collections
import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.tasks.base import Batch
from experiments.tasks.registry import make_task
from experiments.tasks.sequences.skill_pairs import SkillPairs
from tests.experiments.tasks.drawing import sample

TASK = "skill_pairs:length=15,string_length=5,num_symbols=7,num_skills=4,skill_seed=3"
NONE, MAPS, ORDERS, FIRST_SYMBOL = 2, range(3, 7), range(7, 11), 11
Skill = tuple[np.ndarray, dict[int, int]]  # the place from which each answer comes, and what its symbol becomes


def draw(spec: str) -> Batch:
    return sample(make_task(f"{TASK}{spec}"))


def skills() -> dict[int, Skill]:
    """What each skill does, read off rows in which it stands alone."""
    batch, found = draw(",pairs=alone"), {}
    names, strings = batch.inputs[:, :2], batch.inputs[:, 2:7]
    for skill in (*MAPS, *ORDERS):
        mine = (names == skill).any(axis=1)
        assert (names[mine] == NONE).sum() == mine.sum() > 50
        given, answers = strings[mine], batch.targets[mine]
        if skill in MAPS:
            symbols = dict(zip(given.ravel().tolist(), answers.ravel().tolist(), strict=True))
            found[skill] = np.arange(5), symbols
        else:
            same = (given[:, :, None] == answers[:, None, :]).all(axis=0)  # [place, answer]
            assert (same.sum(axis=0) == 1).all()
            found[skill] = same.argmax(axis=0), {symbol: symbol for symbol in range(FIRST_SYMBOL, 18)}
    return found


@pytest.mark.parametrize("spec", ("", ",unseen=true"))
def test_a_pair_does_what_its_skills_do_alone_one_after_the_other(spec: str):
    known, batch = skills(), draw(spec)
    for row, targets in zip(batch.inputs[:500], batch.targets[:500], strict=True):
        string = row[2:7]
        for name in row[:2]:
            if name != NONE:
                order, symbols = known[name]
                string = np.array([symbols[symbol] for symbol in string[order]])
        np.testing.assert_array_equal(string, targets)


def test_skills_differ_and_none_does_nothing():
    found = [(order.tolist(), symbols) for order, symbols in skills().values()]
    assert all(one != other for one, other in itertools.combinations(found, 2))
    assert (list(range(5)), {symbol: symbol for symbol in range(FIRST_SYMBOL, 18)}) not in found


def pairs_of(spec: str) -> collections.Counter[tuple[int, int]]:
    return collections.Counter((one, other) for one, other in draw(spec).inputs[:, :2].tolist())


def test_training_shows_every_skill_alone_and_with_all_but_two():
    shown, unseen = pairs_of(""), pairs_of(",unseen=true")
    every = set(itertools.permutations((*MAPS, *ORDERS), 2))
    alone = {pair for skill in (*MAPS, *ORDERS) for pair in ((skill, NONE), (NONE, skill))}
    assert set(shown) | set(unseen) == every | alone and not set(shown) & set(unseen)
    assert alone <= set(shown) and {(other, one) for one, other in unseen} == set(unseen)
    for place, skill in itertools.product(range(2), (*MAPS, *ORDERS)):
        assert sum(pair[place] == skill for pair in unseen) == 2
    for found in (shown, unseen):
        assert stats.chisquare(list(found.values())).pvalue > 1e-4  # equally likely


@pytest.mark.parametrize(
    ("kind", "value", "first", "second"),
    (("maps", 1, MAPS, MAPS), ("orders", 2, ORDERS, ORDERS), ("mixed", 3, MAPS, ORDERS)),
)
def test_kinds_of_pairs(kind: str, value: int, first: range, second: range):
    for unseen in ("", ",unseen=true"):
        every = pairs_of(unseen)
        wanted = {pair for pair in every if {p in MAPS for p in pair} == {first is MAPS, second is MAPS}}
        wanted = {pair for pair in wanted if NONE not in pair}
        batch = draw(f",pairs={kind}{unseen}")
        assert wanted and {tuple(pair) for pair in batch.inputs[:, :2].tolist()} == wanted
        assert (batch.slices["pair"] == value).all()
    assert (draw(",pairs=alone").slices["pair"] == 0).all()


def test_skills_are_those_of_the_seed_whatever_is_drawn():
    one = SkillPairs(skill_seed=5)
    for other in (SkillPairs(skill_seed=5, unseen=True, length=20), SkillPairs(skill_seed=6)):
        same = [np.array_equal(a, b) for a, b in zip(one.skills, other.skills, strict=True)]
        assert all(same) == (other.skill_seed == 5)
