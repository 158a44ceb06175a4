"""Set intersection against a generator by its definition."""

import numpy as np
import pytest

from experiments.tasks.recall.set_intersection import SetIntersection
from tests.experiments.tasks.drawing import assert_drawn_by, sample


@pytest.mark.parametrize(
    "task", [SetIntersection(length=10, vocab_size=11), SetIntersection(length=20, vocab_size=10, repeats=2)]
)
def test_sets_are_drawn_as_defined(task: SetIntersection):
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        first, second = (int(size) for size in rng.integers(1, 5, 2))
        common, *others = rng.permutation(np.arange(3, task.vocab_size))[: first + second - 1].tolist()
        sets = [
            rng.permutation(tokens).tolist()
            for tokens in ([common, *others[: first - 1]], [common, *others[first - 1 :]])
        ]
        row = [token for _ in range(task.repeats) for tokens in sets for token in [*tokens, 1]]
        row[-1] = 2
        return row + [0] * (task.length - len(row)), {len(row) - 1: common}

    assert_drawn_by(task, generate)


def test_slices_say_which_set_is_the_smaller_one():
    batch = sample(SetIntersection(length=12, vocab_size=13))
    first = (batch.inputs == 1).argmax(axis=1)
    second = batch.positions[:, 0] - first - 1
    np.testing.assert_array_equal(
        batch.slices["order"][:, 0], np.where(first < second, 0, np.where(first > second, 2, 1))
    )
    np.testing.assert_array_equal(batch.slices["smaller"][:, 0], np.minimum(first, second))
