"""Accuracy on unseen rows: which rows training has shown, and a score on the others alone."""

import jax
import numpy as np
import pytest

from experiments.model.objective import Readout
from experiments.model.streams import TEST, TRAIN, split_key
from experiments.model.transformer import make_model
from experiments.tasks.registry import make_task
from experiments.training.evaluation import evaluate
from experiments.training.loop import train
from experiments.training.step import compile_program
from experiments.training.unseen_rows import score_unseen_rows, shown_rows
from tests.experiments import tiny

TASK = "parity:max_length=6"


def drawn(task, split, number, rows):
    batch = task.sample(jax.random.fold_in(split_key(jax.random.key(3), split), number), rows)
    return [tuple(row) for row in np.asarray(batch.inputs).tolist()]


@pytest.mark.slow
def test_rows_are_found_that_stand_in_any_batch_of_training():
    """Against a plain search; the last batches of the test and of training matter, what comes after does not."""
    task = make_task(TASK)
    shown = shown_rows(task, jax.random.key(3), steps=3, train_batch=11, rows=13, test_batch=5)
    training = [drawn(task, TRAIN, step, 11) for step in range(4)]
    tested = [row for number in range(3) for row in drawn(task, TEST, number, 5)][:13]
    found = [[row in sum(training[:steps], []) for row in tested] for steps in range(5)]
    assert shown.tolist() == found[3] and found[2] != found[3] != found[4] and any(found[3][10:])


@pytest.mark.slow
def test_a_score_leaves_out_the_rows_that_were_shown():
    run = tiny.tiny_run(task=TASK, seed=3, eval__test_rows=13, eval__batch_size=5, train__batch_size=7)
    program, params = compile_program(run), make_model(run)[1]
    found = score_unseen_rows(run, program, params, steps=3)
    shown = shown_rows(run.task, jax.random.key(3), 3, 7, 13, 5)
    answers = []
    for number in range(3):
        read: Readout = program.reader(params, jax.random.fold_in(split_key(jax.random.key(3), TEST), number))
        answers += np.asarray(read.correct)[:, 0].tolist()
    assert found == {"repeated_rows": shown.mean(), "unseen_accuracy": np.mean(np.array(answers)[:13][~shown])}


def test_where_all_rows_were_shown_there_is_no_score():
    run = tiny.tiny_run(task="parity:max_length=1", eval__test_rows=13)
    found = score_unseen_rows(run, compile_program(run), make_model(run)[1], steps=20)
    assert found == {"repeated_rows": 1.0, "unseen_accuracy": None}


@pytest.mark.slow
@pytest.mark.parametrize(("task", "has"), [(TASK, True), ("mqar:length=16,num_pairs=2,vocab_size=31", False)])
def test_results_have_it_where_rows_repeat(task, has):
    result = train(tiny.tiny_run(task=task, train__steps=2))
    assert ("unseen_accuracy" in result) == ("repeated_rows" in result) == has


def test_rows_may_be_left_out_of_an_evaluation():
    def read(rng):
        correct = np.array([[1.0], [0.0], [0.0]], np.float32)
        return Readout(
            correct,
            1 - correct,
            np.ones((3, 1), np.float32),
            {"depth": np.array([[1], [2], [3]])},
            np.zeros((3, 1), int),
        )

    found = evaluate(read, jax.random.key(0), 5, counts=np.array([True, True, False, False, True]))
    assert found.accuracy == pytest.approx(1 / 3) and found.slices["depth"]["count"] == [1, 2]
