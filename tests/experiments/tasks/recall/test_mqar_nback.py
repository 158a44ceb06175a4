"""N-back recall against a generator by its definition."""

import numpy as np
import pytest

from experiments.tasks.recall.mqar_nback import NbackMQAR
from experiments.tasks.registry import make_task
from tests.experiments.tasks.drawing import assert_drawn_by, sample


@pytest.mark.parametrize("nback", [1, 3])
def test_assignments_are_drawn_as_defined(nback: int):
    task = NbackMQAR(length=21, vocab_size=9, num_keys=2, nback=nback)  # keys 1..3, values 4..8

    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        keys = 1 + rng.permutation(3)[:2]
        assigned = rng.permutation([*np.repeat(keys, nback), *rng.choice(keys, 9 - 2 * nback)]).tolist()
        values = rng.integers(4, 9, 9).tolist()
        asked = rng.permutation(keys).tolist()
        answers = [[v for k, v in zip(assigned, values, strict=True) if k == key][-nback] for key in asked]
        row = [token for pair in zip(assigned, values, strict=True) for token in pair]
        return [*row, 0, *asked], dict(enumerate(answers, 19))

    assert_drawn_by(task, generate)


@pytest.mark.parametrize("nback", [1, 3])
def test_no_assignment_is_asked_for_more_often_than_the_floor_says(nback: int):
    task = NbackMQAR(length=42, vocab_size=63, num_keys=3, nback=nback)
    evidence, floors = sample(task).evidence, task.floors()
    asked = np.bincount(evidence.ravel()).max() / evidence.size
    floor = floors["answer with the value of one assignment"]
    assert floor == pytest.approx(asked + (1 - asked) / task.num_values, abs=0.02)
    assert (max(floors.values()) == floor) == (nback == 1)


@pytest.mark.parametrize(
    "spec, without",
    [
        ("mqar_nback:nback=1,num_keys=8,length=25", "the key's"),
        ("joint_recall:num_contexts=1,length=19", "the key's"),
        ("joint_recall:num_keys=1,length=25", "the context's"),
        ("markov_lags:max_lag=1,length=20", "lag"),
    ],
)
def test_a_shortcut_that_is_the_task_itself_is_none(spec, without):
    """Where each key is assigned once, in one context, or where there is one lag, there is nothing to leave out."""
    floors = make_task(spec).floors()
    assert max(floors.values()) < 0.7 and not [name for name in floors if without in name]
