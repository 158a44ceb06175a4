"""Which answers rows go on with, which belong together, and how they are scored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.decoding import answers
from experiments.decoding.decoder import Decoder, Rows
from experiments.model.transformer import Model
from experiments.tasks.base import Batch
from experiments.tasks.registry import TASKS, make_task
from tests.experiments.model.test_transformer import build

ROWS = 29
SMALL = {
    "copying": "copying:length=12",
    "needle": "needle:length=40,num_keys=3,num_queries=2,num_values=3",
    "variable_tracking": "variable_tracking:scratchpad=True,vary_hops=True",
    "mqar": "mqar:random_fillers=True,length=16,vocab_size=17",  # fillers may equal answers
}
# Of each task whose rows go on with answers: tokens of a row that are read again, and whole answers, where fixed.
KNOWN = {"copying": (5, 1), "needle": (4, 2), "captioning": (9, 1), "common_words": (2, 1)}


def naive(task, batch):
    """Walks along each row."""
    own, whole, number = np.zeros(batch.inputs.shape[:2], bool), np.full(batch.targets.shape, -1), -1
    for row in range(len(batch.inputs)):
        asked = [j for j in range(batch.targets.shape[1]) if batch.weights[row, j] > 0]
        asked.sort(key=lambda j: batch.positions[row, j])
        for j in asked:
            after = batch.positions[row, j] + 1
            if task.answers_follow and batch.also_right is None and after < batch.inputs.shape[1]:
                own[row, after] = batch.inputs[row, after] == batch.targets[row, j]
        before = None
        for j in asked:
            place = batch.positions[row, j]
            number += not (place - 1 == before and own[row, place])
            whole[row, j], before = number, place
    return own, whole


QUICK = {"in_context_recall", "needle", "copying", "dyck", "translation", "automata_icl"}
FOLLOW = [name for name, kind in TASKS.items() if kind.answers_follow and not kind.distributions]


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FOLLOW), "mqar", "parity"]
)
def test_answers_that_are_read_again_and_whole_answers(name):
    task = make_task(SMALL.get(name, name))
    batch = jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(0), ROWS))
    own, whole = naive(task, batch)
    np.testing.assert_array_equal(answers.own_tokens(task, batch), own)
    np.testing.assert_array_equal(answers.whole_answers(batch, own), whole)
    follows = task.answers_follow and name != "automata_icl"  # where other letters may come next, too
    assert own.any() == follows or name in ("needle", "variable_tracking", "dyck")
    if name in KNOWN:
        assert (own.sum(1) == KNOWN[name][0]).all() and whole.max() + 1 == ROWS * KNOWN[name][1]
    if not follows:
        assert whole.max() + 1 == (batch.weights > 0).sum(), "each is an answer by itself"


SLIP, VOCAB, PREFIX = 5, 22, 3


def counting(self, cache, tokens):
    """Says the number after the one that it reads, but after SLIP the one after that."""
    after = (tokens + 1 + (tokens == SLIP)) % VOCAB
    return jax.nn.one_hot(after, VOCAB), cache._replace(length=cache.length + tokens.shape[1])


@pytest.fixture
def decoded(monkeypatch):
    """Rows 3 4 5 6 7 ... and 6 7 8 ..., and what a model that slips at 5 makes of them, given or own answers."""
    _, model, _ = build(model__attention="conv")
    monkeypatch.setattr(Model, "extend", counting)
    tokens = jnp.array([[3], [6]]) + jnp.arange(8)[None]
    positions = jnp.broadcast_to(jnp.arange(PREFIX - 1, 8), (2, 8 - PREFIX + 1))
    ones = jnp.ones(positions.shape)
    batch = Batch(tokens, jnp.take_along_axis(tokens, positions, 1) + 1, positions, ones, positions[..., None], {})
    task = make_task("copying:length=8")
    own = answers.own_tokens(task, batch)
    given = Rows.given(tokens)
    decoder = Decoder(model, given, PREFIX - 1)
    pair = [decoder(rows, jax.random.key(0)) for rows in (given, given._replace(own=jnp.asarray(own)))]
    whole = answers.whole_answers(batch, own)
    return [(answers.right_answers(task, batch, each), batch.weights, whole) for each in pair]


def test_a_slip_costs_one_token_where_the_right_one_is_read_and_all_the_rest_where_its_own_is(decoded):
    (given, *_), (own, *_) = decoded
    np.testing.assert_array_equal(given, [[False] + [True] * 5, [True] * 6])
    np.testing.assert_array_equal(own, [[False] * 6, [True] * 6])


def test_what_is_likeliest_is_wholly_right_both_ways_or_neither(decoded):
    given, own = (answers.score(*each) for each in decoded)
    assert given == (11 / 12, 1 / 2) and own == (6 / 12, 1 / 2)


def test_scores_count_tokens_by_weight_and_leave_padding_out():
    right = np.array([[True, True, False], [False, True, True]])
    weights = np.array([[1.0, 3.0, 0.0], [1.0, 1.0, 2.0]])
    whole = np.array([[0, 0, -1], [1, 2, 2]])
    assert answers.score(right, weights, whole) == (7 / 8, 2 / 3)
