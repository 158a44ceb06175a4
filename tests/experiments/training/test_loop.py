import math

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.model.transformer import make_model
from experiments.studies.training_folder import TrainingFolder
from experiments.training.evaluation import Evaluation
from experiments.training.loop import throughput as measure_throughput
from experiments.training.loop import train, validate
from experiments.training.outcome import parameter_hash
from tests.experiments.tiny import tiny_run

TIMINGS = ("step_ms", "tokens_per_second", "seconds")
UNSOLVED = dict(train__stop_when_solved=False)


class Killed(Exception):
    pass


def timeless(result):
    """Returns a result without what a clock decides."""
    kept = {name: value for name, value in result["compute"].items() if name not in TIMINGS}
    return result | {"compute": kept}


def kill_at(step):
    def report(event):
        if event["step"] == step:
            raise Killed

    return report


@pytest.fixture
def folder(tmp_path):
    folder = TrainingFolder(tmp_path / "run")
    folder.create({}, {})
    return folder


@pytest.fixture(scope="module")
def uninterrupted():
    events = []
    return train(tiny_run(), report=events.append), events


def test_a_result_has_every_field(uninterrupted):
    result, _ = uninterrupted
    assert result["status"] == "done" and result["steps"] == 7 and result["steps_to_solve"] is None
    assert 0 <= result["test_accuracy"] <= 1 and 0 <= result["validation_accuracy"] <= 1
    assert result["floor"] == max(tiny_run().task.floors().values()) and result["ceiling"] == 1.0
    assert math.isfinite(result["test_loss"])
    assert result["slices"]["num_pairs"]["count"] == [19 * 3]
    assert "diverged_at" not in result
    assert set(result["compute"]) == {
        *("params", "control_params", "train_flops_executed", "train_flops_ideal", "forward_flops_per_token"),
        *("cache_bytes", "peak_bytes", "step_ms", "tokens_per_second", "seconds"),
    }


def test_every_chunk_reports_and_the_last_may_be_shorter(uninterrupted):
    _, events = uninterrupted
    assert [event["step"] for event in events] == [3, 6, 7]
    assert all(event["steps"] == 7 and event["tokens_per_second"] > 0 for event in events)
    assert events[-1]["seconds_left"] == 0 < events[0]["seconds_left"]
    assert events[0]["train_loss"] == pytest.approx(math.log(22), rel=0.3)


@pytest.mark.parametrize("steps", [3, 6, 7])
def test_a_killed_run_ends_like_an_uninterrupted_one(folder, uninterrupted, steps):
    with pytest.raises(Killed):
        train(tiny_run(), folder, kill_at(steps))
    resumed_at = []
    result = train(tiny_run(), folder, lambda event: resumed_at.append(event["step"]))
    assert resumed_at == [step for step in (3, 6, 7) if step > steps]
    assert timeless(result) == timeless(uninterrupted[0])
    assert [row["step"] for row in folder.metrics()] == [3, 6, 7]


EVERY = dict(train__keep_checkpoints="every")


def parameter_files(folder):
    return {step: folder.parameters_at(step).read_bytes() for step in folder.kept_steps()}


def test_every_evaluation_keeps_its_parameters_and_changes_no_number(folder, uninterrupted):
    result = train(tiny_run(**EVERY), folder)
    assert timeless(result) == timeless(uninterrupted[0])
    assert folder.kept_steps() == [0, 3, 6, 7]
    _, like = make_model(tiny_run())
    hashes = [parameter_hash(folder.load_parameters(step, like)) for step in folder.kept_steps()]
    assert hashes[0] == parameter_hash(like), "the first ones are the initial ones"
    assert hashes[-1] == result["parameter_hash"] and len(set(hashes)) == 4
    assert hashes[1] == train(tiny_run(train__steps=7, train__solved_at=0.0))["parameter_hash"], "as it stops at step 3"


@pytest.mark.parametrize("steps, lost", [(3, 0), (6, 0), (6, 1), (6, 2)])
def test_a_killed_run_keeps_the_same_parameters(folder, tmp_path, steps, lost):
    """Whether or not some of its newest checkpoints are damaged, too."""
    whole = TrainingFolder(tmp_path / "whole")
    whole.create({}, {})
    train(tiny_run(**EVERY), whole)
    with pytest.raises(Killed):
        train(tiny_run(**EVERY), folder, kill_at(steps))
    for path in folder.checkpoints()[::-1][:lost]:
        path.write_bytes(b"damaged")
    train(tiny_run(**EVERY), folder)
    assert parameter_files(folder) == parameter_files(whole)


def test_no_checkpoint_stands_behind_parameters_that_are_missing(folder, monkeypatch):
    def killed(*arguments):
        raise Killed

    monkeypatch.setattr(folder, "save_checkpoint", killed)
    with pytest.raises(Killed):
        train(tiny_run(**EVERY), folder)
    assert folder.kept_steps() == [0, 3] and not folder.checkpoints()


@pytest.mark.parametrize("lost", ["", '{"step": 6, "validation_accuracy": 8.06}\n'])
def test_what_becomes_of_metrics_meanwhile_moves_nothing(folder, uninterrupted, lost):
    with pytest.raises(Killed):
        train(tiny_run(), folder, kill_at(6))
    (folder.path / "metrics.jsonl").write_text(lost)
    assert timeless(train(tiny_run(), folder)) == timeless(uninterrupted[0])
    assert [row["step"] for row in folder.metrics()] == [3, 6, 7]


def test_a_run_without_a_checkpoint_begins_again_and_says_so(folder, uninterrupted, capsys):
    with pytest.raises(Killed):
        train(tiny_run(), folder, kill_at(6))
    for path in folder.checkpoints():
        path.write_bytes(b"damaged")
    assert timeless(train(tiny_run(), folder)) == timeless(uninterrupted[0])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and said[-1].endswith("no checkpoint is left; the run begins again.")
    assert all("its SHA-256 does not match" in line for line in said[:2])


def test_where_chunks_end_moves_no_bit(uninterrupted):
    assert train(tiny_run(train__eval_every=5))["parameter_hash"] == uninterrupted[0]["parameter_hash"]


def test_every_step_has_its_own_rows():
    """At a vanishing rate the losses of training are those of the initial model on the rows of each step."""
    run = tiny_run()
    graph, params = make_model(run)

    @jax.jit
    def loss(step):
        rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), step)
        batch = run.task.sample(rng, 5)
        logits = jax.nn.log_softmax(nnx.merge(graph, params)(batch.inputs, batch.positions))
        return -jnp.take_along_axis(logits, batch.targets[:, :, None], axis=2).mean()

    losses = []
    train(tiny_run(train__learning_rate=1e-30, train__eval_every=1), None, lambda e: losses.append(e["train_loss"]))
    assert losses == pytest.approx([float(loss(step)) for step in range(7)], rel=1e-5)
    assert len(set(losses)) == 7


def test_seeds_differ(uninterrupted):
    assert train(tiny_run(seed=1))["parameter_hash"] != uninterrupted[0]["parameter_hash"]


def test_a_solved_run_stops_and_stays_stopped(folder):
    config = tiny_run(train__solved_at=0.0)
    result = train(config, folder)
    assert (result["steps"], result["steps_to_solve"], result["status"]) == (3, 3, "done")
    assert timeless(train(config, folder)) == timeless(result), "resuming an ended run trains no further"
    assert train(tiny_run(train__solved_at=0.0, **UNSOLVED))["steps"] == 7


@pytest.mark.parametrize(
    ("scores", "best"), [([(0.2, 3), (0.5, 2), (0.4, 1)], 1), ([(0.5, 2), (0.5, 3), (0.5, 1)], 2), ([(0.5, 1)] * 3, 0)]
)
def test_the_best_parameters_by_validation_are_tested(folder, monkeypatch, scores, best):
    """Scores are (accuracy, loss) after each chunk; of equal accuracies the lower loss wins, of equals the first."""
    evaluated = []

    def measure(run, program, params, split):
        evaluated.append(parameter_hash(params))
        accuracy, loss = (scores + [(0.1, 9.0)] * 2)[len(evaluated) - 1]
        return Evaluation(accuracy, loss, {}, accuracy)

    monkeypatch.setattr("experiments.training.outcome.measure", measure)
    train(tiny_run(**EVERY), folder)
    *chunks, validated, tested = evaluated
    assert validated == tested == chunks[best]
    _, like = make_model(tiny_run())
    kept = [parameter_hash(folder.load_parameters(step, like)) for step in folder.kept_steps()]
    assert len(set(chunks)) == 3 and kept[1:] == chunks, "kept are those of the step, not the best"


def test_infinity_ends_a_run_as_diverged(folder):
    config = tiny_run(train__learning_rate=1e30, train__eval_every=7)
    result = train(config, folder)
    assert result["status"] == "diverged"
    assert result["diverged_at"] == result["steps"] == 3, "step 1 has rate 0, step 2 makes the parameters huge"
    assert math.isfinite(result["test_loss"]) and 0 <= result["test_accuracy"] <= 1
    assert timeless(train(config, folder)) == timeless(result)


def test_a_run_that_diverges_after_its_target_is_unsolved(folder):
    early = dict(train__eval_every=1, train__solved_at=1e-9, train__stop_when_solved=False)
    result = train(tiny_run(train__learning_rate=1e30, **early), folder)
    assert result["status"] == "diverged" and folder.metrics()[0]["validation_accuracy"] > 1e-9
    assert result["steps_to_solve"] is None


BAD_MODELS = {
    "an unknown variant": (dict(model__attention="ful"), "'ful'", "full"),
    "an unknown field": (dict(model__attention="sliding_window:windw_size=2"), "windw_size", "window_size"),
    "an empty window": (dict(model__attention="sliding_window:window_size=0"), "window_size", "0"),
    "an empty layer": (dict(model__attention="conv+"), "'conv+'", "empty layer"),
    "an unknown field of conv": (dict(model__attention="conv:kernel=2+full"), "'kernel'", "kernel_size"),
    "half a coordinate pair": (dict(model__position="rope", model__num_heads=4), "even", "3"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_validate_names_what_is_wrong_with_a_model(case):
    values, *expected = BAD_MODELS[case]
    with pytest.raises(ValueError) as caught:
        validate(tiny_run(**values))
    assert "\n" not in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


def test_throughput_is_tokens_over_seconds(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("experiments.training.loop.time.perf_counter", lambda: float(next(clock)))
    assert measure_throughput(tiny_run(), steps=20) == 4 * 5 * 14, "each chunk of 4 steps lasts a second"


@pytest.mark.slow
@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("attention", ["conv+full", "full+full"])
def test_full_attention_solves_recall(attention):
    values = {"task": "mqar:length=64,num_pairs=4,vocab_size=128", "model.attention": attention, "train.eval_every": 50}
    if "conv" not in attention:
        values |= {"model.position": "rope", "model.mlp_dim": 64}
    result = train(Run.read(Config.from_fields(values)))
    assert result["test_accuracy"] >= 0.99
    assert result["steps_to_solve"] <= 500
