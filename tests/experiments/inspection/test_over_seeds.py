"""Scores over seeds pair no heads; along training they are those of the parameters of each step."""

import math

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.inspection import along_training, over_seeds
from experiments.inspection.head_scores import HeadScore, head_scores
from experiments.inspection.maps import Looker, look
from experiments.inspection.over_seeds import BEST, MEAN, ONLY, Scored
from experiments.model.hooks import Site
from experiments.model.transformer import make_model
from experiments.studies import intervals, run_folder, runner
from experiments.studies.trained import trained_model
from tests.experiments.tiny import tiny_config, tiny_run

NAN = math.nan
VALUES = {  # of the heads of two layers, one seed after another
    ("induction", 0): [[0.9, 0.2, 0.1], [0.3, 0.1, 0.2], [0.1, 0.2, 0.6], [0.5, 0.5, 0.5], [0.3, 0.4, 0.2]],
    ("induction", 1): [[0.4], [0.6], [0.5], [0.7], [0.8]],
    ("evidence", 0): [[NAN, NAN, NAN]] * 5,
    ("entropy", 0): [[2.0, 1.0, 3.0], [2.0, 2.5, 0.5], [1.0, 1.0, 1.0], [0.0, 0.0, 3.0], [4.0, 1.0, 1.0]],
}


def scored(seed, order=(0, 1, 2), step=None):
    """What one run is scored, its heads in some order."""
    scores = []
    for (name, layer), seeds in VALUES.items():
        own = seeds[seed]
        heads = [own[place] for place in order] if len(own) == 3 else own
        scores += [HeadScore(Site(layer), head, name, value, 0.1) for head, value in enumerate(heads)]
    return Scored(seed, step, 0.5 + seed / 10, scores)


def test_scores_are_of_the_highest_head_and_of_the_mean():
    lines = {(line.site.layer, line.which, line.name): line for line in over_seeds.sum_up(list(map(scored, range(5))))}
    assert list(lines) == [
        (0, BEST, "induction"),
        (0, MEAN, "induction"),
        (1, ONLY, "induction"),
        (0, BEST, "evidence"),
        (0, MEAN, "evidence"),
        (0, MEAN, "entropy"),
    ]
    expected = {
        (0, BEST, "induction"): intervals.mean_accuracy([0.9, 0.3, 0.6, 0.5, 0.4]),
        (0, MEAN, "induction"): intervals.mean_accuracy([0.4, 0.2, 0.3, 0.5, 0.3]),
        (1, ONLY, "induction"): intervals.mean_accuracy([0.4, 0.6, 0.5, 0.7, 0.8]),
        (0, MEAN, "entropy"): intervals.mean_number([2, 5 / 3, 1, 1, 2]),
    }
    for key, estimate in expected.items():
        assert lines[key].estimate == pytest.approx(estimate), key
    assert lines[0, BEST, "evidence"].estimate is None and lines[0, BEST, "induction"].baseline == 0.1
    assert lines[0, BEST, "induction"].estimate.kind == "interval"
    assert {line.estimate.kind for line in over_seeds.sum_up([scored(0), scored(1)]) if line.estimate} == {"range"}


def test_the_order_of_heads_changes_nothing():
    orders = [(2, 0, 1), (0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)]
    mixed = over_seeds.sum_up([scored(seed, order) for seed, order in enumerate(orders)])
    for line, plain in zip(mixed, over_seeds.sum_up(list(map(scored, range(5)))), strict=True):
        assert line[:3] == plain[:3] and (line.estimate is None) == (plain.estimate is None)
        if line.estimate:
            np.testing.assert_allclose(line.estimate, plain.estimate, rtol=1e-9)


def curves(figure, title):
    """Returns the lines of a panel: {label: (steps, values)}, those without a name under a number."""
    (ax,) = (ax for ax in figure.axes if ax.get_title() == title)
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    return {
        line.get_label() if not line.get_label().startswith("_") else number: (*line.get_xdata(), *line.get_ydata())
        for number, line in enumerate(lines)
    }


def test_the_picture_has_the_highest_head_of_each_layer_and_seed_and_their_median():
    steps = [(0, 3), (1, 0), (2, 7)]  # a run's scores at step 0, and of another seed's numbers at the next
    runs = [scored(seed)._replace(step=0) for seed, _ in steps]
    runs += [scored(seed + 1)._replace(step=5, seed=seed) for seed, _ in steps]
    figure = along_training.draw_along_training(runs)
    assert [ax.get_title() for ax in figure.axes if ax.axison] == ["accuracy", "induction"], "spreads are no shares"
    drawn = curves(figure, "induction")
    assert drawn["layer 1, best head"] == (0, 5, 0.6, 0.5) and drawn["layer 2, its head"] == (0, 5, 0.5, 0.6)
    assert [drawn[number] for number in (0, 1, 2)] == [(0, 5, 0.9, 0.3), (0, 5, 0.3, 0.6), (0, 5, 0.6, 0.5)]
    assert list(curves(figure, "accuracy").values())[-1] == pytest.approx((0, 5, 0.6, 0.7))


def test_a_single_run_has_a_line_for_each_head():
    figure = along_training.draw_along_training([scored(0)._replace(step=0), scored(1)._replace(step=4, seed=0)])
    drawn = curves(figure, "induction")
    assert drawn == {
        "layer 1, head 1": (0, 4, 0.9, 0.3),
        "layer 1, head 2": (0, 4, 0.2, 0.1),
        "layer 1, head 3": (0, 4, 0.1, 0.2),
        "layer 2, head 1": (0, 4, 0.4, 0.6),
    }
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == list(drawn)


def test_a_looker_sees_each_model_and_compiles_once():
    run = tiny_run(model__attention="conv+full")
    graph, params = make_model(run)
    models = [nnx.merge(graph, jax.tree.map(lambda leaf, by=by: leaf * by, params)) for by in (1.0, 0.5)]
    rows = run.task.sample(jax.random.key(2), 3)
    looker = Looker(models[0])
    for model in models:
        alone, shared = look(model, rows), looker(model, rows)
        np.testing.assert_allclose(alone.logits, shared.logits, atol=1e-6)
        assert [each.site for each in shared.maps] == [Site(1)]
        for mine, yours in zip(alone.maps, shared.maps, strict=True):
            np.testing.assert_allclose(mine.weights, yours.weights, atol=1e-6)
    assert looker._run._cache_size() <= 1  # 0 where what is compiled has been thrown away


@pytest.mark.slow
def test_runs_are_scored_at_every_step_that_is_kept(tmp_path):
    runs = [runner.Run.read(tiny_config(name="study", seed=seed, train__keep_checkpoints="every")) for seed in (0, 1)]
    assert runner.run_study(runs, tmp_path, "a command") == 0
    folders = [runner.run_folder(tmp_path, run).path for run in runs]
    found = over_seeds.score_runs(folders, 6, along_training=True)
    assert [(each.seed, each.step) for each in found] == [(seed, step) for seed in (0, 1) for step in (0, 3, 6, 7)]
    for each in (found[2], found[5]):
        run, rows = over_seeds.open_with_rows(folders[each.seed], 6)
        model = trained_model(folders[each.seed], run, each.step)
        right = model(rows.inputs, rows.positions).argmax(-1) == rows.targets
        assert each.accuracy == pytest.approx(float(right.mean()))
        expected = head_scores(look(model, rows).maps, rows)
        np.testing.assert_allclose([s.value for s in each.scores], [s.value for s in expected], atol=1e-5)
    best = over_seeds.score_runs(folders, 6)
    assert [each.step for each in best] == [None, None]
    (run_folder.RunFolder(folders[1]).parameters_at(3)).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=f"run {folders[1].name}: parameters/000000003.msgpack cannot be used"):
        over_seeds.score_runs(folders, 6, along_training=True)
