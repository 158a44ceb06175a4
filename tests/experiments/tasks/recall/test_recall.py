"""In-context, noisy and fuzzy recall against generators that follow their definitions; and what else they state."""

import numpy as np
import pytest
from scipy import stats

from experiments.tasks.base import Task
from experiments.tasks.recall.fuzzy_recall import FuzzyRecall
from experiments.tasks.recall.in_context_recall import InContextRecall, NoisyRecall, targets_by_known_keys
from experiments.tasks.recall.memorization import Memorization
from tests.experiments.tasks.drawing import ROWS, assert_drawn_by, sample

PLAIN = InContextRecall(length=14, vocab_size=7)
NOISY = NoisyRecall(length=14, vocab_size=11, num_noise=4, noise=0.6)
FUZZY = FuzzyRecall(length=19, vocab_size=10, max_size=2)
LONG_KEYS = FuzzyRecall(length=30, vocab_size=10, min_key_size=3)


@pytest.mark.parametrize("task, noise", [(PLAIN, 0.0), (NOISY, 0.6)])
def test_streams_are_drawn_as_defined(task: InContextRecall, noise: float):
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        sure, value_of, row, scored = rng.integers(6), {}, [], {}
        for slot in range(6):
            if slot != sure and rng.random() < noise:
                row += rng.integers(7, task.vocab_size, 2).tolist()
                continue
            key = int(rng.integers(3))
            scored |= {2 * slot: value_of[key]} if key in value_of else {}
            row += [key, value_of.setdefault(key, int(rng.integers(3, 7)))]
        key = int(rng.choice(list(value_of)))
        return [*row, key, value_of[key]], scored | {12: value_of[key]}

    assert_drawn_by(task, generate)


@pytest.mark.parametrize("task", [PLAIN, NOISY])
def test_evidence_is_every_earlier_statement_of_the_key(task: InContextRecall):
    batch = sample(task)
    for row, column in np.argwhere(batch.weights > 0)[:2000]:
        inputs, position = batch.inputs[row].tolist(), batch.positions[row, column]
        earlier = {c + 1 for c in range(0, position, 2) if inputs[c] == inputs[position]}
        assert set(batch.evidence[row, column].tolist()) - {-1} == earlier
        assert batch.slices["repeats"][row, column] == len(earlier)
        assert {inputs[c] for c in earlier} == {batch.targets[row, column]}


@pytest.mark.parametrize("task, noise", [(PLAIN, 0.0), (NOISY, 0.6)])
def test_targets_by_known_keys_are_as_many_as_in_rows(task: InContextRecall, noise: float):
    batch, expected = sample(task), targets_by_known_keys(7, 3, noise)
    counts = np.zeros((ROWS, len(expected)))
    for row, column in np.argwhere(batch.weights > 0):
        keys = batch.inputs[row, : batch.positions[row, column] : 2]
        counts[row, len(set(keys[keys < 3].tolist()))] += 1
    assert (np.abs(counts.mean(axis=0) - expected) <= 4 * counts.std(axis=0) / np.sqrt(ROWS)).all()


def test_a_window_of_32_covers_0_92_of_the_targets_of_the_published_size():
    batch = sample(InContextRecall(length=128, vocab_size=16))
    covered = np.average(batch.slices["distance"] < 32, weights=batch.weights)
    assert covered == pytest.approx(0.92, abs=0.005)


@pytest.mark.parametrize("task", [FUZZY, LONG_KEYS])
def test_tuples_are_drawn_as_defined(task: FuzzyRecall):
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        value_of: dict[tuple[int, ...], tuple[int, ...]] = {}

        def pair():
            key_size, value_size = rng.integers(task.min_key_size, task.max_size + 1), rng.integers(task.max_size)
            key = tuple((1 + rng.permutation(4)[:key_size]).tolist())
            value = tuple((5 + rng.permutation(5)[: 1 + value_size]).tolist())
            return key, value_of.setdefault(key, value)

        def size(*pairs):
            return sum(len(key) + len(value) for key, value in pairs)

        probe, pairs = pair(), []
        while size(*pairs) + 2 * task.max_size + 2 * size(probe) <= task.length:
            pairs.append(pair())
        pairs.insert(rng.integers(len(pairs) + 1), probe)
        row, scored, known = [0] * (task.length - size(*pairs, probe)), {}, set()
        for key, value in [*pairs, probe]:
            row += key
            scored |= {len(row) - 1 + i: token for i, token in enumerate(value)} if key in known else {}
            row += value
            known.add(key)
        return row, scored

    assert_drawn_by(task, generate)


@pytest.mark.parametrize("task", [PLAIN, NOISY, FUZZY, LONG_KEYS])
def test_training_reads_every_next_token(task: Task):
    batch = sample(task)
    trained = task.training_batch(batch)
    np.testing.assert_array_equal(trained.targets, batch.inputs[:, 1:])
    np.testing.assert_array_equal(trained.positions, np.tile(np.arange(task.input_length - 1), (ROWS, 1)))
    padded = isinstance(task, FuzzyRecall) & (batch.inputs[:, 1:] == 0)
    np.testing.assert_array_equal(trained.weights, ~padded)


def test_a_map_is_fixed_by_its_seed_and_gives_no_two_keys_one_value():
    task = Memorization(length=12, vocab_size=23)
    batch = sample(task)
    keys = np.take_along_axis(batch.inputs, batch.positions - 1, axis=1)
    assert stats.chisquare(np.bincount(keys.ravel())[1:]).pvalue > 1e-4 and keys.min() == 1 and keys.max() == 10
    assert len(set(zip(keys.ravel().tolist(), batch.targets.ravel().tolist(), strict=True))) == 10
    assert len(np.unique(batch.targets)) == 10 and batch.targets.min() >= 11 and not batch.inputs[:, 1::2].any()
    maps = [Memorization(vocab_size=6, map_seed=seed).value_of[1:] for seed in range(600)]  # 2 keys, 3 values
    kinds, counts = np.unique(maps, axis=0, return_counts=True)
    assert len(kinds) == 6 and stats.chisquare(counts).pvalue > 1e-4
