"""Whatever is killed, stopped or warned, every run ends once, with the numbers of a study that nobody disturbed."""

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import time
from collections import Counter

import pytest

from experiments.studies import run_folder
from tests.experiments.processes import start, wait_for_checkpoint

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
STUDY = "--vary=train.learning_rate=0.001|0.003|0.01", "--seeds=2", "--config.train.stop_when_solved=false"
LONG = "--config.train.steps=600", "--config.train.stop_when_solved=false"

# Ends the process in the middle of what it does, the first times that it comes there, and notes every result.
DEADLY = """
def be_deadly():
    import os, pathlib, signal
    from experiments.studies import whole_files, workers
    from experiments.training import outcome

    here = pathlib.Path(__file__).parent
    workers.DEATHS = 1000
    measure, fsync, replace = outcome.measure, os.fsync, os.replace

    def note(what):
        with open(here / "notes", "a") as file:
            file.write(what + "\\n")

    def die(where):
        deaths = (here / "notes").read_text().splitlines() if (here / "notes").exists() else []
        if deaths.count(where) < 3:
            note(where)
            os.kill(os.getpid(), signal.SIGKILL)

    def kind(path):
        return "checkpoint" if ".msgpack" in str(path) else "result" if "result.json" in str(path) else None

    def deadly_measure(*arguments):
        die("in evaluation")
        return measure(*arguments)

    def deadly_fsync(handle):
        if what := kind(os.readlink(f"/proc/self/fd/{handle}")):
            die(f"before {what}")
        fsync(handle)

    def deadly_replace(source, target):
        replace(source, target)
        if kind(target) == "result":
            note("ended " + pathlib.Path(target).parent.name)
        if what := kind(target):
            die(f"after {what}")

    outcome.measure, os.fsync, os.replace = deadly_measure, deadly_fsync, deadly_replace

be_deadly()
"""

# Leases that expire within seconds, and a note of who writes a checkpoint.
HASTY = """
def be_hasty():
    import os, pathlib
    from experiments.studies import lease, training_folder

    lease.BEATS_EVERY, lease.EXPIRES_AFTER = 0.2, 4.0
    if "elsewhere" in os.environ.get("TEST_MACHINE", ""):
        lease._machine = lambda: "elsewhere"
    write = training_folder.write_whole

    def noted(path, content):
        with open(pathlib.Path(__file__).parent / "writers", "a") as file:  # first: it may be killed while it writes
            file.write(f"{os.getpid()}\\n")
        write(path, content)

    training_folder.write_whole = noted

be_hasty()
"""


def outcomes(folder):
    """Returns what the runs of a study ended in, and checks that nothing else is left."""
    found, study = {}, folder / "results" / "tiny"
    for run in run_folder.open_study(study):
        result = run.result()
        found[run.path.name] = (result["parameter_hash"], result["test_accuracy"], [m["step"] for m in run.metrics()])
        left = {path.name for path in run.path.rglob("*") if path.is_file() and path.suffix != ".msgpack"}
        assert left == {"config.json", "manifest.json", "metrics.jsonl", "result.json"}
    assert not [path for path in study.iterdir() if path.name.startswith(".")], "neither plans nor half-written files"
    return found


def children(process):
    """Returns the ids of the workers of a driver."""
    found = []
    for task in pathlib.Path(f"/proc/{process.pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def wait_until_gone(processes, seconds):
    """Waits until processes, by their ids, have ended."""
    end = time.monotonic() + seconds
    while any(pathlib.Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < end, "workers end with their driver"
        time.sleep(0.05)


def disturb(driver, rng):
    """Kills workers at random moments, then the driver; returns how many processes."""
    kills = 0
    for _ in range(rng.randint(1, 3)):
        time.sleep(rng.uniform(0.5, 4.5))
        victims = children(driver)
        if driver.poll() is not None or not victims:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(victims), rng.choice([signal.SIGKILL, signal.SIGTERM]))
            kills += 1
    crew = children(driver)
    driver.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1]))
    driver.wait(timeout=120)
    wait_until_gone(crew, 20)
    return kills + 1


def calm(folder, *flags):
    """Returns what runs that nobody disturbs end in, and their compiled programs."""
    programs = folder / "programs"
    assert start(folder / "calm", *flags, programs=programs, compiles=True, **QUIET).wait(timeout=600) == 0
    return outcomes(folder / "calm"), programs


@pytest.fixture(scope="module")
def calm_study(tmp_path_factory):
    return calm(tmp_path_factory.mktemp("study"), *STUDY, "--workers=2")


@pytest.fixture(scope="module")
def calm_run(tmp_path_factory):
    return calm(tmp_path_factory.mktemp("run"), *LONG)


@pytest.mark.slow
def test_thirty_kills_change_nothing(tmp_path, calm_study):
    """At random moments, and in the middle of evaluations, checkpoints and results, before and after their rename."""
    rng, disturbed, (undisturbed, programs) = random.Random(0), tmp_path / "disturbed", calm_study

    def start_deadly():
        return start(disturbed, *STUDY, "--workers=2", hook=DEADLY, programs=programs, **QUIET)

    kills = 0
    while kills < 15:
        kills += disturb(start_deadly(), rng)
    last = start_deadly()
    assert last.wait(timeout=600) == 0
    notes = Counter((disturbed / "notes").read_text().splitlines())
    deaths = {what: number for what, number in notes.items() if not what.startswith("ended")}
    places = {f"{when} {what}" for when in ("before", "after") for what in ("checkpoint", "result")}
    assert deaths == dict.fromkeys({"in evaluation", *places}, 3) and kills + sum(deaths.values()) >= 30
    found = outcomes(disturbed)
    assert found == undisturbed and len(found) == 6
    assert {what: n for what, n in notes.items() if what.startswith("ended")} == {f"ended {run}": 1 for run in found}


@pytest.mark.slow
def test_several_drivers_share_the_runs(tmp_path, calm_study):
    streams = {"programs": calm_study[1], "stdout": subprocess.PIPE, "text": True}
    drivers = [start(tmp_path, *STUDY, "--workers=2", **streams) for _ in range(3)]
    said = [driver.communicate(timeout=600)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0, 0] and len(outcomes(tmp_path)) == 6
    assert sum(text.count("test accuracy") for text in said) == 6, "each run is trained once"
    assert all("Study tiny" in text for text in said)
    manifest = json.loads(next((tmp_path / "results" / "tiny").glob("*/manifest.json")).read_text())
    assert "--worker=" not in manifest["command"] and os.uname().nodename not in json.dumps(manifest)


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["stopped", "vanished"])
def test_the_run_of_a_silent_process_goes_on_elsewhere_with_one_writer_at_a_time(tmp_path, monkeypatch, calm_run, fate):
    """One that is stopped for longer than its lease lasts, and goes on; one whose machine is not seen again."""
    undisturbed, programs = calm_run
    monkeypatch.setenv("TEST_MACHINE", "elsewhere" if fate == "vanished" else "here")
    first = start(tmp_path / "shared", *LONG, hook=HASTY, programs=programs, **QUIET)
    wait_for_checkpoint(first, tmp_path / "shared")
    first.send_signal(signal.SIGSTOP if fate == "stopped" else signal.SIGKILL)
    monkeypatch.setenv("TEST_MACHINE", "here")
    second = start(tmp_path / "shared", *LONG, hook=HASTY, programs=programs, **QUIET)
    wait_for_checkpoint(second, tmp_path / "shared")
    assert second.poll() is None, "it is in the middle of the run when the other goes on"
    first.send_signal(signal.SIGCONT)
    codes = [process.wait(timeout=600) for process in (second, first)]
    assert codes == [0, 0 if fate == "stopped" else -signal.SIGKILL]
    writers = [int(line) for line in (tmp_path / "shared" / "writers").read_text().split()]
    assert set(writers) == {first.pid, second.pid}
    assert writers == sorted(writers, key=[first.pid, second.pid].index), "the first writes nothing more"
    assert outcomes(tmp_path / "shared") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_warning_saves_and_the_same_command_goes_on(tmp_path, calm_run, workers):
    flags = *LONG, "--seeds=2", f"--workers={workers}"
    process = start(
        tmp_path, *flags, programs=calm_run[1], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for_checkpoint(process, tmp_path)
    crew = children(process)
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=60)[1].splitlines()[-1] == "warned; run the same command again to continue."
    assert process.returncode == 138
    wait_until_gone(crew, 10)
    for run in run_folder.open_study(tmp_path / "results" / "tiny"):
        steps = [row["step"] for row in run.metrics()]
        assert run.result() is None and not [*run.path.glob(".*")], "the lease is given back"
        assert not steps or run.checkpoints()[-1].stem == f"{steps[-1]:09d}"
