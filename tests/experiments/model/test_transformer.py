import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_variants import registry
from attention_variants.cost import count_flops
from attention_variants.variants.full import FullAttention
from experiments.components.attention import Attention
from experiments.components.convolution import GatedConvolution
from experiments.config.run import Run
from experiments.model.transformer import make_model
from experiments.tasks import registry as task_registry
from experiments.tasks.recall.mqar import MQAR
from experiments.tasks.registry import TASKS
from experiments.training.loop import validate
from tests.experiments.tiny import tiny_config, tiny_cost, tiny_run


class LearnedAttention(FullAttention):
    """Full attention with parameters of its own, which it draws before anything else could."""

    def make_controls(self, model_dim, heads, *, rngs):
        return nnx.Linear(model_dim, heads.num_heads, rngs=rngs)


def build(**values):
    run = tiny_run(**values)
    graph, params = make_model(run)
    return run, nnx.merge(graph, params), params


def shared(params):
    """Returns the parameters by name, controls left out."""
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    return {name: np.asarray(leaf) for name, leaf in leaves.items() if "controls" not in name}


@pytest.fixture
def with_controls(monkeypatch):
    monkeypatch.setitem(registry.VARIANTS, "learned", LearnedAttention)


@pytest.mark.slow
def test_variants_share_every_parameter_outside_their_controls(with_controls):
    models = {
        name: build(
            model__attention=f"{name}+{name}", model__mlp_dim=17, model__bidirectional=not kind.supports_causal
        )[2]
        for name, kind in registry.VARIANTS.items()
    }
    expected = shared(models["full"])
    assert len(expected) == 2 * (4 + 4 + 2) + 3, "4 projections, 4 MLP arrays and 2 norms a layer; 3 around them"
    assert len(jax.tree.leaves(models["learned"])) == len(expected) + 4
    for name in models:
        found = shared(models[name])
        assert found.keys() == expected.keys(), name
        for path, leaf in found.items():
            np.testing.assert_array_equal(leaf, expected[path], err_msg=f"{name} {path}")


def test_what_mixes_one_layer_moves_no_parameter_of_another():
    conv, full = (shared(build(model__attention=f"{first}+full", model__mlp_dim=17)[2]) for first in ("conv", "full"))
    common = [name for name in full if "['layers'][0]['mixer']" not in name]
    assert len(common) == len(full) - 4
    for name in common:
        np.testing.assert_array_equal(conv[name], full[name], err_msg=name)


def test_the_seed_moves_every_random_parameter():
    first, second = (shared(build(seed=seed, model__mlp_dim=17)[2]) for seed in (0, 1))
    assert {name for name in first if np.array_equal(first[name], second[name])} == {
        name for name in first if name.endswith(("['scale']", "['bias']"))
    }


def test_specs_are_laid_over_the_layers_in_turn():
    def mixers(spec, num_layers):
        config = tiny_config(model__attention=spec, model__num_layers=num_layers)
        return Run.read(config).layers

    assert mixers("conv:kernel_size=5+full", 3) == (
        GatedConvolution(kernel_size=5),
        Attention(variant=FullAttention()),
    ) + mixers("conv:kernel_size=5", 1)
    assert len(mixers("full", 0)) == 1
    with pytest.raises(ValueError, match="at least 2"):
        mixers("conv+full", 1)


def test_only_scored_positions_are_unembedded():
    run, model, _ = build(model__attention="full", model__position="rope")
    tokens = run.task.sample(jax.random.key(0), 5).inputs
    everywhere = jnp.broadcast_to(jnp.arange(14), (5, 14))
    some = jnp.array([[13, 2], [0, 1], [7, 7], [4, 3], [12, 0]])
    read = jax.jit(lambda tokens, positions: model(tokens, positions))
    logits = read(tokens, everywhere)
    assert logits.shape == (5, 14, 22)
    expected = np.take_along_axis(np.asarray(logits), np.asarray(some)[:, :, None], axis=1)
    np.testing.assert_allclose(read(tokens, some), expected, rtol=1e-5, atol=1e-6)
    saved = count_flops(read, tokens, everywhere) - count_flops(read, tokens, some)
    assert saved == 5 * (14 - 2) * 2 * 12 * 22


def test_a_tied_model_unembeds_with_its_embedding():
    run, model, params = build(model__tied_embeddings=True)
    assert "unembedding" not in params
    tokens = run.task.sample(jax.random.key(0), 2).inputs
    token = int(np.setdiff1d(np.arange(22), np.asarray(tokens))[0])  # one that is read nowhere
    graph, _ = nnx.split(model)
    read = jax.jit(lambda params: nnx.merge(graph, params)(tokens, jnp.array([[5], [6]])))
    changed = jax.tree.map(lambda leaf: leaf, params)  # a copy of the nested dicts
    changed["embedding"]["tokens"] = changed["embedding"]["tokens"].at[token].multiply(2.0)
    before, after = read(params), read(changed)
    np.testing.assert_allclose(after[..., token], 2 * before[..., token], rtol=1e-5)


DECODED = {
    "every kind of mixer": dict(model__attention="conv+sliding_window:window_size=4+linear", model__mlp_dim=17),
    "rotary positions and a short convolution": dict(
        model__attention="conv:kernel_size=4+full", model__position="rope", model__short_conv=3, model__num_kv_heads=1
    ),
    "recurrent networks": dict(model__attention="lstm+gru+full"),
    "a bias on the logits": dict(model__attention="full:block_size=5", model__position="alibi"),
    "positions that are drawn only in training": dict(model__position="randomized:encoding=sinusoidal"),
    "positions at the input": dict(model__attention="full", model__position="learned", model__tied_embeddings=True),
}


@pytest.mark.parametrize("case", DECODED)
def test_decoding_equals_the_parallel_model(case):
    run, model, _ = build(**DECODED[case])
    tokens = run.task.sample(jax.random.key(0), 2).inputs
    expected = jax.jit(lambda tokens: model(tokens, jnp.broadcast_to(jnp.arange(14), (2, 14))))(tokens)
    extend = jax.jit(lambda cache, tokens: model.extend(cache, tokens))
    for lengths in ((1,) * 14, (5, 1, 8)):
        cache, parts = model.init_cache(2, 14), []
        for end in np.cumsum(lengths):
            logits, cache = extend(cache, tokens[:, int(cache.length) : end])
            parts.append(logits)
        np.testing.assert_allclose(jnp.concatenate(parts, axis=1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_drawn_positions_move_the_model_and_only_with_a_key():
    run, model, _ = build(model__position="randomized:encoding=sinusoidal,max_length=50", model__attention="full")
    batch = run.task.sample(jax.random.key(0), 2)
    keys = (None, jax.random.key(1), jax.random.key(2))
    plain, one, other = (model(batch.inputs, batch.positions, model.position.draw(14, key)) for key in keys)
    np.testing.assert_array_equal(plain, model(batch.inputs, batch.positions))
    assert np.abs(one - plain).max() > 1e-3 and np.abs(one - other).max() > 1e-3


def test_a_future_token_moves_no_gradient():
    run, model, _ = build(model__attention="conv+full", model__short_conv=2, model__mlp_dim=17)
    tokens = run.task.sample(jax.random.key(0), 1).inputs

    def seen_from(t):
        def readout(offsets):
            x = model.embedding.tokens[...][tokens] + offsets
            for layer in model.layers:
                x = layer(x, causal=True, positions=jnp.arange(14))
            return jnp.sum(jnp.sin(x[0, t]))

        gradient = jax.jit(jax.grad(readout))(jnp.zeros((1, 14, 12)))
        return np.flatnonzero(np.abs(np.asarray(gradient[0])).sum(-1)).tolist()

    assert seen_from(6) == list(range(7))


def test_who_reads_in_both_directions(monkeypatch):
    monkeypatch.setitem(task_registry.TASKS, "both", type("Both", (MQAR,), {"causal": False}))
    for ways in (dict(task="both:length=14,num_pairs=3,vocab_size=22"), dict(model__bidirectional=True)):
        validate(tiny_run(model__attention="conv+full", **ways))
        for mixer in ("lstm", "gru"):
            with pytest.raises(NotImplementedError, match=f"the mixer {mixer} is causal"):
                validate(tiny_run(model__attention=f"full+{mixer}", **ways))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_no_model_reads_ahead_to_an_answer_that_stands_there(name):
    """A task is read in both directions only where what is asked does not follow in the row."""
    task = TASKS[name]()
    config = tiny_config(task=name, model__attention="full", model__bidirectional=True)
    if task.answers_follow:
        with pytest.raises(NotImplementedError, match="hold the answers further on"):
            Run.read(config)
    else:
        Run.read(config)
        batch = jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(0), 64))
        ahead = np.arange(batch.inputs.shape[1])[None, None] > batch.positions[..., None]
        inputs = batch.inputs[..., -1] if task.input_channels else batch.inputs
        stands_ahead = (ahead & (inputs[:, None] == batch.targets[..., None])).any(-1)
        assert stands_ahead[batch.weights > 0].mean() < 0.9


@pytest.mark.slow
def test_a_bidirectional_model_sees_what_comes_after():
    for bidirectional in (True, False):
        run, model, _ = build(model__attention="conv+full", model__bidirectional=bidirectional)
        tokens = run.task.sample(jax.random.key(0), 1).inputs
        moved = tokens.at[0, -1].set((tokens[0, -1] + 1) % 22)
        first = jnp.zeros((1, 1), jnp.int32)
        assert bool((model(tokens, first) != model(moved, first)).any()) == bidirectional
        assert tiny_cost(model__bidirectional=bidirectional)["cache_bytes"] > 0 or bidirectional
