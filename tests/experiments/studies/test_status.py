"""How a study stands is read from its folders, whoever works on it, and nothing is written."""

import json
import os
import sys
import time

import pytest

from experiments import cli, status
from experiments.studies import lease, plans
from experiments.studies.plans import PlannedRun
from experiments.studies.status import RunStatus, StudyStatus, make_view, read_status, status_text
from experiments.studies.training_folder import TrainingFolder
from tests.experiments.fake_study import config_of, write_run
from tests.experiments.tiny import RESULT

HERE = "here"


def unfinished(study, name, step, steps=100):
    """Makes the folder of a run that has been trained up to a step."""
    folder = TrainingFolder(study / name)
    folder.create(config_of("conv+full", 7, steps=steps), {"environment": {}})
    if step:
        folder.log({"step": step, "step_ms": 20.0})
    return folder


def files(folder):
    """Returns every file with its time and its content."""
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


@pytest.fixture
def study(tmp_path):
    """A study with two runs of every kind, one of them held by this process."""
    folder = tmp_path / "mine"
    for seed, state in enumerate(("done", "done", "diverged", "failed")):
        write_run(folder, config_of("conv+full", seed), status=state)
    unfinished(folder, "interrupted", 30)
    plan = {"planned": PlannedRun("linear  seed=0", "c1", 50), "interrupted": PlannedRun("full  seed=7", "c2", 100)}
    with plans.written(folder, plan), unfinished(folder, "working", 40).locked():
        time.sleep(0.1)
        yield folder


def test_runs_are_counted_and_every_process_has_a_line(study):
    before = files(study)
    head, line = status_text(read_status(study)).splitlines()
    assert head.startswith("runs: 2 done, 1 diverged, 1 failed, 1 running, 2 waiting; about ")
    assert line.split("  ")[0] == f"process {os.getpid()} here"
    assert "conv+full  seed=7  step 40/100  last beat 0 s ago" in line
    after = files(study)
    assert after.keys() == before.keys(), "nothing is written"
    assert {path for path in after if after[path] != before[path]} <= set(study.glob("*/.beat-*"))


def test_a_plan_knows_the_runs_that_wait_and_what_they_are_called(study):
    waiting = {run.label: (run.step, run.steps, run.cell) for run in read_status(study).runs if run.state == "waiting"}
    assert waiting == {"linear  seed=0": (0, 50, "c1"), "full  seed=7": (30, 100, "c2")}


@pytest.mark.parametrize(
    ("held", "age", "state", "said"),
    [
        ({"machine": HERE, "pid": os.getpid()}, 20, "running", "here  conv+full  seed=7  step 40/100  last beat 20 s"),
        ({"machine": HERE, "pid": 2**22 + 1}, 5, "waiting", "it has ended"),
        ({"machine": "f00dcafe", "pid": 17}, 20, "running", "process 17 on f00d  "),
        ({"machine": "f00dcafe", "pid": 17}, 200, "waiting", "last beat 200 s ago, silent"),
        ({}, 20, "running", "process ? on ?  "),
    ],
)
def test_who_holds_a_run_and_since_when_it_is_silent(tmp_path, held, age, state, said):
    folder = unfinished(tmp_path, "r", 40)
    machine = {"machine": lease._machine()} if held.get("machine") == HERE else {}
    content = {"token": "t", **held, **machine}
    (folder.path / ".lease").write_text(json.dumps(content if held else []))
    (folder.path / ".beat-t").write_text("9")
    for name in (".lease", ".beat-t"):
        os.utime(folder.path / name, (time.time() - age,) * 2)
    found = read_status(tmp_path)
    assert [run.state for run in found.runs] == [state] and said in status_text(found).splitlines()[1]


def run_of(state, cell="a", step=0, steps=100, step_seconds=None, seconds=None):
    return RunStatus(state, cell, "", step, steps, step_seconds, seconds, None)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([run_of("running")], None),  # nothing is measured
        ([run_of("waiting"), run_of("done", seconds=10.0)], None),  # nobody works
        ([run_of("running", step=50, step_seconds=0.2)], 10.0),
        ([run_of("running", step=50), run_of("done", seconds=10.0)], 5.0),
        ([run_of("running", step=50), run_of("waiting"), run_of("done", seconds=10.0)], 15.0),
        ([run_of("running"), run_of("running"), run_of("waiting"), run_of("done", seconds=10.0)], 15.0),
        ([run_of("running", "b"), run_of("done", "a", seconds=10.0), run_of("done", "b", seconds=30.0)], 30.0),
        ([run_of("running", "c"), run_of("done", "a", seconds=10.0), run_of("done", "b", seconds=30.0)], 20.0),
        ([run_of("running", step=50, step_seconds=0.2), run_of("waiting", "b")], 20.0),  # half of 20 s, and as much
    ],
)
def test_the_time_left_follows_from_what_was_measured(runs, expected):
    assert StudyStatus(tuple(runs)).seconds_left() == expected


def test_what_a_run_took_is_read_off_its_files(tmp_path):
    path = write_run(tmp_path, config_of("conv+full"))
    now = time.time()
    os.utime(path / "manifest.json", (now - 70, now - 70))
    os.utime(path / "result.json", (now - 30, now - 30))
    (run,) = read_status(tmp_path).runs
    assert run.seconds == pytest.approx(40.0, abs=0.01)


def test_plans_add_up_stay_where_runs_are_left_and_go_with_the_last(tmp_path):
    one, other = {"r1": PlannedRun("one", "c", 3)}, {"r2": PlannedRun("two", "c", 5)}
    with plans.written(tmp_path, one):
        with pytest.raises(KeyboardInterrupt), plans.written(tmp_path, other):
            assert plans.read(tmp_path) == one | other
            raise KeyboardInterrupt
        with plans.written(tmp_path, one):
            pass  # the same command, which came later and ended sooner
        assert plans.read(tmp_path) == other
    (left,) = tmp_path.iterdir()
    left.write_text(left.read_text().replace("two", "ten"))
    assert plans.read(tmp_path) == {}, "a damaged plan is left out"


def test_a_command_keeps_its_plan_while_it_trains(command, trained, tmp_path):
    seen, diverged = [], {"status": "diverged", "diverged_at": 2}
    study = tmp_path / "results" / "tiny"
    trained.act = lambda run: seen.append(status_text(read_status(study)).splitlines()) or RESULT | diverged
    code, *_ = command("--seeds=2")
    assert code == 0 and [lines[0].partition(";")[0] for lines in seen] == [
        "runs: 0 done, 0 diverged, 0 failed, 1 running, 1 waiting",
        "runs: 0 done, 1 diverged, 0 failed, 1 running, 0 waiting",
    ]
    assert "conv+full  seed=0  step 0/6" in seen[0][1] and "conv+full  seed=1  step 0/6" in seen[1][1]
    assert not list(study.glob(".*"))


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["status", *map(str, arguments)])
    return cli.execute(status.run, status.FLAGS), *capsys.readouterr()


def test_the_command(study, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, study)
    assert (code, err) == (0, "") and len(out.splitlines()) == 2 and out.startswith("runs: 2 done")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the folder of a study"),
        (("nowhere",), "there is no folder 'nowhere'"),
        ((".",), "there is no run in '.', and no plan of one."),
        ((".", "--watch=0"), "--watch"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(monkeypatch, capsys, *arguments)
    assert code == 2 and said in err and len(err.splitlines()) == 1


def test_watching_ends_with_the_study(study, monkeypatch, capsys):
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        for name in ("interrupted", "working", "planned"):
            folder = TrainingFolder(study / name)
            folder.path.mkdir(exist_ok=True)
            folder.write("result.json", {"status": "done", "steps": 1})

    monkeypatch.setattr(status.time, "sleep", sleep)
    code, out, _ = call(monkeypatch, capsys, study, "--watch=5")
    assert code == 0 and looks == [5.0]
    assert out.splitlines()[-1] == "runs: 5 done, 1 diverged, 1 failed, 0 running, 0 waiting"


def test_a_terminal_shows_the_last_state_only(study, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with make_view(study) as view:
        view.show()
        view.note("jobs submitted: 2")
        view.show()
    assert "jobs submitted: 2" in capsys.readouterr().out
