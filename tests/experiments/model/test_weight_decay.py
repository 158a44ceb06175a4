"""Which parameters weight decay reaches: kernels of linear maps and embeddings, in every model that can be named."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.positions import POSITIONS
from attention_variants.registry import VARIANTS
from experiments.components.norms import NORMS
from experiments.components.optimizers import OPTIMIZERS, make_optimizer
from experiments.components.registry import MIXERS
from experiments.model.transformer import abstract_model, decayed_params, make_model
from experiments.training.step import compile_program, initial_state
from tests.attention_variants.test_layer_options import OPTIONS
from tests.experiments.tiny import tiny_run

# What decays of a model that can be named, by the end of its path: linear maps, taps of convolutions, embeddings.
SHARED = {
    "embedding.tokens",
    "embedding.channels.kernel",
    "embedding.table.embedding",
    "unembedding",
    "decoder.places",
    *(f"{place}.kernel" for place in ("query", "key", "value", "output", "up", "down")),
    "mixer.kernel",
    *(f"{place}_conv.taps" for place in ("short", "query", "key", "value")),
    "token_shift.down",
    "token_shift.up",
    "gate.kernel",
    *(f"cell.{name}.kernel" for name in ("dense_h", "dense_i")),
}
# Likewise of the controls of each variant that has any; all others must not decay.
CONTROLS = {
    "linformer": {"key", "value"},
    "native_sparse": {"gates.kernel"},
    "forgetting": {"linear.kernel"},
    "differential": set(),
    "softmax_sink": set(),
    "taylor": {"query_map", "key_map"},
    "hedgehog": set(),
    "retention": set(),
    "gated_linear": {"down.kernel", "up.kernel"},
    "state_space": {"step.kernel"},
    "rwkv6": {"down.kernel", "up.kernel"},
    "delta": {"linear.kernel"},
    "gated_delta": {"strength.kernel", "step.kernel"},
    "delta_product": {"strength.kernel", "keys.kernel", "values.kernel"},
    "gated_delta_product": {"strength.kernel", "keys.kernel", "values.kernel", "step.kernel"},
    "kimi_delta": {"strength.kernel", "down.kernel", "up.kernel"},
}
TRAINED = dict(model__attention="kimi_delta+differential", model__norm="layer")  # with undecayed matrices
MODELS = {
    **{
        name: dict(model__attention=name, model__bidirectional=not kind.supports_causal)
        for name, kind in VARIANTS.items()
    },
    **{name: dict(model__attention=name) for name in MIXERS},
    **{f"position {name}": dict(model__position=name) for name in POSITIONS},
    **{f"norm {name}": dict(model__norm=name) for name in NORMS},
    "randomized t5": dict(model__position="randomized:encoding=t5"),
    **{
        f"around attention, as in {name}": {f"model__{field}": on for field, on in dataclasses.asdict(options).items()}
        for name, options in OPTIONS.items()
    },
    "an MLP": dict(model__mlp_dim=16),
    "tied": dict(model__tied_embeddings=True),
    "an encoder": dict(task="translation:max_length=7,min_length=3"),
    "answers by place": dict(task="compression:length=7"),
    "channels": dict(task="adding:length=7"),
}


def leaves(tree):
    """Returns path -> leaf, such as layers.0.mixer.query.kernel."""
    return {".".join(str(key.key) for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def decays(path, variant):
    """Says by hand whether a parameter decays."""
    _, inside, control = path.rpartition(".controls.")
    if inside:
        return control in CONTROLS[variant]
    return any(f".{path}".endswith(f".{end}") for end in SHARED)


@pytest.mark.parametrize("model", MODELS)
def test_linear_maps_and_embeddings_decay_and_nothing_else(model):
    run = tiny_run(**MODELS[model])
    found = leaves(decayed_params(run))
    assert list(found) == list(leaves(abstract_model(run)[1]))
    assert found == {path: decays(path, model) for path in found}


def test_the_table_names_every_variant_with_controls():
    assert set(CONTROLS) == {name for name, kind in VARIANTS.items() if kind().has_controls}
    for name, decaying in CONTROLS.items():
        paths = leaves(decayed_params(tiny_run(**MODELS[name])))
        assert decaying <= {path.rpartition(".controls.")[2] for path in paths}, name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in OPTIMIZERS.items() if hasattr(kind, "weight_decay")])
def test_a_step_without_gradient_moves_what_decays_and_nothing_else(name):
    run = tiny_run(**TRAINED)
    params = jax.tree.map(jnp.ones_like, abstract_model(run)[1])
    step = make_optimizer(f"{name}:weight_decay=0.25").direction(decayed_params(run))
    change, _ = step.update(jax.tree.map(jnp.zeros_like, params), step.init(params), params)
    decayed = leaves(decayed_params(run))
    for path, moved in leaves(change).items():
        np.testing.assert_allclose(moved, 0.25 if decayed[path] else 0.0, atol=1e-6, err_msg=path)
    matrices = {path for path, leaf in leaves(params).items() if leaf.ndim >= 2}
    assert {path.split(".")[-1] for path in matrices if not decayed[path]} == {"step_bias", "log_rate", "vectors"}


@pytest.mark.slow
def test_training_decays_what_is_said_to_decay():
    """The first step of Adam moves a parameter by the learning rate at most; a strong decay, by much more."""
    values = dict(train__optimizer="adamw:weight_decay=1e6", train__schedule="constant:warmup_steps=0")
    run = tiny_run(**TRAINED, **values)
    before, decayed = leaves(make_model(run)[1]), leaves(decayed_params(run))
    state, *_ = compile_program(run).advance(run, initial_state(run), 1)
    for path, after in leaves(state.params).items():
        assert (np.abs(after - before[path]).max() > 2 * run.train.learning_rate) == decayed[path], path
