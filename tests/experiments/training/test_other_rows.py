"""Testing on other rows: the same model, rows that padding does not change, one program for all of them."""

import functools

import jax
import numpy as np
import pytest

from experiments.analysis.bounds import bounds
from experiments.config import schema as settings
from experiments.model.transformer import Model, make_model
from experiments.studies import run_folder as store
from experiments.training import other_rows as extrapolate
from experiments.training.evaluation import evaluate
from experiments.training.loop import train, validate
from experiments.training.other_rows import further_tests
from experiments.training.step import TEST, _read_batch, split_key
from tests.experiments import tiny

LENGTHS = "28,14,20"
SHIFTED = (
    "induction:vocab_size=31,length=10 | copying:length=30,vocab_size=31"  # rows shorter and longer, other answers
)


@pytest.fixture
def without_bounds(monkeypatch):
    """Spares tests that are not about them the drawing of bounds for every set of rows."""
    monkeypatch.setattr(extrapolate, "bounds", lambda run, task: {"floor": 0.0, "ceiling": 1.0})


def tiny_config(length=14, **values):
    return tiny.tiny_config(**{"task": f"mqar:length={length},num_pairs=3,vocab_size=31"} | values)


def test_strings_are_tested_at_every_length_of_a_range(without_bounds):
    config = tiny_config(task="parity:max_length=5", eval__test_lengths="11,6-9,3", eval__test_rows=400)
    run = settings.read(config)
    tasks = run.test_tasks()
    assert [*tasks] == ["3", "6-9", "11"] and run.longest_input() == 12
    drawn = tasks["6-9"].sample(jax.random.key(0), 400).slices["length"]
    assert np.unique(drawn).tolist() == [6, 7, 8, 9]
    graph, params = make_model(run)
    assert [*further_tests(run, graph, params, jax.random.key(0))["lengths"]] == ["3", "6-9", "11"]


@pytest.mark.slow
def test_a_run_is_tested_at_every_length():
    config = tiny_config(eval__test_lengths=LENGTHS, model__attention="conv+sliding_window:window_size=5")
    result = train(config)
    assert list(result["lengths"]) == ["14", "20", "28"]
    own = result["lengths"]["14"]
    assert (own["accuracy"], own["ceiling"], own["floor"]) == (
        result["test_accuracy"], result["ceiling"], result["floor"],
    )  # fmt: skip
    assert own["loss"] == pytest.approx(result["test_loss"], rel=1e-6)
    ceilings = [score["ceiling"] for score in result["lengths"].values()]
    assert ceilings == sorted(ceilings, reverse=True) and ceilings[0] > ceilings[2], (
        "farther, so less within the window"
    )


@pytest.mark.parametrize(
    ("attention", "position"),
    [("full", "rope")]
    + [
        pytest.param(*pair, marks=pytest.mark.slow)
        for pair in (("conv+linear:chunk_size=4", "none"), ("lstm", "learned"), ("full", "randomized:max_length=40"))
    ],
)
def test_padding_changes_nothing(attention, position, without_bounds):
    """The longer rows alone, unpadded, in a program of their own, give the same numbers."""
    config = tiny_config(eval__test_lengths=LENGTHS, model__attention=attention, model__position=position)
    run = settings.read(config)
    graph, params = make_model(run)
    stream = split_key(jax.random.key(run.seed), TEST)
    found = further_tests(run, graph, params, stream)["lengths"]
    for length in (20, 28):
        longer = tiny_config(
            length, eval__test_lengths="28", model__attention=attention, model__position=position,
        )  # fmt: skip
        read = jax.jit(functools.partial(_read_batch, settings.read(longer), graph, params))
        expected = evaluate(read, stream, run.eval.test_rows)
        assert found[str(length)]["loss"] == pytest.approx(expected.loss, rel=1e-5)
        assert found[str(length)]["accuracy"] == pytest.approx(expected.accuracy, abs=0.02)


def test_one_program_reads_all(monkeypatch, without_bounds):
    shapes, call = [], Model.__call__

    def counted(self, tokens, *rest):
        shapes.append(tokens.shape)
        return call(self, tokens, *rest)

    monkeypatch.setattr(Model, "__call__", counted)
    run = settings.read(tiny_config(eval__test_lengths=LENGTHS, eval__shifted=SHIFTED))
    found = further_tests(run, *make_model(run), split_key(jax.random.key(0), TEST))
    assert shapes == [(8, 30)]
    assert [*found["lengths"]] == ["14", "20", "28"] and len(found["shifted"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "shifted"),
    [
        ("mqar:length=14,num_pairs=3,vocab_size=31", SHIFTED),
        ("adding:length=7", "adding:length=11"),
        ("translation:max_length=11,vocab_size=7", "translation:min_length=2,max_length=10,vocab_size=7"),
    ],
)
def test_shifted_rows_are_those_of_their_own_task(task, shifted):
    """A model that was given their task would be tested on the same rows, and answer alike; so would their bounds."""
    values = dict(model__attention="conv+sliding_window:window_size=5", eval__test_rows=8)
    run = settings.read(tiny.tiny_config(task=task, eval__shifted=shifted, **values))
    graph, params = make_model(run)
    stream = split_key(jax.random.key(run.seed), TEST)
    found = further_tests(run, graph, params, stream)["shifted"]
    assert len(found) == shifted.count("|") + 1
    for spec, score in found.items():
        own = settings.read(tiny.tiny_config(task=spec, **values))
        read = jax.jit(functools.partial(_read_batch, own, graph, params))
        assert score["loss"] == pytest.approx(evaluate(read, stream, 8).loss, rel=1e-5)
        limits = bounds(own, own.task)
        assert (score["floor"], score["ceiling"]) == (limits["floor"], limits["ceiling"])


@pytest.mark.slow
def test_shifted_rows_of_the_same_length_need_no_causal_model():
    spec = "induction:length=14,vocab_size=9"
    config = tiny.tiny_config(task=spec, eval__shifted=spec, model__bidirectional=True)
    result = train(config)
    assert result["shifted"] == {
        spec: {
            "accuracy": result["test_accuracy"], "loss": pytest.approx(result["test_loss"], rel=1e-6),
            "floor": result["floor"], "ceiling": result["ceiling"],
        }
    }  # fmt: skip
    assert "lengths" not in result


def test_without_further_tests_nothing_is_tested_and_the_run_keeps_its_name():
    config = tiny_config()
    run = settings.read(config)
    assert further_tests(run, *make_model(run), jax.random.key(0)) == {}
    younger = ("test_lengths", "shifted")
    before = {**config, "eval": {key: value for key, value in config["eval"].items() if key not in younger}}
    assert store.run_id(config) == store.run_id(before)
    others = [tiny_config(eval__test_lengths="28"), tiny_config(eval__shifted=SHIFTED)]
    assert len({store.run_id(each) for each in (config, *others)}) == 3


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
        ({"eval__shifted": "mqr"}, ValueError, "`eval.shifted`: unknown task 'mqr'"),
        ({"eval__shifted": "translation:vocab_size=31"}, ValueError, "task's kind of context, none; got tokens"),
        ({"task": "adding", "eval__shifted": "mqar"}, ValueError, "task's vocab_size, 1; got 64"),
        (
            {"task": "translation", "eval__shifted": "translation:max_length=33"},
            NotImplementedError, "no longer context than the task, 32; got 33",
        ),
        (
            {"task": "compression:length=9", "eval__shifted": "compression:length=10"},
            ValueError, "number of answers, 8; got 9",
        ),
        ({"eval__shifted": "mqar||mqar"}, ValueError, "`eval.shifted`: '' is not a spec"),
        ({"eval__shifted": "mqar"}, ValueError, "`eval.shifted`: mqar must have the task's vocab_size, 31; got 64"),
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
        validate(tiny_config(**values))


def test_learned_positions_past_training_are_there_but_untrained():
    run = settings.read(tiny_config(eval__test_lengths="28", model__position="learned", model__attention="full"))
    _, params = make_model(run)
    assert params["embedding"]["table"]["embedding"].shape[0] == 28
    assert np.isfinite(further_tests(run, *make_model(run), jax.random.key(0))["lengths"]["28"]["loss"])
