"""The information bound: its limits, codes that stay below it, and what tasks and models say they need and carry."""

import functools
import itertools
import math

import jax
import numpy as np
import pytest

from experiments.analysis.bounds import bounds
from experiments.analysis.state_capacity import ambiguity, highest_accuracy, state_bits, state_bytes
from experiments.tasks.base import Stored
from experiments.tasks.registry import make_task
from tests.experiments.tiny import tiny_cost, tiny_run

# Spec -> (answers, values of each, equally likely sequences of answers), of tasks that say what they need.
STORED = {
    "compression:length=5,vocab_size=4": (4, 3, 3**4),
    "mqar:length=12,num_pairs=3,vocab_size=13,random_fillers=true": (3, 7, 7 * 6 * 5),
    "mqar_forgetting:length=12,num_pairs=2,num_updates=1,vocab_size=10": (2, 5, 5 * 4),
    "mqar_compositional:length=24,grid_size=2,vocab_size=15": (4, 5, 5 * 4 * 3 * 2),
    "joint_recall:length=13,num_contexts=2,num_keys=1,num_values=6": (2, 6, 6**2),
    "mqar_nback:length=13,num_keys=2,nback=2,vocab_size=10": (2, 5, 5**2),
    "selective_copying:length=9,num_tokens=3,vocab_size=6": (3, 4, 4**3),
    "copying:length=6,vocab_size=5": (3, 4, 4**3),
    "reverse:length=6,vocab_size=5": (3, 4, 4**3),
    "reverse_string:min_length=4,max_length=4,num_symbols=3": (4, 3, 3**4),
    "duplicate_string:min_length=4,max_length=4,num_symbols=3": (4, 3, 3**4),
    "odds_first:min_length=4,max_length=4,num_symbols=3": (4, 3, 3**4),
}
MUTE = ("mqar:mixture=8x2/14x3", "sorting", "bucket_sort", "induction", "missing_duplicate", "listops")


@functools.partial(jax.jit, static_argnums=0)
def sample(task):
    return task.sample(jax.random.key(3), 4000)


@pytest.mark.parametrize("spec", STORED)
def test_what_tasks_need_is_what_their_answers_say(spec):
    task, (answers, values, sequences) = make_task(spec), STORED[spec]
    assert task.stored() == (answers, values, pytest.approx(math.log2(sequences)))
    batch = jax.tree.map(np.asarray, sample(task))
    seen, counts = np.unique(batch.targets[:, :answers], axis=0, return_counts=True)
    assert len(seen) == sequences and counts.max() < 3 * 4000 / sequences
    assert batch.evidence.max() < batch.positions.min(), "all evidence stands before all answers"


@pytest.mark.parametrize("spec", MUTE)
def test_other_tasks_claim_nothing(spec):
    assert make_task(spec).stored() is None


def test_strings_of_all_lengths_need_their_mean():
    assert make_task("copying:length=12,min_length=6,vocab_size=5").stored() == (4.5, 4, 9.0)
    assert make_task("reverse_string:min_length=3,max_length=6").stored() == (4.5, 2, 4.5)


@pytest.mark.parametrize("stored", [Stored.independent(8, 2), Stored.independent(5, 16), Stored.distinct(7, 32)])
def test_the_bound_grows_from_guessing_to_certainty(stored):
    bits = np.linspace(0, stored.bits, 40)
    bound = [highest_accuracy(stored, each) for each in bits]
    assert bound[0] >= 1 / stored.values and bound[-1] == 1.0 == highest_accuracy(stored, stored.bits + 1)
    assert (np.diff(bound) > 0).all()
    for each, accuracy in zip(bits[1:-1], bound[1:-1], strict=True):
        assert stored.answers * ambiguity(1 - accuracy, stored.values) == pytest.approx(stored.bits - each)


def test_the_bound_is_that_of_the_rate_distortion_function():
    for values in (2, 64):
        assert highest_accuracy(Stored.independent(9, values), 0) == 1 / values
    # One bit a flip of a coin less 0.5, so that h(0.11) is half a bit: the textbook's example.
    assert highest_accuracy(Stored.independent(10, 2), 5) == pytest.approx(0.89, abs=1e-3)


def test_a_perfect_code_stays_close_below_the_bound():
    """Seven bits as the nearest of 16 words of the Hamming code: 4 bits of state, one bit wrong in 7 of 8 words."""
    parity = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    data = np.array(list(itertools.product((0, 1), repeat=4)))
    code = np.hstack([data, data @ parity % 2])
    words = np.random.default_rng(0).integers(0, 2, (20_000, 7))
    accuracy = 1 - (words[:, None] != code).sum(axis=2).min(axis=1).mean() / 7
    bound = highest_accuracy(Stored.independent(7, 2), 4)
    assert accuracy == pytest.approx(7 / 8, abs=0.003) and accuracy < bound < accuracy + 0.05


@pytest.mark.parametrize("spec", STORED)
def test_remembering_some_and_guessing_the_rest_stays_below_the_bound(spec):
    task = make_task(spec)
    stored, batch = task.stored(), jax.tree.map(np.asarray, sample(task))
    targets, rng = batch.targets[:, : int(stored.answers)], np.random.default_rng(1)
    for kept in range(targets.shape[1]):
        orders = rng.permuted(np.tile(np.unique(targets), (len(targets), 1)), axis=1)
        guesses = orders[:, : targets.shape[1]]
        guesses = np.resize(guesses, targets.shape)
        guesses[:, :kept] = targets[:, :kept]
        error = 3 / np.sqrt(targets.size)
        assert (guesses == targets).mean() <= highest_accuracy(stored, kept * math.log2(stored.values)) + error


FIXED = {"conv+linear:chunk_size=4": True, "lstm": True, "conv+delta": True, "conv+full": False, "gru+full": False}
FIXED |= {"conv+sliding_window:window_size=5": True, "sliding_window:window_size=99": False, "conv": True}


@pytest.mark.parametrize("attention", FIXED)
def test_state_is_what_is_counted_and_known_where_it_does_not_grow(attention):
    values = dict(model__attention=attention, model__short_conv=0 if attention in ("lstm", "conv") else 2)
    run = tiny_run(**values)
    length = run.task.input_length
    assert state_bytes(run, length) == tiny_cost(**values)["cache_bytes"]
    assert state_bits(run, length) == (8 * state_bytes(run, length) if FIXED[attention] else None)


def test_the_ceiling_is_the_smaller_bound():
    values = {"model__attention": "lstm", "model__model_dim": 2, "model__num_heads": 1}
    small = tiny_run(**values, task="copying:length=200,vocab_size=100")
    found = bounds(small, small.task)
    assert found["state_bits"] == 8 * 4 * 2 * 2 and found["task_bits"] == pytest.approx(100 * math.log2(99))
    assert found["floor"] <= found["ceiling"] == highest_accuracy(small.task.stored(), 128) < 0.34
    large = tiny_run(**values | {"model__model_dim": 64, "task": "copying:length=20"})
    assert bounds(large, large.task)["ceiling"] == 1.0


UNKNOWN = {
    "a state that grows": {"model__attention": "full"},
    "a task that claims nothing": {"task": "induction"},
    "reading ahead": {"model__bidirectional": True},
    "a mean over what is behind": {"model__readout": "mean", "task": "copying:length=2"},
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_bits_are_told_only_where_both_are_known(case):
    run = tiny_run(**{"model__attention": "linear"} | UNKNOWN[case])
    assert set(bounds(run, run.task)) == {"floor", "ceiling"}
