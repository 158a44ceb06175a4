"""Runs of a study that are trained as one: each remains a run of its own for whoever comes later."""

import re

import pytest

from experiments import interrupts
from experiments.config.files import load_config
from experiments.config.run import Run
from experiments.studies import attempt, batches, grid, run_folder, runner, search, workers
from experiments.studies.results import read_study
from tests.experiments.processes import hold_elsewhere, start
from tests.experiments.tiny import RESULT, tiny_run
from tests.experiments.training.test_loop import timeless

VMAP = ("--vmap_seeds", "--seeds=3")


def folders_of(tmp_path):
    """Returns the run folders by their seeds."""
    found = {folder.read("config.json")["seed"]: folder for folder in run_folder.open_study(tmp_path / "results/tiny")}
    return dict(sorted(found.items()))


def without_files(result):
    """Returns a result without what a clock decides."""
    return {name: value for name, value in timeless(result).items() if name != "metrics_sha256"}


@pytest.fixture
def trained_together(monkeypatch):
    """Replaces training at once; returns the lanes of each call, by seed. A test may set `act`, for one run."""

    class Calls(list):
        act = staticmethod(lambda run: RESULT)

    calls = Calls()

    def fake(lanes, ended, saved):
        calls.append([lane and lane.run.seed for lane in lanes])
        event = {"step": 3, "steps": 6, "train_loss": 1.0, "validation_accuracy": 0.5, "validation_loss": 1.0}
        for lane in filter(None, lanes):
            lane.folder.replace_metrics([event])
            lane.report(event | {"tokens_per_second": 5000.0, "seconds_left": 1.0})
        for place, lane in enumerate(lanes):
            if lane is not None:
                ended(place, calls.act(lane.run))
                assert not (lane.folder.path / ".lease").exists(), "what is over is held no longer"

    monkeypatch.setattr(attempt, "train_together", fake)
    return calls


def test_runs_that_share_a_program_are_cut_into_batches_in_order():
    full, linear = ({"model__attention": f"conv+{name}"} for name in ("full", "linear"))
    rate = full | {"train__learning_rate": 0.01}
    runs = [tiny_run(seed=seed, **values) for seed in (0, 1) for values in (full, linear, rate)]
    assert batches.cut(runs, False) == [[run] for run in runs]
    assert batches.cut(runs, True) == [[runs[0], runs[2], runs[3], runs[5]], [runs[1], runs[4]]]
    longer = tiny_run(train__steps=8, **full)
    assert batches.cut([runs[0], longer], True) == [[runs[0]], [longer]], "the schedule is compiled in"


@pytest.mark.slow
def test_a_study_trained_at_once_is_a_study_like_any_other(command, tmp_path, monkeypatch):
    """Interrupted after a chunk, it goes on; its runs have the bits of runs that were not interrupted."""
    leave, chunks = interrupts.leave_if_warned, iter([True])

    def warned():
        if next(chunks, False):
            raise interrupts.WarnedError("warned; run the same command again to continue.")
        leave()

    monkeypatch.setattr(interrupts, "leave_if_warned", warned)
    code, out, _ = command(*VMAP)
    assert code == interrupts.WARNED and "step 3/6" in out and "step 6/6" not in out
    begun = folders_of(tmp_path)
    assert len(begun) == 3 and not any(folder.ended() or list(folder.path.glob(".*")) for folder in begun.values())
    assert [len(folder.checkpoints()) for folder in begun.values()] == [1, 1, 1]
    code, out, _ = command(*VMAP)
    assert code == 0 and "step 3/6" not in out and "Study tiny" in out and "Runs were trained 3 at once" in out
    said = re.findall(r"seed=(\d)  (step 6/6|not solved)", out)
    assert said == [(seed, what) for seed in "012" for what in ("step 6/6", "not solved")]
    interrupted = {seed: folder.result() for seed, folder in folders_of(tmp_path).items()}
    for folder in folders_of(tmp_path).values():
        assert [row["step"] for row in folder.metrics()] == [3, 6] and not list(folder.path.glob(".*"))
        manifest, result = folder.read("manifest.json"), folder.result()
        assert manifest["environment"] == result["environment"] and result["environment"]["vmap_seeds"] == 3
        assert "--vmap_seeds" in manifest["command"] and "seed" in result["config"]
        folder.check_metrics(result)
    (row,) = read_study(tmp_path / "results" / "tiny").rows
    assert row.seeds == (0, 1, 2) and str(row.setups[0]).endswith(" by --vmap_seeds")
    code, out, _ = command(*VMAP)
    assert code == 0 and "3 of 3 runs have ended before and are not repeated" in out
    command("--vmap_seeds", "--seeds=3", f"--results={tmp_path / 'again'}")
    for folder in run_folder.open_study(tmp_path / "again" / "tiny"):
        result = folder.result()
        assert without_files(result) == without_files(interrupted[result["config"]["seed"]])


def test_a_seed_that_fails_is_recorded_alone_and_tried_again_in_its_lane(command, trained_together, tmp_path):
    trained_together.act = lambda run: ZeroDivisionError("planted\nbug") if run.seed == 1 else RESULT
    code, out, _ = command(*VMAP)
    assert code == 1 and out.count("failed: ZeroDivisionError: planted bug") == 1
    folders = folders_of(tmp_path)
    assert [folder.ended() for folder in folders.values()] == [True, False, True]
    assert folders[1].result()["environment"]["vmap_seeds"] == 3 and (folders[1].path / "error.txt").exists()
    trained_together.act = lambda run: RESULT
    code, _, _ = command(*VMAP)
    assert code == 0 and trained_together == [[0, 1, 2], [None, 1, None]] and folders[1].ended()


def test_what_fails_for_all_is_said_of_each(command, monkeypatch, tmp_path):
    def broken(*arguments):
        raise MemoryError("too large")

    monkeypatch.setattr(attempt, "train_together", broken)
    code, out, _ = command(*VMAP)
    assert code == 1 and out.count("failed: MemoryError: too large") == 3
    assert all(folder.failed() for folder in folders_of(tmp_path).values())


def test_a_disk_that_fills_up_ends_the_command_and_no_run(command, trained_together, tmp_path):
    error = attempt.StorageError(28, "No space left on device", str(tmp_path))
    trained_together.act = lambda run: error if run.seed == 1 else RESULT
    code, _, err = command(*VMAP)
    assert code == 2 and err.count("\n") == 1 and "No space left" in err
    assert [folder.result() is None for folder in folders_of(tmp_path).values()] == [False, True, True]
    assert not list((tmp_path / "results").rglob(".lease*"))


@pytest.mark.parametrize("status", ["done", "failed", "died"])
def test_a_seed_in_the_hands_of_another_process_is_waited_for(command, trained_together, tmp_path, monkeypatch, status):
    """It goes on here, in its lane, where that process has gone; the others are trained at once."""
    monkeypatch.setattr(runner, "_LOOKS_EVERY", 0.02)
    folder = runner.run_folder(tmp_path / "results", Run.read(load_config(str(tmp_path / "tiny.py"))))
    end = hold_elsewhere(folder, status)
    trained_together.act = lambda run: end.set() or RESULT
    code, out, _ = command(*VMAP)
    assert code == (status == "failed") and "Waiting for the run that other processes are working on." in out
    assert trained_together == [[None, 1, 2], *([[0, None, None]] if status == "died" else [])]


def test_one_seed_alone_is_trained_alone(command, trained, trained_together, tmp_path):
    code, _, _ = command("--vmap_seeds", "--vary=model.attention=full|conv+full")
    assert code == 0 and len(trained) == 2 and not trained_together
    assert all("vmap_seeds" not in folder.result()["environment"] for folder in folders_of(tmp_path).values())


def test_runs_go_on_alone_without_the_flag(command, trained, trained_together, tmp_path):
    trained_together.act = lambda run: ZeroDivisionError("planted") if run.seed == 1 else RESULT
    command(*VMAP)
    code, _, _ = command("--seeds=3")
    assert code == 0 and [run.seed for run in trained] == [1]
    assert ["vmap_seeds" in f.result()["environment"] for f in folders_of(tmp_path).values()] == [True, False, True]


def test_the_workers_of_a_job_train_batches_and_count_runs(trained_together, tmp_path, command):
    command("--dry_run")  # makes the config
    config = load_config(str(tmp_path / "tiny.py"))
    runs = runner.read_runs(grid.expand(config, ["model.attention=full|conv+full|conv+linear"], 2))
    for most, calls in ((1, 1), (3, 2)):
        job = workers.Job(1, 3, most, runner.plan_of(runs))
        own = workers.Assignment(workers.Part(0, 1), job)
        results = tmp_path / str(most)
        runner.work(own, runs, results, "python -m experiments.run", lanes=search.lanes(runs))
        assert trained_together == [[0, 1]] * calls
        first = [folder.read("config.json")["model"]["attention"] for folder in run_folder.open_study(results / "tiny")]
        assert "full" not in first, "a job begins at its own place"
        trained_together.clear()


def test_stages_of_a_study_share_their_programs(command, trained_together):
    """Three rates choose, then one has two seeds: as many lanes, so that a cache of programs has it already."""
    flags = ("--vary=train.learning_rate=0.001|0.01|0.1", "--select=train.learning_rate")
    code, _, err = command("--vmap_seeds", "--seeds=2", *flags, "--config.study.search_seeds=1")
    assert (code, err) == (0, "")
    assert trained_together == [[10_000] * 3, [0, 1, None]]


def test_no_program_has_more_empty_lanes_than_half_of_the_others(command, trained_together):
    """Of four rates one has two seeds: what would be saved of compiling is less than what is computed for nothing."""
    flags = ("--vary=train.learning_rate=0.001|0.01|0.1|0.2", "--select=train.learning_rate")
    assert command("--vmap_seeds", "--seeds=2", *flags, "--config.study.search_seeds=1")[0] == 0
    assert trained_together == [[10_000] * 4, [0, 1]]


def test_a_program_has_the_lanes_that_it_needs_itself():
    two = [tiny_run(seed=seed, model__attention="conv+full") for seed in (0, 1)]
    three = [tiny_run(seed=seed, model__attention="conv+linear") for seed in (0, 1, 2)]
    lanes = search.lanes([*two, *three])
    assert sorted(lanes.values()) == [2, 3]
    assert [batches.lanes_of(group, lanes) for group in (two, three, two[:1])] == [2, 3, 1]


@pytest.mark.parametrize("flags", [["--devices=4"], ["--distributed"]])
def test_devices_that_share_a_batch_are_refused(command, trained_together, flags):
    code, out, err = command("--vmap_seeds", "--seeds=2", *flags)
    assert (code, out) == (2, "") and err.count("\n") == 1 and "--vmap_seeds" in err and flags[0] in err
    assert not trained_together


def test_memory_is_needed_as_often_as_there_are_lanes(command, trained_together, monkeypatch):
    from experiments import runtime
    from experiments.analysis import memory

    monkeypatch.setattr(memory, "least_bytes", lambda run, devices=1: 1000)
    monkeypatch.setattr(runtime, "memory_bytes", lambda: 2999)
    assert command("--vmap_seeds", "--seeds=2")[0] == 0
    code, _, err = command(*VMAP)
    assert code == 2 and err.count("\n") == 1 and "for 3 runs at once" in err
    flags = ("--vary=train.learning_rate=0.001|0.01", "--select=train.learning_rate", "--config.study.search_seeds=1")
    assert command("--vmap_seeds", "--seeds=2", *flags)[0] == 0, "stages are not trained at once"


@pytest.mark.slow
def test_pretrainings_are_trained_at_once_and_taken_over(command, tmp_path):
    pretrained = "--config.pretrain.task=mqar:length=16,num_pairs=1,vocab_size=19"
    code, out, err = command("--vmap_seeds", "--seeds=2", pretrained)
    assert code == 0, (out, err)
    results = [folder.result() for folder in run_folder.open_study(tmp_path / "results" / "tiny")]
    assert [result["environment"]["vmap_seeds"] for result in results] == [2] * 4
    assert sum("pretrain_flops" in result["compute"] for result in results) == 2


@pytest.mark.slow
def test_workers_share_batches(tmp_path):
    """Each of two workers trains the seeds of a cell, and one that was killed goes on to the same bits."""
    flags = ["--vmap_seeds", "--seeds=3", "--vary=model.attention=full|conv+full", "--config.train.steps=12"]
    process = start(tmp_path, *flags, "--workers=2")
    assert process.wait(300) == 0
    killer = """
def be_deadly():
    import os, pathlib, signal
    from experiments.training.course import Course

    take, note = Course.take, pathlib.Path(__file__).parent / "died"

    def deadly(self, steps):
        take(self, steps)
        if self.run.seed == 1 and self.step == 6 and not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Course.take = deadly

be_deadly()
"""
    process = start(tmp_path / "killed", *flags, "--workers=2", hook=killer)
    assert process.wait(300) == 0 and (tmp_path / "killed" / "died").exists()
    results = {}
    for place in (tmp_path, tmp_path / "killed"):
        found = [folder.result() for folder in run_folder.open_study(place / "results" / "tiny")]
        results[place] = {result["run_id"]: without_files(result) for result in found}
        assert len(found) == 6 and all(result["environment"]["vmap_seeds"] == 3 for result in found)
    assert results[tmp_path] == results[tmp_path / "killed"]
