"""Testing at other lengths: the same model, rows that padding does not change, one program for all lengths."""

import functools

import jax
import numpy as np
import pytest

from experiments import settings, store
from experiments.evaluate import evaluate
from experiments.extrapolate import at_lengths
from experiments.model import Model, make_model
from experiments.program import TEST, _read_batch, split_key
from experiments.train import train, validate
from tests.experiments import tiny

LENGTHS = "28,14,20"


def tiny_config(length=14, **values):
    return tiny.tiny_config(task=f"mqar:length={length},num_pairs=3,vocab_size=31", **values)


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
    [("conv+linear:chunk_size=4", "none"), ("full", "rope"), ("lstm", "learned"), ("full", "randomized:max_length=40")],
)
def test_padding_changes_nothing(attention, position):
    """The longer rows alone, unpadded, in a program of their own, give the same numbers."""
    config = tiny_config(eval__test_lengths=LENGTHS, model__attention=attention, model__position=position)
    run = settings.read(config)
    graph, params = make_model(run)
    stream = split_key(jax.random.key(run.seed), TEST)
    found = at_lengths(run, graph, params, stream)
    for length in (20, 28):
        longer = tiny_config(
            length, eval__test_lengths="28", model__attention=attention, model__position=position,
        )  # fmt: skip
        read = jax.jit(functools.partial(_read_batch, settings.read(longer), graph, params))
        expected = evaluate(read, stream, run.eval.test_rows)
        assert found[str(length)]["loss"] == pytest.approx(expected.loss, rel=1e-5)
        assert found[str(length)]["accuracy"] == pytest.approx(expected.accuracy, abs=0.02)


def test_one_program_reads_all_lengths(monkeypatch):
    shapes, call = [], Model.__call__

    def counted(self, tokens, *rest):
        shapes.append(tokens.shape)
        return call(self, tokens, *rest)

    monkeypatch.setattr(Model, "__call__", counted)
    run = settings.read(tiny_config(eval__test_lengths=LENGTHS))
    at_lengths(run, *make_model(run), split_key(jax.random.key(0), TEST))
    assert shapes == [(8, 28)]


def test_without_lengths_nothing_is_tested_and_the_run_keeps_its_name():
    config = tiny_config()
    run = settings.read(config)
    assert at_lengths(run, *make_model(run), jax.random.key(0)) == {}
    before = {**config, "eval": {key: value for key, value in config["eval"].items() if key != "test_lengths"}}
    assert store.run_id(config) == store.run_id(before) != store.run_id(tiny_config(eval__test_lengths="28"))


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"eval__test_lengths": "28;56"}, ValueError, r"must be lengths such as '128,256,512'; got '28;56'"),
        ({"eval__test_lengths": "0"}, ValueError, "got '0'"),
        ({"eval__test_lengths": "8"}, ValueError, "at least 4 times `num_pairs`"),
        ({"eval__test_lengths": "28", "model__bidirectional": True}, NotImplementedError, "only a causal model"),
        (
            {"eval__test_lengths": "28", "model__position": "randomized:max_length=20"},
            ValueError, "need `max_length` >= 28",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_tested_is_refused(values, error, message):
    with pytest.raises(error, match=message):
        validate(tiny_config(**values))


def test_learned_positions_past_training_are_there_but_untrained():
    run = settings.read(tiny_config(eval__test_lengths="28", model__position="learned", model__attention="full"))
    _, params = make_model(run)
    assert params["table"]["embedding"].shape[0] == 28
    assert np.isfinite(at_lengths(run, *make_model(run), jax.random.key(0))["28"]["loss"])
