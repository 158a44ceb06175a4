"""What heads, edges and states are there for, on a model that solves recall; and on models where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.inspection import causes, head_scores
from experiments.inspection.causes import MEAN, ZERO, Ablation, CutEdges
from experiments.inspection.maps import evidence_keys, forward, look
from experiments.model.hooks import NONE, Site
from experiments.model.transformer import make_model
from experiments.training import step
from tests.experiments.tiny import tiny_run


@pytest.fixture(scope="module")
def solved():
    """A model of a convolution and one layer of full attention that recalls two pairs; its task; rows of it."""
    fields = {
        "task": "mqar:length=14,num_pairs=2,vocab_size=17",
        "model.attention": "conv+full",
        "model.model_dim": 32,
        "train.learning_rate": 0.01,
        "train.steps": 400,
        "train.schedule": "cosine:warmup_steps=20",
    }
    run = Run.read(Config.from_fields(fields))
    program = step.compile_program(run)
    state, _, _ = program.advance(run, step.initial_state(run), run.train.steps)
    return nnx.merge(program.graph, state.params), run.task, run.task.sample(jax.random.key(9), 64)


@pytest.mark.slow
def test_the_evidence_is_where_the_weight_is_and_cutting_it_costs_the_answer(solved):
    model, task, rows = solved
    whole = causes.score(model, task, rows, NONE)
    assert whole.accuracy > 0.99 and set(whole.slices) >= {"distance"}
    maps = look(model, rows).maps
    evidence = [score for score in head_scores.head_scores(maps, rows) if score.name == "evidence"]
    assert max(score.value for score in evidence) > 0.9 > 0.5 > max(score.baseline for score in evidence)
    edges = evidence_keys(rows, (14, 14))
    chance = 2 / 17  # about, of a guess among values
    assert causes.score(model, task, rows, CutEdges(Site(1), None, edges)).accuracy < 4 * chance
    others = np.roll(edges, 1, axis=2) & np.tri(14, dtype=bool) & ~edges
    assert causes.score(model, task, rows, CutEdges(Site(1), None, others)).accuracy > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("by", [ZERO, MEAN])
def test_without_its_layer_a_model_guesses(solved, by):
    model, task, rows = solved
    for site in (Site(0), Site(1)):
        assert causes.score(model, task, rows, Ablation(site, by=by)).accuracy < 0.7
    heads = [causes.score(model, task, rows, Ablation(Site(1), head, by)).accuracy for head in range(2)]
    assert min(heads) < 0.9


@pytest.mark.slow
def test_the_state_of_the_evidence_moves_the_answer_and_another_does_not(solved):
    """The value of a pair is replaced by another; its state decides which of the two is answered."""
    model, task, rows = solved
    target = 0
    places = np.asarray(rows.evidence)[:, target].max(-1)  # the value stands behind its key
    inputs = np.array(rows.inputs)
    values = np.unique(np.asarray(rows.targets))
    for row, place in enumerate(places):
        free = [value for value in values if value not in inputs[row]]
        inputs[row, place] = free[row % len(free)]
    others = rows._replace(inputs=jnp.asarray(inputs))
    theirs = task.solve(others)[:, target]
    own = np.asarray(rows.targets)[:, target]
    assert np.all(theirs != own)

    def answers(positions):
        logits = causes.patched(model, rows, others, positions)
        return {site: found[:, target].argmax(-1) for site, found in logits.items()}

    moved = answers(places)
    assert list(moved) == [Site(-1), Site(0), Site(1)]
    for site in (Site(-1), Site(0)):
        assert (moved[site] == theirs).mean() > 0.9
    assert (moved[Site(1)] == own).mean() > 0.9, "behind the last attention nothing reads it any more"
    query = np.asarray(rows.positions)[:, target]
    aside = np.array(
        [next(p for p in range(14) if p not in (place, at)) for place, at in zip(places, query, strict=True)]
    )
    for site, found in answers(aside).items():
        assert (found == own).mean() > 0.9, site


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["full", "conv+linear", "gated_delta_product", "sliding_window:window_size=5"])
def test_what_changes_nothing_changes_nothing(attention):
    run = tiny_run(model__attention=attention)
    model, rows = nnx.merge(*make_model(run)), run.task.sample(jax.random.key(2), 3)
    plain = forward(model, rows, NONE)
    last = Site(len(model.layers) - 1)
    uncut = np.zeros((3, 14, 14), bool)
    np.testing.assert_allclose(forward(model, rows, CutEdges(last, None, uncut)), plain, atol=1e-6)
    np.testing.assert_allclose(causes.patched(model, rows, rows, np.arange(3))[last], plain, atol=1e-5)
    elsewhere = Site(7)
    np.testing.assert_array_equal(forward(model, rows, Ablation(elsewhere)), plain)


@pytest.mark.parametrize(
    "attention", ["linear", *(pytest.param(name, marks=pytest.mark.slow) for name in ("full", "gated_delta_product"))]
)
def test_cutting_every_edge_of_a_head_is_its_ablation(attention):
    run = tiny_run(model__attention=attention)
    model, rows = nnx.merge(*make_model(run)), run.task.sample(jax.random.key(2), 3)
    every = np.ones((3, 14, 14), bool)
    for head in range(3):
        cut, ablated = CutEdges(Site(0), head, every), Ablation(Site(0), head)
        np.testing.assert_allclose(forward(model, rows, cut), forward(model, rows, ablated), atol=1e-4)
    assert np.abs(forward(model, rows, ablated) - forward(model, rows, NONE)).max() > 1e-3


def test_the_mean_of_a_head_is_over_rows_and_queries():
    run = tiny_run(model__attention="full")
    model, rows = nnx.merge(*make_model(run)), run.task.sample(jax.random.key(2), 3)
    layer, seen = model.layers[0], {}

    class Kept(Ablation):
        def _instead(self, out):
            seen["out"], seen["instead"] = out, super()._instead(out)
            return seen["instead"]

    forward(model, rows, Kept(Site(0), 1, MEAN))
    assert seen["out"].shape == (3, 14, layer.mixer.heads.value_dim)
    np.testing.assert_allclose(seen["instead"][2, 5], np.asarray(seen["out"]).mean((0, 1)), atol=1e-6)


@pytest.mark.parametrize("hooks, message", [
    (Ablation(Site(0), 0), "layer 1 has no heads; its mixer is GatedConvolutionLayer"),
    (Ablation(Site(1), 3), "layer 2 has the heads 0 to 2; got 3"),
])  # fmt: skip
def test_a_head_that_is_not_there_is_named(hooks, message):
    run = tiny_run(model__attention="conv+full")
    model, rows = nnx.merge(*make_model(run)), run.task.sample(jax.random.key(2), 3)
    with pytest.raises(ValueError, match=message):
        forward(model, rows, hooks)
