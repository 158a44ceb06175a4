"""A run begins where its pretraining was best, costs what both cost, is named by both, and ends with the same bits."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.analysis import compute
from experiments.config.run import Run
from experiments.studies import attempt, pretraining, runner, search, trained
from experiments.studies.results import read_study
from experiments.studies.run_folder import RunFolder
from experiments.studies.speeds import read_speeds
from experiments.tasks.recall.mqar import MQAR
from experiments.training import loop, step
from tests.experiments.tiny import RESULT, tiny_config, tiny_run

TASK, BEFORE = "mqar:length=14,num_pairs=3,vocab_size=22", "mqar:length=12,num_pairs=2,vocab_size=22"
FIELDS = dict(
    name="tiny",
    pretrain__task=BEFORE,
    pretrain__steps=8,
    pretrain__learning_rate=0.02,
    train__keep_checkpoints="every",
    train__stop_when_solved=False,
)


def train(results: Path, *runs: Run) -> None:
    def one_stage(stage):
        return runner.run_study(stage, results, "python -m experiments.run")

    assert search.train(runs, results, one_stage) == 0


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The folder of all results, the run, and the folders of its pretraining and of itself."""
    results, run = tmp_path_factory.mktemp("results"), tiny_run(**FIELDS)
    train(results, run)
    return results, run, *(runner.run_folder(results, each) for each in (run.pretraining, run))


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pretraining_is_a_run_like_any_other(study):
    results, run, before, _ = study
    alone = tiny_run(name="tiny", task=BEFORE, train__steps=8, train__learning_rate=0.02, train__stop_when_solved=False)
    assert run.pretraining.digests == alone.digests and before.result()["steps"] == 8
    assert loop.train(alone)["parameter_hash"] == before.result()["parameter_hash"]
    assert {row.config["task"]: row.ended for row in read_study(results / "tiny").rows} == {TASK: 1, BEFORE: 1}


def test_a_run_begins_in_the_best_parameters_of_its_pretraining(study):
    _, run, before, after = study
    like = step.abstract_state(run).params
    scores = {0: (-1.0, 0.0)} | {
        row["step"]: (row["validation_accuracy"], -row["validation_loss"]) for row in before.metrics()
    }
    best = max(scores, key=scores.__getitem__)
    assert_same(after.load_parameters(0, like), before.load_parameters(best, like))
    moved = after.load_parameters(3, like)
    assert any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (moved, before.load_parameters(best, like))), strict=True)
    )


def test_the_best_is_taken_where_the_last_is_another(tmp_path):
    run = tiny_run(**FIELDS)
    first, last = run.pretraining, step.initial_state(run)
    best = jax.tree.map(lambda leaf: leaf + 1, last.params)
    folder = runner.run_folder(tmp_path, first)
    folder.create(first.config.nested(), {})
    folder.save_checkpoint(8, (last, best), [])
    folder.finish(attempt.identify(first) | RESULT)
    taken = pretraining.source(run, runner.run_folder(tmp_path, run))
    assert_same(taken.params, best)
    assert taken.compute == RESULT["compute"]


def test_training_costs_what_both_cost(study):
    results, run, before, after = study
    own = compute.count(run, 7)
    first, both = (folder.result()["compute"] for folder in (before, after))
    for name in ("train_flops_executed", "train_flops_ideal"):
        assert both[name] == own[name] + first[name] > own[name] > 0
    assert both["pretrain_flops"] == first["train_flops_executed"] and "pretrain_flops" not in first
    (speed,) = (s for s in read_speeds(results, "tiny", {}).known if s.task == TASK)
    assert speed.flops_per_second == pytest.approx(own["train_flops_executed"] / (7 * both["step_ms"] / 1e3))


def test_a_run_that_is_interrupted_ends_with_the_same_bits(study, tmp_path):
    _, run, before, after = study
    shutil.copytree(before.path, tmp_path / "tiny" / before.path.name)
    folder = runner.run_folder(tmp_path, run)

    def interrupt(event):
        raise KeyboardInterrupt

    with folder.locked(), pytest.raises(KeyboardInterrupt):
        loop.train(run, folder, interrupt, pretraining.source(run, folder))
    assert folder.checkpoints() and folder.result() is None
    train(tmp_path, run)
    for name in ("parameter_hash", "test_accuracy", "steps"):
        assert folder.result()[name] == after.result()[name]
    like = step.abstract_state(run).params
    assert_same(*(trained.trained_params(each.path, run) for each in (folder, after)))
    assert_same(folder.load_parameters(0, like), after.load_parameters(0, like))


def test_what_decides_the_pretraining_names_the_run(monkeypatch):
    plain = tiny_run()
    changes = [{}, dict(pretrain__steps=5), dict(pretrain__learning_rate=0.3), dict(pretrain__task=f"{BEFORE},power=1")]
    runs = [plain, *(tiny_run(**FIELDS | change) for change in changes)]
    assert len({run.digests.run for run in runs}) == len({run.digests.cell for run in runs}) == len(runs)
    spelled = tiny_run(**FIELDS | dict(pretrain__task="mqar: vocab_size=22, num_pairs=2,length=12"))
    assert spelled.digests == runs[1].digests
    other = tiny_run(**FIELDS | dict(seed=1))
    assert other.digests.cell == runs[1].digests.cell and other.pretraining.seed == 1
    assert step.compiled_part(runs[1]) == step.compiled_part(tiny_run(train__stop_when_solved=False))
    own = runs[1].digests
    monkeypatch.setattr(MQAR, "version", MQAR.version + 1)
    assert tiny_run(**FIELDS).digests != own


def test_a_version_of_the_task_of_the_pretraining_alone_names_the_run(monkeypatch):
    fields = FIELDS | dict(task="needle:length=14,vocab_size=22,distractors=2")
    before = tiny_run(**fields).digests
    monkeypatch.setattr(MQAR, "version", MQAR.version + 1)
    assert tiny_run(**fields).digests != before


def test_pretraining_is_a_stage_before_each_stage(tmp_path):
    runs = [
        Run.read(dataclasses.replace(tiny_config(**FIELDS, train__learning_rate=rate, seed=seed), study=study))
        for study in (dataclasses.replace(tiny_config().study, select=("train.learning_rate",), search_seeds=1),)
        for rate, seed in itertools.product((0.1, 0.2), (0, 1, 10_000))
    ]
    assert len(search.expected(runs, tmp_path)) == (1 + 2) + (2 + 2)
    stages = []
    for stage in search.stages(runs, tmp_path):
        stages.append([(run.config.task, run.seed, run.train.learning_rate) for run in stage])
        for run in stage:
            folder, best = runner.run_folder(tmp_path, run), float(run.train.learning_rate == 0.2)
            result = RESULT | {"validation_accuracy": best, "validation_loss": 1.0}
            folder.create(run.config.nested(), {})
            folder.finish(attempt.identify(run) | result)
    search_seed, reported = [(BEFORE, 10_000, 0.02)], [(BEFORE, 0, 0.02), (BEFORE, 1, 0.02)]
    tried = [(TASK, 10_000, 0.1), (TASK, 10_000, 0.2)]
    assert stages == [search_seed, tried, reported, [(TASK, 0, 0.2), (TASK, 1, 0.2)]]


REFUSED = {
    "steps of no pretraining": (dict(pretrain__steps=3), "pretrain.steps=3 needs pretrain.task"),
    "the same task": (dict(pretrain__task=TASK), "pretrain.task must differ from task"),
    "an unknown task": (dict(pretrain__task="mqarr"), "pretrain.task=mqarr: "),
    "a schedule longer than its steps": (dict(pretrain__task=BEFORE, pretrain__steps=1), "pretrain.task=mqar"),
    "another vocabulary": (dict(pretrain__task="mqar:length=12,num_pairs=2,vocab_size=24"), "must train the model of"),
    "another longest row": (
        dict(pretrain__task=BEFORE, model__position="learned"),
        "with learned positions its longest row",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_pretraining_that_cannot_be_is_refused_in_one_line(case):
    fields, message = REFUSED[case]
    with pytest.raises(ValueError) as caught:
        loop.validate(tiny_run(**fields))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_without_its_pretraining_is_refused(study, tmp_path):
    _, run, before, _ = study
    with pytest.raises(ValueError, match=f"begins in the parameters of run {before.path.name}"):
        loop.train(run)
    with pytest.raises(ValueError, match=f"its pretraining, run {before.path.name} of the same study, has not ended"):
        pretraining.source(run, RunFolder(tmp_path / "tiny" / "0"))


def test_a_pretraining_that_is_a_row_anyway_counts_once(tmp_path):
    run = tiny_run(**FIELDS)
    every = search.expected([run, run.pretraining], tmp_path)
    assert [each.digests.run for each in every] == [run.pretraining.digests.run, run.digests.run]


def test_no_part_of_a_study_alone_has_pretraining(command, trained):
    code, _, err = command(
        f"--config.pretrain.task={BEFORE}", "--config.task=mqar:length=12,vocab_size=22", "--shard=0/2"
    )
    assert code == 2 and "--shard cuts no study with pretrain.task" in err and not trained
