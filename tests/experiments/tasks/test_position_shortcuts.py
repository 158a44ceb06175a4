"""No task may have a floor below what the places of its targets give away."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.tasks.recall.mqar import MQAR
from experiments.tasks.registry import TASKS, make_task
from experiments.tasks.sequences.copying import Copying
from tests.experiments.tasks import position_shortcuts
from tests.experiments.tasks.task_cases import CASES

COSTLY = (  # to draw
    *("pathfinder", "image_shapes", "captioning", "listops", "fuzzy_recall"),
    *("markov_icl", "markov_lags", "automata_icl"),
)


@pytest.mark.slow
@pytest.mark.parametrize("spec", CASES)
def test_no_place_gives_away_more_than_the_floors_say(spec: str):
    assert position_shortcuts.weak_floors(make_task(spec), 5000 if spec.startswith(COSTLY) else 20_000) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_no_place_gives_away_more_than_the_floors_say_at_the_default_size(name: str):
    assert position_shortcuts.weak_floors(make_task(name), 3000 if name in COSTLY else 8000) == []


def test_a_planted_weak_floor_is_caught_with_its_place_and_score():
    """The floor that MQAR had before its position alone was known to score 0.30."""

    class Planted(MQAR):
        def floors(self) -> dict[str, float]:
            return {"guess a value seen in context": 1 / self.num_pairs}

    weak = position_shortcuts.weak_floors(Planted(length=22, num_pairs=5, vocab_size=29), 4000)
    assert [line.partition(" alone: 0.")[0] for line in weak] == ["by rank", "by position", "by rank and position"]
    assert all("the best floor is 0.2000 (guess a value seen in context)" in line for line in weak)
    assert all(0.29 < float(line.partition(" alone: ")[2][:6]) < 0.31 for line in weak)
    assert (
        "(rank 0: copy 1; " in weak[0] and "(position 10: copy 1; " in weak[1] and "(rank 0, position 10: " in weak[2]
    )


def test_a_planted_likeliest_answer_is_caught():
    class Planted(Copying):
        def floors(self) -> dict[str, float]:
            return {"guess a token": 1 / self.num_kinds - 0.03}

    assert len(position_shortcuts.weak_floors(Planted(length=6, vocab_size=4), 4000)) == 3


def test_to_copy_where_the_place_decides_the_evidence_is_the_task_and_no_shortcut():
    task = Copying(length=6, vocab_size=4)
    batch = position_shortcuts.sample(task, 2000, 0)
    table = position_shortcuts.fit(task, batch, position_shortcuts.rank)
    assert (table.sources == -1).all()
    moved = batch._replace(evidence=np.where(np.arange(len(batch.evidence))[:, None, None] % 7, batch.evidence, 0))
    table = position_shortcuts.fit(task, moved, position_shortcuts.rank)
    assert table.sources.tolist() == [0, 1, 2]
    assert position_shortcuts.score(task, moved, table)[0] == 1.0
    last = dataclasses.replace(table, sources=np.full(3, 5))  # not read yet at ranks 0 and 1
    assert (last.guesses(batch)[:, :2] == -1).all() and (last.guesses(batch)[:, 2] >= 0).all()


class LeakingCopying(Copying):
    """Each answer stands where it is read, too."""

    def sample(self, rng, batch_size):
        batch = super().sample(rng, batch_size)
        rows = jnp.arange(batch_size)[:, None]
        return batch._replace(inputs=batch.inputs.at[rows, batch.positions].set(batch.targets))


class LateCopying(Copying):
    """Answers stand behind where they are read, as they may where `answers_follow`; it says that they do not."""

    answers_follow = False


class BoldCopying(Copying):
    """More answers seem to be left open than there are."""

    @property
    def open_answers(self):
        return 2 * self.num_kinds


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (LeakingCopying, "by rank alone: 1.0000"),
        (LateCopying, "by rank, from what is read later, though answers_follow is False: "),
        (BoldCopying, "by rank, without a look at the row: 0.3"),
    ],
)
def test_a_task_that_gives_its_answers_away_is_caught(kind, says):
    task = Copying(length=6, vocab_size=4)
    assert position_shortcuts.weak_floors(task, 4000) == []
    weak = position_shortcuts.weak_floors(kind(length=6, vocab_size=4), 4000)
    assert any(line.startswith(says) for line in weak), weak
