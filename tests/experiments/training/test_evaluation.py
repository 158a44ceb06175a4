import jax
import numpy as np
import pytest

from experiments.model.objective import Readout
from experiments.training import evaluation

SLICES = {
    "few values": ([3, 1, 3, 1], [1, 1, 0, 1], {"values": [1, 3], "accuracy": [1.0, 0.5], "count": [2, 2]}),
    "15 is still listed": ([15], [1], {"values": [15], "accuracy": [1.0], "count": [1]}),
    "powers of two": (
        [2, 3, 4, 16],
        [1, 0, 1, 0],
        {"edges": [2, 4, 8, 16, 32], "accuracy": [0.5, 1.0, None, 0.0], "count": [2, 1, 0, 1]},
    ),
    "from 0 on": ([0, 1, 17], [0, 1, 1], {"edges": [0, 1, 2, 4, 8, 16, 32], "count": [1, 1, 0, 0, 0, 1]}),
    "a lower edge belongs to its bin": ([16, 31, 32], [1, 1, 0], {"edges": [16, 32, 64], "accuracy": [1.0, 0.0]}),
}


@pytest.mark.parametrize("case", SLICES)
def test_by_slice(case):
    values, correct, expected = SLICES[case]
    found = evaluation.by_slice(np.array(values), np.array(correct, float), np.ones(len(values)))
    assert {name: found[name] for name in expected} == expected


def readout(rng):
    """Four rows of two targets: right in row 0 and 1 only, the second target of a row is padding."""
    correct = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    weights = np.tile(np.array([1, 0], np.float32), (4, 1))
    loss = np.where(correct == 1, 0.5, 2.0).astype(np.float32)
    return Readout(correct, loss, weights, {"depth": np.tile(np.array([7, 9]), (4, 1))}, np.tile([3, 0], (4, 1)))


@pytest.mark.parametrize(("rows", "accuracy"), [(2, 1.0), (4, 0.5), (6, 4 / 6), (8, 0.5)])
def test_surplus_rows_and_padding_do_not_count(rows, accuracy):
    result = evaluation.evaluate(readout, jax.random.key(0), rows)
    assert result.accuracy == pytest.approx(accuracy)
    assert result.loss == pytest.approx(0.5 * accuracy + 2.0 * (1 - accuracy))
    scores = {"accuracy": [result.accuracy], "row_accuracy": [result.row_accuracy]}
    assert result.row_accuracy == result.accuracy and result.slices == {
        "depth": {"values": [7], "count": [rows], **scores}
    }


def test_every_batch_has_its_own_key_and_evaluations_repeat():
    seen = []

    def watch(rng):
        seen.append(jax.random.key_data(rng).tolist())
        return readout(rng)

    for _ in range(2):
        evaluation.evaluate(watch, jax.random.key(0), 12)
    assert seen[:3] == seen[3:]
    assert len({tuple(key) for key in seen}) == 3


def test_a_row_is_right_where_all_of_its_answers_are_and_up_to_the_first_that_is_not():
    """Three targets of a row, which are read in the order third, first, second, and one of padding."""
    correct = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0]], np.float32)
    weights = np.tile(np.array([1, 1, 1, 0], np.float32), (4, 1))
    slices = {
        "place": np.tile([1, 2, 0, 9], (4, 1)),
        "length": np.tile([[6], [6], [8], [8]], (1, 4)),
        "long": np.tile([16, 40, 20, 0], (4, 1)),
    }
    whole = Readout(correct, 1 - correct, weights, slices, np.tile([5, 7, 2, 0], (4, 1)))
    found = evaluation.evaluate(lambda rng: whole, jax.random.key(0), 4)
    assert found.row_accuracy == 0.25 and found.accuracy == 0.75
    assert found.slices["place"]["row_accuracy"] == [0.75, 0.5, 0.25]  # beginnings of one, two and three answers
    assert found.slices["length"]["row_accuracy"] == [0.5, 0.0]
    assert found.slices["long"]["edges"] == [16, 32, 64] and found.slices["long"]["row_accuracy"] == [0.5, 0.25]
    so_far = evaluation.right_so_far(correct > 0, weights > 0, whole.positions)
    np.testing.assert_array_equal(so_far[:, :3], [[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]])
