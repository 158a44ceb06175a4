"""Testing on other rows: the same model, rows that padding does not change, one program for all of them."""

import jax
import numpy as np
import pytest

from experiments.analysis.bounds import bounds
from experiments.model.objective import read_batch
from experiments.model.streams import TEST, model_key, split_key
from experiments.model.transformer import Model, make_model
from experiments.training import other_rows
from experiments.training.evaluation import evaluate
from experiments.training.loop import train, validate
from experiments.training.other_rows import score_other_rows
from experiments.training.step import compile_program, initial_state
from tests.experiments import tiny


def evaluate_on_own(run, params, stream):
    """Tests a model on the rows of a run's own task, unpadded, in a program of their own."""
    graph, _ = make_model(run)
    read = jax.jit(
        lambda rng: read_batch(run, graph, params, run.task.sample(rng, run.eval.batch_size), model_key(rng))
    )
    return evaluate(read, stream, run.eval.test_rows)


LENGTHS = "28,14,20"
SHIFTED = (
    "induction:vocab_size=31,length=10 | copying:length=30,vocab_size=31"  # rows shorter and longer, other answers
)


@pytest.fixture
def without_bounds(monkeypatch):
    """Spares tests that are not about them the drawing of bounds for every set of rows."""
    monkeypatch.setattr(other_rows, "bounds", lambda run, task: {"floor": 0.0, "ceiling": 1.0})


def tiny_run(length=14, **values):
    return tiny.tiny_run(**{"task": f"mqar:length={length},num_pairs=3,vocab_size=31"} | values)


def score(run, params, stream):
    """Returns the scores by (kind, value)."""
    found = score_other_rows(run, compile_program(run), params, stream)
    return {(test["kind"], test["value"]): test for test in found}


@pytest.mark.slow
def test_strings_are_tested_at_every_length_of_a_range(without_bounds):
    run = tiny_run(task="parity:max_length=5", eval__test_lengths="11,6-9,3", eval__test_rows=400)
    tasks = {test.value: test.task for test in run.tests}
    assert [*tasks] == ["3", "6-9", "11"] and run.longest_input == 12
    assert [test.length for test in run.tests] == [3, 7.5, 11] and run.tests[1].label == "at 6-9"
    drawn = tasks["6-9"].sample(jax.random.key(0), 400).slices["length"]
    assert np.unique(drawn).tolist() == [6, 7, 8, 9]
    found = score(run, make_model(run)[1], jax.random.key(0))
    assert [*found] == [("length", "3"), ("length", "6-9"), ("length", "11")]


@pytest.mark.slow
def test_a_run_is_tested_at_every_length():
    result = train(tiny_run(eval__test_lengths=LENGTHS, model__attention="conv+sliding_window:window_size=5"))
    assert [test["value"] for test in result["tests"]] == ["14", "20", "28"]
    own = result["tests"][0]
    assert (own["accuracy"], own["ceiling"], own["floor"]) == (
        result["test_accuracy"], result["ceiling"], result["floor"],
    )  # fmt: skip
    assert own["loss"] == pytest.approx(result["test_loss"], rel=1e-6)
    ceilings = [test["ceiling"] for test in result["tests"]]
    assert ceilings == sorted(ceilings, reverse=True) and ceilings[0] > ceilings[2], (
        "farther, so less within the window"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attention", "position"),
    [("full", "rope"), ("conv+linear:chunk_size=4", "none"), ("lstm", "learned"), ("full", "randomized:max_length=40")],
)
def test_padding_changes_nothing(attention, position, without_bounds):
    """The longer rows alone, unpadded, in a program of their own, give the same numbers."""
    run = tiny_run(eval__test_lengths=LENGTHS, model__attention=attention, model__position=position)
    params = make_model(run)[1]
    stream = split_key(jax.random.key(run.seed), TEST)
    found = score(run, params, stream)
    for length in (20, 28):
        longer = tiny_run(length, eval__test_lengths="28", model__attention=attention, model__position=position)
        expected = evaluate_on_own(longer, params, stream)
        assert found["length", str(length)]["loss"] == pytest.approx(expected.loss, rel=1e-5)
        assert found["length", str(length)]["accuracy"] == pytest.approx(expected.accuracy, abs=0.02)


@pytest.mark.slow
def test_one_program_reads_all(monkeypatch, without_bounds):
    shapes, call = [], Model.__call__

    def counted(self, tokens, *rest):
        shapes.append(tokens.shape)
        return call(self, tokens, *rest)

    monkeypatch.setattr(Model, "__call__", counted)
    run = tiny_run(eval__test_lengths=LENGTHS, eval__shifted=SHIFTED)
    params, stream = make_model(run)[1], split_key(jax.random.key(0), TEST)
    program = compile_program(run)
    shapes.clear()
    found = score_other_rows(run, program, params, stream)
    assert shapes == [(8, 30)]
    assert [test["kind"] for test in found] == ["length"] * 3 + ["shifted"] * 2
    again = tiny_run(eval__test_lengths=LENGTHS, eval__shifted=SHIFTED, seed=1, train__learning_rate=0.5)
    score_other_rows(again, compile_program(again), params, stream)
    assert shapes == [(8, 30)], "another seed or rate compiles nothing again"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "shifted"),
    [
        ("mqar:length=14,num_pairs=3,vocab_size=31", SHIFTED),
        ("adding:length=7", "adding:length=11"),
        ("automata_icl:max_strings=5,string_length=3", "automata_icl:max_strings=6,string_length=4"),
        ("translation:max_length=11,vocab_size=7", "translation:min_length=2,max_length=10,vocab_size=7"),
    ],
)
def test_shifted_rows_are_those_of_their_own_task(task, shifted):
    """A model that was given their task would be tested on the same rows, and answer alike; so would their bounds."""
    values = dict(model__attention="conv+sliding_window:window_size=5", eval__test_rows=8)
    run = tiny_run(task=task, eval__shifted=shifted, **values)
    params, stream = make_model(run)[1], split_key(jax.random.key(run.seed), TEST)
    found = score(run, params, stream)
    assert len(found) == shifted.count("|") + 1
    for (_, spec), test in found.items():
        own = tiny_run(task=spec, **values)
        alike = evaluate_on_own(own, params, stream)
        assert test["loss"] == pytest.approx(alike.loss, rel=1e-5)
        assert (test["accuracy"], test["row_accuracy"]) == pytest.approx((alike.accuracy, alike.row_accuracy))
        limits = bounds(own, own.task)
        assert (test["floor"], test["ceiling"]) == (limits["floor"], limits["ceiling"])


@pytest.mark.slow
def test_shifted_rows_of_the_same_length_need_no_causal_model():
    spec = "induction:length=14,vocab_size=9"
    result = train(tiny_run(task=spec, eval__shifted=spec, model__bidirectional=True))
    (test,) = result["tests"]
    assert (test["kind"], test["label"], test["length"]) == ("shifted", "as trained", None)
    assert (test["accuracy"], test["floor"]) == (result["test_accuracy"], result["floor"])
    assert test["loss"] == pytest.approx(result["test_loss"], rel=1e-6)


def test_without_other_rows_nothing_is_tested():
    run = tiny_run()
    assert score(run, make_model(run)[1], jax.random.key(0)) == {}


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"eval__test_lengths": "28;56"}, ValueError, "must be lengths such as '128,256' or ranges .* got '28;56'"),
        ({"eval__test_lengths": "0"}, ValueError, "got '0'"),
        ({"eval__test_lengths": "3-"}, ValueError, "got '3-'"),
        ({"eval__test_lengths": "5-4"}, ValueError, "got '5-4'"),
        ({"eval__test_lengths": "1-2-3"}, ValueError, "got '1-2-3'"),
        ({"eval__test_lengths": "28-56"}, NotImplementedError, "MQAR has rows of one length; a range such as 28-56"),
        ({"eval__test_lengths": "8"}, ValueError, "`eval.test_lengths`: 8: .*at least 4 times `num_pairs`"),
        (
            {"task": "missing_duplicate:max_length=10", "eval__test_lengths": "11"},
            ValueError, "`eval.test_lengths`: 11: the task has no strings of that length",
        ),
        ({"eval__test_lengths": "28", "model__bidirectional": True}, NotImplementedError, "only a causal model"),
        (
            {"eval__test_lengths": "28", "model__position": "randomized:max_length=20"},
            ValueError, "need `max_length` >= 28",
        ),
        (
            {"eval__shifted": "mqar:length=30,vocab_size=31", "model__position": "randomized:max_length=20"},
            ValueError, "need `max_length` >= 30",
        ),
        (
            {"eval__shifted": "mqar:length=20,vocab_size=31|mqar:vocab_size=31,length=20,num_pairs=4"},
            ValueError, "`eval.shifted` gives the task mqar:length=20,vocab_size=31 twice",
        ),
        ({"eval__shifted": "mqr"}, ValueError, "`eval.shifted`: unknown task 'mqr'"),
        ({"eval__shifted": "translation:vocab_size=31"}, ValueError, "task's kind of context, none; got tokens"),
        ({"task": "adding", "eval__shifted": "mqar"}, ValueError, "task's vocab_size, 1; got 128"),
        (
            {"task": "translation", "eval__shifted": "translation:max_length=33"},
            NotImplementedError, "no longer context than the task, 32; got 33",
        ),
        (
            {"task": "compression:length=9", "eval__shifted": "compression:length=10"},
            ValueError, "number of answers, 8; got 9",
        ),
        ({"eval__shifted": "mqar||mqar"}, ValueError, "`eval.shifted`: '' is not a spec"),
        ({"eval__shifted": "mqar"}, ValueError, "`eval.shifted`: mqar must have the task's vocab_size, 31; got 128"),
        (
            {"eval__shifted": "mqar:vocab_size=31,length=28", "model__bidirectional": True},
            ValueError, "task's input_length, 14; got 28",
        ),
        (
            {"eval__shifted": "copying:length=14,vocab_size=31", "model__bidirectional": True},
            ValueError, "task's answers_follow, False; got True",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_refused(values, error, message):
    with pytest.raises(error, match=message):
        validate(tiny_run(**values))


@pytest.mark.slow
def test_learned_positions_past_training_are_there_but_untrained():
    run = tiny_run(eval__test_lengths="28", model__position="learned", model__attention="full")
    _, params = make_model(run)
    assert params["embedding"]["table"]["embedding"].shape[0] == 28
    assert np.isfinite(score(run, params, jax.random.key(0))["length", "28"]["loss"])


@pytest.mark.slow
def test_long_rows_are_padded_among_their_like_and_read_a_few_at_a_time(monkeypatch, without_bounds):
    assert other_rows._padded_lengths([64, 500, 2048, 2049, 4096, 5000, 16384]) == [2048] * 3 + [4096] * 2 + [
        5000,
        16384,
    ]
    assert [other_rows._at_once(rows, 16384) for rows in (256, 96, 65, 67)] == [64, 48, 13, 1]
    run = tiny_run(eval__test_lengths=LENGTHS, eval__batch_size=12)
    program, state = compile_program(run), initial_state(run)
    whole = score_other_rows(run, program, state.params, jax.random.key(5))
    other_rows._compile.cache_clear()
    monkeypatch.setattr(other_rows, "_MOST_TOKENS", 28 * 5)  # of 12 rows, 4 at once
    pieces = score_other_rows(run, program, state.params, jax.random.key(5))
    other_rows._compile.cache_clear()
    for one, other in zip(whole, pieces, strict=True):
        assert one["accuracy"] == other["accuracy"] and one["loss"] == pytest.approx(other["loss"], rel=1e-5)
