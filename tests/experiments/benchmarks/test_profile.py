"""The parts of a training step: what each computes, counted, because times are no test's business."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.analysis import compute
from experiments.benchmarks import profile
from experiments.benchmarks.roofline import Machine
from experiments.config.files import Loaded
from experiments.model.streams import TRAIN, split_key
from experiments.training.step import compile_program, initial_state
from tests.experiments.tiny import tiny_config, tiny_run

FIELDS = {"model__attention": "full", "model__mlp_dim": 20, "model__position": "rope", "model__num_layers": 2}


def test_the_parts_of_both_passes_are_the_whole():
    """Their FLOPs add up to those of the gradient step, but for the embedding's, which is no product."""
    run = tiny_run(**FIELDS)
    calls = profile._calls(run)
    flops = {name.strip(): profile.count_flops(call.function, *call.arguments) for name, call in calls.items()}
    inner = ("embedding", "norms and mixers", "norms and MLPs", "unembedding and loss")
    assert sum(flops[name] for name in inner) == flops["forward and backward"]
    assert flops["forward and backward"] == compute.count(run, 1)["train_flops_executed"]
    assert 0 < flops["attention"] < flops["norms and mixers"] and flops["data"] == flops["optimizer"] == 0


def test_the_parts_are_those_of_the_step():
    """Data, gradient and optimizer, one after the other, are the steps that training makes."""
    run = tiny_run(**FIELDS)
    calls = {name: jax.jit(call.function) for name, call in profile._calls(run).items()}
    state = initial_state(run)
    for step in range(2):
        batch = calls["data"](jax.random.fold_in(split_key(jax.random.key(run.seed), TRAIN), step))
        loss, gradient = calls["forward and backward"](state.params, batch)
        assert calls["forward"](state.params, batch) == pytest.approx(loss)
        state = calls["optimizer"](state, gradient, jnp.float32(run.train.learning_rate))
    trained, *_ = compile_program(run).advance(run, initial_state(run), 2)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5), state, trained)
    moved = jax.tree.map(lambda ours, first: float(abs(ours - first).max()), state.params, initial_state(run).params)
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_a_model_without_attention_or_mlp_has_no_such_part():
    names = set(profile._calls(tiny_run(model__attention="conv+lstm")))
    assert not any(name.strip() in ("attention", "norms and MLPs") for name in names)
    assert any(name.strip() == "norms and mixers" for name in names)


@pytest.mark.slow
def test_a_profile_has_the_step_first_and_shares_of_it():
    study, machine = Loaded(tiny_config(**FIELDS), ()), Machine(1e9, 1e9)
    parts = list(profile.measure(study, machine))
    assert parts[0].part == "training step" and parts[0].share == 1 and parts[-1].part == "optimizer"
    for part in parts:
        assert part.share == pytest.approx(part.ms / parts[0].ms)
        assert part.of_matmul is None or part.of_matmul == pytest.approx(part.flops / part.ms / 1e6)
    for style, mark in (("text", "    attention"), ("markdown", "&nbsp;&nbsp;&nbsp;&nbsp;attention")):
        assert mark in profile.render(parts, machine, style)
