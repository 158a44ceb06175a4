"""A model on rows of its task and on given tokens: scores, the check, state, and who is refused."""

import jax
import numpy as np
import pytest

from experiments.analysis.compute import count
from experiments.decoding import measures, tables
from experiments.decoding.decoder import Rows
from experiments.decoding.parallel import DifferentError
from experiments.decoding.prompts import read_tokens
from experiments.decoding.session import OWN, RIGHT, Session, prompt_of
from experiments.model.streams import TEST, split_key
from experiments.tasks.registry import make_task
from tests.experiments.model.test_transformer import build

COPYING = "copying:length=12,vocab_size=7"


@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 1.5])
def test_rows_are_those_of_the_test_and_are_scored_both_ways(temperature):
    run, model, _ = build(task=COPYING, model__attention="conv+full")
    found = Session(run=run, model=model, temperature=temperature).on_rows(5)
    rows = run.task.sample(split_key(jax.random.key(run.seed), TEST), 5)
    np.testing.assert_array_equal(found.rows.inputs, rows.inputs)
    given, own = found.decoded[RIGHT], found.decoded[OWN]
    np.testing.assert_array_equal(given.tokens, rows.inputs)
    np.testing.assert_array_equal(own.tokens[:, :7], rows.inputs[:, :7])
    np.testing.assert_array_equal(own.tokens[:, 7:], own.answers[:, 6:-1])
    for name, decoded in found.decoded.items():
        right = np.asarray(decoded.answers[:, 6:] == rows.targets)
        assert found.scores[name] == (right.mean(), right.all(1).mean())
    assert found.whole == 5 and found.costs.prompt == 6 and found.costs.rows == 5
    assert found.costs.seconds.prefill > 0 and found.costs.seconds.step > 0
    text = tables.scores_text(found)
    assert "30 tokens in 5 whole answers" in text and text.count("\n") == 3
    listed = tables.row_text(found, 2, tables.Listing(run.task, 2, temperature)).splitlines()
    assert len(listed) == 2 + 6
    shares = np.asarray(jax.nn.softmax(own.logits[2, 11] / (temperature or 1)))
    place, reads, right, answer, *likeliest = listed[-1].split()
    assert (place, reads, right, answer) == (
        "11",
        *(f"{x}" for x in (own.tokens[2, 11], rows.targets[2, 5], own.answers[2, 11])),
    )
    assert likeliest[0] == run.task.token_text(int(shares.argmax())) and likeliest[1] == f"{shares.max():.2f}"
    assert likeliest[3] == f"{np.sort(shares)[-2]:.2f}"


def test_where_rows_do_not_go_on_with_answers_they_are_read_once():
    run, model, _ = build(model__attention="conv")
    found = Session(run=run, model=model).on_rows(3)
    assert set(found.decoded) == set(found.scores) == {RIGHT}
    assert tables.scores_text(found).endswith(
        "9 tokens in 9 whole answers; rows of this task do not go on with their answers"
    )
    assert "row 0, right answers read" in tables.row_text(found, 0, tables.Listing(run.task, 1, 0.0))


def test_given_tokens_are_gone_on_from():
    run, model, _ = build(task=COPYING, model__attention="conv")
    tokens = read_tokens(" 3 5,| 2", run.task)
    assert tokens.tolist() == [3, 5, 0, 2]
    for given, new in ((tokens, 5), (tokens[:1], 1)):
        found = Session(run=run, model=model).on_tokens(given, new)
        read, said = (np.asarray(part[0]) for part in (found.decoded.tokens, found.decoded.answers))
        assert len(said) == len(given) + new - 1
        np.testing.assert_array_equal(read, [*given, *said[len(given) - 1 : -1]])
        text = tables.tokens_text(found, tables.Listing(run.task, 1, 0.0))
        assert text.count("\n") == 3 + new and len(text.splitlines()[1].split()) == 1 + new


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "--tokens names no token"),
        ("k3 v2", "'v2' is no token; they are ids below 22, or nearest first: v20, v21, v12"),
        ("k3 22", "'22' is no token"),
        ("k3,-1", "'-1' is no token"),
    ],
)
def test_tokens_of_no_vocabulary_are_refused(text, message):
    task = make_task("mqar:length=14,num_pairs=3,vocab_size=22")
    with pytest.raises(ValueError, match=message) as caught:
        read_tokens(text, task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["parity", "mqar", "copying", "variable_tracking"])
def test_tokens_are_read_as_they_are_printed(task):
    task = make_task(task)
    written = " ".join(task.token_text(token) for token in range(task.vocab_size))
    np.testing.assert_array_equal(read_tokens(written, task), np.arange(task.vocab_size))


REFUSED = {
    "reads in both directions": dict(model__bidirectional=True, model__attention="full"),
    "only a model of tokens, read out where they stand": dict(task="adding", model__attention="full"),
    "only a model of tokens": dict(task="compression", model__attention="full"),
    "only a model of": dict(task="parity", model__attention="full", model__readout="mean"),
    "another part of the context": dict(
        task="translation", model__attention="conv", model__cross_attention="block_local:block_size=4"
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_models_without_a_token_by_token_form_are_refused(message):
    run, model, _ = build(**REFUSED[message])
    with pytest.raises(NotImplementedError, match=message) as caught:
        Session(run=run, model=model)
    assert "\n" not in str(caught.value)


def test_tokens_do_not_give_a_context():
    run, model, _ = build(task="translation", model__attention="conv")
    with pytest.raises(ValueError, match="rows of Translation have a context, which tokens do not give"):
        Session(run=run, model=model).on_tokens(np.array([0]), 3)


def test_a_task_of_distributions_has_no_right_tokens():
    run, model, _ = build(task="markov_icl:length=16", model__attention="full")
    with pytest.raises(ValueError, match="MarkovICL asks for distributions, which no token answers"):
        Session(run=run, model=model).on_rows(2)
    assert len(Session(run=run, model=model).on_tokens(np.array([0, 1]), 3).decoded.answers[0]) == 4


def test_nothing_is_scored_where_decoding_differs():
    run, model, _ = build(task=COPYING, model__attention="full")
    with pytest.raises(DifferentError):
        Session(run=run, model=model, tolerance=-1.0).on_rows(2)


STATE = [
    dict(model__attention="full+linear+sliding_window:window_size=4", model__num_kv_heads=1),
    dict(task="translation:max_length=14,min_length=3", model__attention="full"),
]


@pytest.mark.parametrize("values", [pytest.param(STATE[0], marks=pytest.mark.slow), STATE[1]])
def test_bytes_are_those_of_the_cache_and_of_its_formula(values):
    run, model, _ = build(**values)
    kept = measures.kept(model, run, 14)
    assert sum(each.bytes for each in kept) == count(run, 1)["cache_bytes"]
    rows = run.task.sample(jax.random.key(0), 5)
    cache = jax.jit(lambda rows: model.init_cache(5, 14, context=rows.context))(Rows.given(rows.inputs, rows.context))
    real = sum(leaf.nbytes for leaf in jax.tree.leaves(cache) if leaf.ndim)
    assert 5 * sum(each.bytes for each in kept) == real


def test_state_grows_with_the_row_or_not():
    run, model, _ = build(model__attention=STATE[0]["model__attention"])
    full, linear, window = measures.kept(model, run, 14)
    assert (full.layer, full.mixer, window.layer) == ("layer 1", "full", "layer 3")
    assert full.grows == full.bytes / 14 == 2 * 4 * 12 and linear.grows == window.grows == 0
    assert window.bytes == 4 * 2 * 4 * 12


@pytest.mark.parametrize("task, prompt", [(COPYING, 6), ("translation", 0), ("needle:length=40", 20)])
def test_rows_are_prefilled_up_to_an_answer_or_half(task, prompt):
    assert prompt_of(make_task(task).sample(jax.random.key(0), 4)) == prompt
