"""What a model reads beside tokens, and how it is read out: channels, a context, a mean, many answers of one vector."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.interface import HeadSizes
from attention_variants.registry import make_variant
from experiments.analysis import receptive_field
from experiments.model.objective import gradient_step, read_out
from experiments.tasks.registry import TASKS, make_task
from experiments.training.step import trace
from tests.experiments.model.test_transformer import build
from tests.experiments.tiny import tiny_cost, tiny_run

TRANSLATION = "translation:max_length=7,min_length=3"


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_trained(name):
    trace(tiny_run(task=name, model__attention="full"))


WINDOWS = "sliding_window:window_size=1+sliding_window:window_size=3"


@pytest.mark.parametrize("encoder", [pytest.param("full", marks=pytest.mark.slow), WINDOWS])
@pytest.mark.parametrize(
    "cross",
    [
        "sliding_window:window_size=3",
        *(pytest.param(c, marks=pytest.mark.slow) for c in ("full", "linear", "topk:num_keys=50")),
    ],
)
def test_an_encoder_decoder_reaches_what_its_patterns_say(cross, encoder, monkeypatch):
    run, model, _ = build(
        task=TRANSLATION, model__attention="sliding_window:window_size=2", model__num_layers=2,
        model__cross_attention=cross, model__encoder=encoder,
    )  # fmt: skip
    batch = run.task.sample(jax.random.key(0), 1)
    length, context_length = run.task.input_length, run.task.context.length
    everywhere = jnp.arange(length)[None]

    kind, offsets = type(model.embedding), {}
    plain = kind.__call__

    def moved_embedding(self, x, positions):
        return plain(self, x, positions) + offsets["row" if self is model.embedding else "context"][None]

    def outputs(*moves):
        offsets.update(zip(("row", "context"), moves, strict=True))
        return model(batch.inputs, everywhere, context=batch.context)[0]

    monkeypatch.setattr(kind, "__call__", moved_embedding)
    still = [jnp.zeros((size, run.model.model_dim)) for size in (length, context_length)]
    jacobian = jax.jacrev(outputs, argnums=(0, 1))(*still)
    moved = np.hstack([np.abs(part).max(axis=(1, 3)) > 0 for part in jacobian])
    np.testing.assert_array_equal(moved, receptive_field.task_reach(run, run.task))


def test_a_narrow_cross_attention_lowers_the_ceiling():
    task = make_task("translation:max_length=23,min_length=23")

    def ceiling(**values):
        return receptive_field.ceiling(tiny_run(task=TRANSLATION, **values), task)

    for cross, encoder, expected in (
        ("full", "full", 1.0),
        ("sliding_window:window_size=3", "full", 1.0),
        ("full", "sliding_window:window_size=1", 1.0),
    ):
        assert ceiling(model__cross_attention=cross, model__encoder=encoder) == expected
    narrow = "sliding_window:window_size=1"
    blind = 11 / 23  # answer j, counted from 0, stands at 22 - j, and is seen from there on
    found = ceiling(model__cross_attention=narrow, model__encoder=narrow)
    assert found == pytest.approx(1 - blind + blind / (task.vocab_size - 1))


@pytest.mark.slow
@pytest.mark.parametrize("causal", [True, False])
def test_the_mean_is_that_of_the_row_up_to_where_it_is_read(causal):
    run, model, _ = build(
        task="parity:min_length=3,max_length=11", model__readout="mean", model__bidirectional=not causal
    )
    batch = run.task.sample(jax.random.key(0), 5)
    out = model(batch.inputs, batch.positions)
    model.readout = "position"
    length = run.task.input_length
    everywhere = jnp.broadcast_to(jnp.arange(length), (5, length))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_unembed", lambda x: x)
        stream = model(batch.inputs, everywhere)
    for row, last in enumerate(np.asarray(batch.positions)[:, 0]):
        expected = model._unembed(stream[row : row + 1, : last + 1].mean(axis=1, keepdims=True))
        np.testing.assert_allclose(out[row], expected[0], rtol=2e-5, atol=2e-5)


@pytest.mark.slow
def test_many_answers_are_told_from_one_vector():
    run, model, _ = build(task="compression:length=7", model__attention="full")
    batch = run.task.sample(jax.random.key(0), 3)
    out = model(batch.inputs, batch.positions)
    assert out.shape == (3, run.task.num_scored(), run.task.vocab_size)
    assert float(jnp.abs(out[:, 1:] - out[:, :-1]).max(axis=(1, 2)).min()) > 1e-3  # another answer at each place
    blind, model, _ = build(task="compression:length=7", model__attention="sliding_window:window_size=1")
    one, other = (model(inputs, batch.positions) for inputs in (batch.inputs, batch.inputs.at[:, :-1].set(1)))
    np.testing.assert_array_equal(one, other)  # nothing but the vector at the last position is read
    assert receptive_field.ceiling(blind, blind.task) == pytest.approx(1 / (blind.task.vocab_size - 1))


def test_any_of_several_right_tokens_is_right_and_the_loss_is_that_of_the_target():
    batch = make_task("induction:length=5,vocab_size=7").sample(jax.random.key(0), 3)
    batch = batch._replace(targets=jnp.array([[1], [1], [1]]), also_right=jnp.array([[[2, -1]], [[4, 2]], [[-1, -1]]]))
    outputs = jax.nn.one_hot(jnp.array([[2], [3], [1]]), 7)
    readout = read_out(outputs, batch, make_task("induction:length=5,vocab_size=7"))
    assert readout.correct.tolist() == [[1.0], [0.0], [1.0]]
    assert readout.loss[0] == readout.loss[1] > readout.loss[2]


@pytest.mark.slow
def test_numbers_are_read_and_told_as_numbers():
    run, model, params = build(task="adding:length=11", model__attention="full")
    batch = run.task.sample(jax.random.key(0), 64)
    out = model(batch.inputs, batch.positions)
    assert out.shape == (64, 1, 1)
    readout = read_out(out, batch, run.task)
    np.testing.assert_allclose(readout.loss, np.square(out[..., 0] - batch.targets), rtol=1e-6)
    exact = read_out(batch.targets[..., None] + 0.9 * run.task.tolerance, batch, run.task)
    off = read_out(batch.targets[..., None] - 1.1 * run.task.tolerance, batch, run.task)
    assert exact.correct.min() == 1.0 and off.correct.max() == 0.0
    _, gradient = gradient_step(run, nnx.split(model)[0], params, batch)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient["embedding"]))


@pytest.mark.slow
def test_distributions_are_compared_with_distributions_and_trained_on_tokens():
    task = make_task("markov_icl:length=7")
    batch = task.sample(jax.random.key(0), 64)
    exact = read_out(5 + jnp.log(batch.targets), batch, task)
    np.testing.assert_allclose(exact.loss, 0, atol=1e-6)
    assert exact.correct.shape == (64, 5) and exact.correct.min() == 1.0
    for share, right in ((0.9, 1.0), (1.1, 0.0)):  # of the tolerance that is moved from the likeliest symbol to another
        likeliest, other = (jax.nn.one_hot(place(batch.targets, axis=2), 3) for place in (jnp.argmax, jnp.argmin))
        moved = batch.targets + share * task.tolerance * (other - likeliest)
        differ = jnp.argmax(batch.targets, axis=2) != jnp.argmin(batch.targets, axis=2)
        readout = read_out(jnp.log(moved), batch, task)
        assert bool((readout.correct[differ] == right).all()) and float(readout.loss[differ].min()) > 0
    training = task.training_batch(batch)
    uniform = read_out(jnp.zeros((64, 6, 3)), training, task)
    np.testing.assert_array_equal(training.targets, batch.inputs[:, 1:])
    np.testing.assert_allclose(uniform.loss, np.log(3), rtol=1e-6)


@pytest.mark.slow
def test_an_encoder_decoder_keeps_the_context_while_it_writes():
    @functools.cache
    def cost(**values):
        return tiny_cost(task=TRANSLATION, **values)

    run = tiny_run(task=TRANSLATION)
    full, window = make_variant("full"), make_variant("sliding_window:window_size=2")
    head_dim = run.model.model_dim // run.model.num_heads
    heads = HeadSizes(run.model.num_heads, run.model.num_heads, head_dim, head_dim)
    length, other = run.task.input_length, run.task.context.length
    own, across = full.cost(length, length, heads, True), full.cost(length, other, heads, False)
    narrow = window.cost(length, length, heads, True).cache_bytes
    assert cost(model__attention="full")["cache_bytes"] == own.cache_bytes + across.cache_bytes
    assert cost(model__attention="sliding_window:window_size=2")["cache_bytes"] == narrow + across.cache_bytes
    for field in ("attention", "encoder", "cross_attention"):
        values = cost(**{"model__attention": "full", f"model__{field}": "sliding_window:window_size=2"})
        assert values["train_flops_ideal"] < cost(model__attention="full")["train_flops_ideal"]
        assert values["params"] == cost(model__attention="full")["params"]


WRONG = {
    "model.encoder=linear needs a task with a context": dict(model__encoder="linear"),
    "model.cross_attention=linear needs a task with a context": dict(model__cross_attention="linear"),
    "model.readout=mean gives one answer a row; MQAR asks for": dict(model__readout="mean"),
    "unknown model.readout 'maen'; valid choices, nearest first: mean": dict(model__readout="maen"),
    "model.tied_embeddings needs tokens": dict(task="adding", model__tied_embeddings=True),
}


@pytest.mark.parametrize("message", WRONG)
def test_settings_that_do_not_fit_the_task_are_refused(message):
    with pytest.raises(ValueError, match=message):
        tiny_run(**WRONG[message])


@pytest.mark.parametrize("field", ["encoder", "cross_attention"])
@pytest.mark.parametrize("spec", ["", "ful", "full:window_size=3"])
def test_specs_for_a_context_are_checked_by_name(field, spec):
    with pytest.raises(ValueError, match=f"^model.{field}: ") as caught:
        tiny_run(task=TRANSLATION, **{f"model__{field}": spec})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", [TRANSLATION, "parity"])
def test_a_context_is_given_where_there_is_one_and_nowhere_else(task):
    """Without, cross-attention would read the row itself, in both directions."""
    run, model, _ = build(task=task, model__attention="full")
    batch = run.task.sample(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="`context` must be"):
        model(batch.inputs, batch.positions, context=batch.inputs if batch.context is None else None)
    with pytest.raises(ValueError, match="`context` must be"):
        model.init_cache(2, 7, context=batch.inputs if batch.context is None else None)


def test_cross_attention_needs_a_variant_that_supports_it():
    run = tiny_run(task=TRANSLATION, model__attention="full", model__cross_attention="retention")
    with pytest.raises(NotImplementedError, match="RetentionAttention does not support attention to a `context`"):
        trace(run)


@pytest.mark.parametrize("values", [dict(task="adding"), dict(task="compression")])
def test_only_models_of_tokens_decode(values):
    _, model, _ = build(model__attention="full", **values)
    with pytest.raises(NotImplementedError, match="only a model of tokens"):
        model.init_cache(1, 4)
