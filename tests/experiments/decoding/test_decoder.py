"""Decoding equals the parallel pass: for every mixer with a cache, whatever is prefilled and whoever chooses tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.registry import VARIANTS, example_spec
from experiments.components.registry import MIXERS
from experiments.decoding.decoder import Decoder, Rows
from experiments.decoding.parallel import DifferentError, Parallel
from experiments.model.transformer import Model
from tests.experiments.model.test_transformer import build

BATCH, LENGTH, PROMPT, VOCAB = 2, 11, 4, 22
RNG = jax.random.key(3)
DECODED = {name: example_spec(name, 16) for name, kind in VARIANTS.items() if kind.supports_causal}
DECODED |= {name: name for name in MIXERS}
QUICK = ("full", "sliding_window", "topk", "linear", "delta", "conv")
CROSS = ("linear", "topk:num_keys=3", "sigmoid", "softmax_sink", "sliding_window:window_size=99")


def own_from(start, batch=BATCH, length=LENGTH):
    """The first row reads its own answers from `start` on, the others what is given."""
    return jnp.zeros((batch, length), bool).at[0, start:].set(True)


def rows_of(vocab=VOCAB, context=None):
    return Rows(jax.random.randint(RNG, (BATCH, LENGTH), 0, vocab), own_from(PROMPT + 1), context)


def check(model, rows, prompt=PROMPT):
    decoded, parallel = Decoder(model, rows, prompt)(rows, RNG), Parallel(model)
    assert parallel.check(decoded, 1e-5, rows.context).relative < 1e-5
    likeliest = np.argmax(parallel(decoded.tokens, rows.context), axis=-1)
    np.testing.assert_array_equal(decoded.answers, likeliest)
    expected = np.array(rows.tokens)
    expected[0, PROMPT + 1 :] = likeliest[0, PROMPT:-1]
    np.testing.assert_array_equal(decoded.tokens, expected)
    return decoded


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in DECODED]
)
def test_decoding_is_the_parallel_pass(name):
    _, model, _ = build(model__attention=DECODED[name])
    check(model, rows_of())


@pytest.mark.slow
def test_it_does_not_matter_what_is_prefilled():
    _, model, _ = build(model__attention="conv+linear", model__position="learned", model__mlp_dim=17)
    found = [check(model, rows_of(), prompt) for prompt in (0, 1, PROMPT + 1)]
    for one in found[1:]:
        np.testing.assert_allclose(one.logits, found[0].logits, rtol=1e-4, atol=1e-5)


TRANSLATION = f"translation:max_length={LENGTH},min_length=3,vocab_size=9"
CONTEXTS = [pytest.param("full", "captioning:num_shapes=6", marks=pytest.mark.slow), ("full", TRANSLATION)]
CONTEXTS += [pytest.param(name, TRANSLATION, marks=pytest.mark.slow) for name in CROSS]


@pytest.mark.parametrize("cross, task", CONTEXTS)
def test_a_model_with_a_context_decodes(cross, task):
    run, model, _ = build(
        task=task, model__attention="full+conv", model__cross_attention=cross,
        model__encoder="sliding_window:window_size=3",
    )  # fmt: skip
    context = run.task.sample(RNG, BATCH).context
    decoded = check(model, rows_of(run.task.vocab_size, context))
    assert np.abs(Parallel(model)(decoded.tokens, context[::-1]) - decoded.logits).max() > 1e-3, "it is read"


def test_a_context_that_each_token_sees_in_part_is_refused():
    run, model, _ = build(
        task=TRANSLATION, model__attention="conv", model__cross_attention="sliding_window:window_size=3"
    )
    with pytest.raises(NotImplementedError, match="shows each token another part of the context; it cannot decode."):
        model.init_cache(1, LENGTH, context=run.task.sample(RNG, 1).context)


def test_drawn_answers_follow_the_temperature_and_repeat_with_their_seed():
    _, model, _ = build(model__attention="conv:kernel_size=1")
    number, temperature = 5000, 0.5
    tokens = jnp.full((number, 3), 7)  # so that all places have the same logits
    rows = Rows(tokens, own_from(2, number, 3))
    decoder = Decoder(model, rows, 1, temperature)
    decoded = decoder(rows, RNG)
    assert decoded.tokens[0, 2] == decoded.answers[0, 1], "what is drawn is read"
    shares = np.asarray(jax.nn.softmax(decoded.logits[1] / temperature, axis=-1))
    for place in (0, 1, 2):  # prefilled, read, and read last
        counts = np.bincount(np.asarray(decoded.answers[1:, place]), minlength=VOCAB) / (number - 1)
        spread = np.sqrt(shares[place] * (1 - shares[place]) / (number - 1))
        assert (np.abs(counts - shares[place]) < 5 * spread + 1 / number).all(), place
    for place in (1, 2):
        assert (decoded.answers[1:, 0] != decoded.answers[1:, place]).mean() > 0.3, "each place has a draw of its own"
    np.testing.assert_array_equal(decoder(rows, RNG).answers, decoded.answers)
    assert (decoder(rows, jax.random.key(4)).answers != decoded.answers).any()
    cold = Decoder(model, rows, 1, 1e-6)(rows, RNG)
    np.testing.assert_array_equal(cold.answers, np.argmax(cold.logits, axis=-1))


def late(self, cache, tokens):
    """Decodes as if every token stood one place further on."""
    logits, after = plain(self, cache._replace(length=cache.length + 1), tokens)
    return logits, after._replace(length=after.length - 1)


def none(self, cache, tokens):
    logits, after = plain(self, cache, tokens)
    return logits.at[1, -1, 5].set(jnp.nan), after


plain = Model.extend


@pytest.mark.parametrize("extend, where", [(late, r"\d+ of row \d"), (none, "3 of row 1")])
def test_decoding_that_differs_is_refused(monkeypatch, extend, where):
    _, model, _ = build(model__attention="full", model__position="randomized:encoding=learned")
    rows = rows_of()
    monkeypatch.setattr(Model, "extend", extend)
    decoded = Decoder(model, rows, PROMPT)(rows, RNG)
    with pytest.raises(DifferentError, match=f"logits differ by up to .* at position {where}; the tolerance is 0.001"):
        Parallel(model).check(decoded, 1e-3)


@pytest.mark.parametrize("prompt, start", [(-1, 9), (LENGTH, LENGTH), (3, 2), (0, 0)])
def test_a_prompt_that_does_not_fit_is_refused(prompt, start):
    _, model, _ = build(model__attention="conv")
    rows = rows_of()._replace(own=own_from(start))
    with pytest.raises(ValueError, match=f"`prompt` must be below {LENGTH}, .* got {prompt}"):
        Decoder(model, rows, prompt)


def test_more_tokens_than_positions_are_refused():
    _, model, _ = build(model__attention="conv+full", model__position="learned")
    with pytest.raises(ValueError, match="learned positions were made for 14 tokens"):
        Decoder(model, Rows.given(np.zeros((1, 15))), PROMPT)
