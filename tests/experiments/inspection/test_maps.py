"""Maps are the layer: rows of weights times values are what its heads give. Hand-built heads score as they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants.registry import VARIANTS, example_spec
from experiments.inspection import head_scores, maps
from experiments.inspection.maps import look
from experiments.model.hooks import Hooks, Site
from experiments.model.transformer import Model, make_model
from experiments.tasks.base import Batch
from tests.experiments.tiny import tiny_run

LENGTH, VOCAB, SHARP = 22, 7, 1e4


def model_and_rows(run, batch=3):
    rows = run.task.sample(jax.random.key(5), batch)
    return nnx.merge(*make_model(run)), rows


class HeadsOut(Hooks):
    """Keeps what every attention layer adds, and asks its heads for it anew."""

    def __init__(self):
        self.found = {}

    def mix(self, site, mixer, x, **arguments):
        self.found[site] = (mixer, x, arguments)
        return mixer(x, **arguments)


def layers_and_sums(model, rows, found):
    """Returns the logits, and for each layer what it adds if its heads give weights times values, and what it adds."""
    graph, state = nnx.split(model)
    sites = []

    @jax.jit  # one program, where each operation by itself would be one
    def both(state, found):
        hooks, layers = HeadsOut(), []
        logits = maps.forward(nnx.merge(graph, state), rows, hooks)
        for site, (mixer, x, arguments) in hooks.found.items():
            if hasattr(mixer, "weights"):
                out = jnp.einsum("bhqk,bkhd->bqhd", *found[len(sites)])
                sites.append(site)
                layers.append((mixer.finish(mixer.prepare(x, **arguments), out), mixer(x, **arguments)))
        return logits, layers

    logits, layers = both(state, list(found.values()))
    assert sites == list(found)
    return logits, dict(zip(sites, layers, strict=True))


CASES = {
    **{name: {"model__attention": f"conv+{example_spec(name, 16)}"} for name in VARIANTS},
    "cross": {"task": "translation", "model__attention": "full", "model__encoder": "full+linear"},
    "paper": {"model__attention": "gated_delta_product+rwkv6", "model__layer": "paper"},
    "grouped": {"model__attention": "full", "model__num_kv_heads": 1, "model__position": "rope"},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_rows_of_a_map_times_values_are_the_output_of_the_layer(case):
    causal = case not in VARIANTS or VARIANTS[case].supports_causal
    run = tiny_run(**({} if causal else {"model__bidirectional": True}) | CASES[case])
    model, rows = model_and_rows(run)
    seen = look(model, rows)
    logits, layers = layers_and_sums(model, rows, {each.site: (each.weights, each.values) for each in seen.maps})
    np.testing.assert_allclose(seen.logits, logits, atol=1e-4)
    for each in seen.maps:
        np.testing.assert_allclose(*layers[each.site], atol=2e-4)
        shares = each.shares.sum(-1)
        assert np.all(np.isclose(shares, 1, atol=1e-4) | (shares == 0))
        if each.normalised:
            np.testing.assert_allclose(each.weights.sum(-1), 1, atol=1e-3)
        hidden = ~each.pattern
        assert not np.abs(each.by_token[:, :, hidden]).max(initial=0) > 1e-6


def one_hot_model(attention: str) -> Model:
    """Four heads whose keys and queries are set: previous token, same token, first token, induction.

    The stream holds a token in its first channels and a position in the others. A convolution of two taps hands the
    last head the token before each key.
    """
    width = VOCAB + LENGTH
    run = tiny_run(
        task=f"mqar:length={LENGTH},num_pairs=2,vocab_size={LENGTH + 1}",
        model__attention=attention,
        model__model_dim=width,
        model__num_heads=4,
        model__head_dim=width,
        model__qkv_conv=2,
        model__position="learned",
    )
    model = nnx.merge(*make_model(run))
    token, place = np.eye(width)[:, :VOCAB], np.eye(width)[:, VOCAB:]
    table = np.zeros((LENGTH + 1, width))
    table[:VOCAB] = token.T
    model.embedding.tokens[...] = jnp.asarray(table)
    model.embedding.table.embedding[...] = jnp.asarray(place.T * width**0.5)  # tokens are normalised to this size
    tokens, places = token @ token.T, place @ place.T
    back = np.zeros((width, width))
    for position in range(1, LENGTH):
        back[VOCAB + position, VOCAB + position - 1] = 1
    first = np.zeros((width, width))
    first[:VOCAB, VOCAB] = 1
    layer = model.layers[0].mixer
    queries, keys = [back, tokens - places, first, tokens], [places, tokens + places, places, tokens]
    if attention == "linear":  # its features of 0 are 1, so that what is to count for nothing must lie far below 0
        elsewhere = (token.sum(1) / 2)[:, None] + (place.sum(1) / 2)[:, None]
        queries, keys = [back, tokens, first, tokens], [places, tokens, places, tokens]
        queries, keys = ([matrix - elsewhere / 2 for matrix in each] for each in (queries, keys))
    layer.query.kernel[...] = jnp.asarray(SHARP * np.concatenate(queries, 1))
    layer.key.kernel[...] = jnp.asarray(SHARP * np.concatenate(keys, 1))
    here, before = [[0.0], [1.0]], [[1.0], [0.0]]
    layer.query_conv.taps[...] = jnp.asarray(np.repeat(here, 4 * width, 1))
    layer.key_conv.taps[...] = jnp.asarray(
        np.concatenate([np.repeat(here, 3 * width, 1), np.repeat(before, width, 1)], 1)
    )
    return model


def rows_of(inputs: np.ndarray) -> Batch:
    none = np.zeros((len(inputs), 1), np.int32)
    return Batch(inputs, none, none, none + 1.0, none[:, :, None], {})


@pytest.mark.parametrize("attention", ["full", "sliding_window:window_size=5", "linear"])
def test_hand_built_heads_score_one_on_their_own_score(attention):
    rng = np.random.default_rng(3)
    if attention.startswith("sliding"):  # what is to be found lies within its window
        inputs = np.arange(LENGTH)[None] % 3 + np.arange(3)[:, None]
    else:
        steps = rng.integers(1, VOCAB, (29, LENGTH))  # no token stands twice in a row
        inputs = np.cumsum(steps, 1) % VOCAB
    rows = rows_of(inputs.astype(np.int32))
    scores = head_scores.head_scores(look(one_hot_model(attention), rows).maps, rows)
    table = {(score.name, score.head): score for score in scores}
    for head, name in enumerate(["previous token", "same token", "first token", "induction"]):
        if attention.startswith("sliding") and name == "first token":
            continue  # out of its sight
        expected = 1.0
        if attention == "linear" and name == "same token":  # its features cannot leave out the query's own token
            same = np.tril(inputs[:, :, None] == inputs[:, None, :])
            earlier = same.sum(-1) - 1
            expected = (earlier / (earlier + 1))[earlier > 0].mean()
        assert table[name, head].value == pytest.approx(expected, abs=0.01), name
        if not attention.startswith("sliding"):
            for other in {0, 1, 2, 3} - {head}:
                score = table[name, other]
                assert abs(score.value - score.baseline) < 0.25 < abs(1 - score.baseline), (name, other)
    sites = {score.site for score in scores}
    assert sites == {Site(0)}


def test_spreads_of_known_shares():
    shares = np.array([[[[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, -0.5]]]])
    values = np.zeros((1, 3, 1, 2))
    found = maps.Map(Site(0), shares, values, np.tri(3, dtype=bool), 1, False)
    scores = {s.name: s for s in head_scores.head_scores([found], rows_of(np.array([[4, 4, 5]])))}
    assert scores["entropy"].value == pytest.approx((0 + np.log(2) + 1.5 * np.log(2)) / 3)
    assert scores["effective keys"].value == pytest.approx((1 + 2 + 2**1.5) / 3)
    assert scores["distance"].value == pytest.approx((0 + 0.5 + 0.75) / 3)
    assert scores["previous token"].value == pytest.approx((0.5 + 0.25) / 2)
    assert scores["first token"].value == pytest.approx((0.5 + 0.25) / 2)
    assert scores["first token"].baseline == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert scores["same token"].value == pytest.approx(0.5) and scores["same token"].baseline == pytest.approx(0.5)
    assert np.isnan(scores["induction"].value)
    assert scores["evidence"].value == 1.0  # of the one query that is read out, at position 0
    assert np.isnan(scores["before evidence"].value), "nothing stands before position 0"


def test_before_evidence_is_of_the_queries_at_which_evidence_ends():
    shares = np.array([[1, 0, 0, 0], [0.4, 0.6, 0, 0], [0.1, 0.2, 0.7, 0], [0, 0, 0.9, 0.1]])
    shares = np.stack([shares, np.eye(4)])[:, None]
    found = maps.Map(Site(0), shares, np.zeros((2, 4, 1, 2)), np.tri(4, dtype=bool), 1, True)
    none = np.zeros((2, 2), np.int32)
    evidence = np.array([[[0, 1], [2, 1]], [[0, 3], [2, 1]]])  # of two targets each; the last one does not count
    rows = Batch(np.zeros((2, 4), np.int32), none, none + 3, np.array([[1.0, 1.0], [1.0, 0.0]]), evidence, {})
    scores = {s.name: s for s in head_scores.head_scores([found], rows)}
    assert scores["before evidence"].value == pytest.approx((0.4 + 0.2 + 0) / 3)
    assert scores["before evidence"].baseline == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert scores["previous token"].value == pytest.approx((0.4 + 0.2 + 0.9 + 0 + 0 + 0) / 6)


def test_writes_of_a_token_are_summed():
    weights = np.arange(12.0).reshape(1, 1, 2, 6)
    found = maps.Map(Site(0), weights, np.zeros((1, 6, 1, 2)), np.ones((2, 3), bool), 2, False)
    np.testing.assert_array_equal(found.by_token[0, 0], [[1, 5, 9], [13, 17, 21]])
