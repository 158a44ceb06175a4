"""Workers share what there is, die with their driver, and start again when they die themselves."""

import contextlib
import json
import os
import pathlib
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from experiments.studies import run_folder, workers
from experiments.studies.workers import Part, cores_of
from tests.experiments.processes import start, wait_for_checkpoint


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7, 11])
@pytest.mark.parametrize("cores", [[0], [0, 1], [3, 5, 8, 13], list(range(17))])
def test_cores_are_shared_out(cores, number):
    shares = [cores_of(Part(place, number), cores) for place in range(number)]
    assert set().union(*shares) == set(cores)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    if number <= len(cores):
        assert sum(sizes) == len(cores), "no core has two workers"


class Board:
    def __init__(self):
        self.events, self.notes = [], []

    def event(self, worker, event):
        self.events.append((worker, event))

    def note(self, worker, text):
        self.notes.append((worker, text))


@pytest.fixture
def crew(tmp_path, monkeypatch):
    """Returns how to share two runs among workers that follow a script; it gets `arguments` and how often it began."""

    def share(script, number=1):
        program = tmp_path / "python"
        head = f"#!{sys.executable}\nimport json, os, pathlib, signal, sys, time\n"
        count = "begun = pathlib.Path(__file__).parent / sys.argv[-1].replace('/', '-')\n"
        count += "times = len(begun.read_text()) if begun.exists() else 0\nbegun.write_text('x' * (times + 1))\n"
        say = "def say(**values): print(json.dumps(values), flush=True)\n"
        program.write_text(head + count + say + textwrap.dedent(script))
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setattr(workers.sys, "executable", str(program))
        board, failed = Board(), []
        workers.share(number, ["--config=c.py"], board, lambda run, why: failed.append((run, why)))
        return board, failed

    return share


def test_every_worker_knows_its_part_and_is_heard(crew):
    board, failed = crew("say(event='start', run=sys.argv[-1], label=' '.join(sys.argv[1:]))", number=3)
    assert not failed and not board.notes
    assert sorted((worker, event["run"]) for worker, event in board.events) == [
        (place, f"--worker={place}/3") for place in range(3)
    ]
    assert all(event["label"].startswith("-m experiments.run --config=c.py --worker=") for _, event in board.events)


def test_a_worker_that_dies_starts_again(crew):
    board, failed = crew("if times < 4:\n    say(event='start', run=f'run{times}')\n    os.kill(os.getpid(), 9)")
    assert [event["run"] for _, event in board.events] == ["run0", "run1", "run2", "run3"] and not failed
    assert board.notes == [(0, "died of signal 9; it starts again.")] * 4


def test_a_run_that_kills_three_workers_has_failed_and_the_others_go_on(crew):
    script = """
    if times < 4:
        say(event='start', run='good')
        say(event='end', outcome='done')
        say(event='start', run='bad' if times != 1 else 'fair')
        os._exit(3)
    """
    board, failed = crew(script)
    assert failed == [("bad", "its process died 3 times, the last time of exit code 3")]
    assert board.notes == [(0, "died of exit code 3; it starts again.")] * 4


def test_a_worker_that_cannot_even_begin_is_given_up(crew):
    board, failed = crew("print('broken installation'); os._exit(7)")
    assert not failed and board.notes[-1] == (0, "died of exit code 7 before it began a run; given up.")
    assert len(board.notes) == workers.DEATHS


def test_a_mistake_is_said_once(crew):
    board, failed = crew("print('error: no such thing', file=sys.stderr); sys.exit(2)")
    assert board.notes == [(0, "error: no such thing")] and not failed


STUDY = "--vary=train.learning_rate=0.001|0.003|0.01", "--seeds=2", "--config.train.stop_when_solved=false"


def outcomes(folder):
    """Returns what the runs of a study ended in, and checks that nothing else is left."""
    found = {}
    for run in run_folder.open_study(folder / "results" / "tiny"):
        result = run.result()
        found[run.path.name] = (result["parameter_hash"], result["test_accuracy"], [m["step"] for m in run.metrics()])
        left = {path.name for path in run.path.rglob("*") if path.is_file() and path.suffix != ".msgpack"}
        assert left == {"config.json", "manifest.json", "metrics.jsonl", "result.json"}
    return found


def children(process):
    """Returns the ids of the workers of a driver."""
    found = []
    for task in pathlib.Path(f"/proc/{process.pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def alive(pid):
    return pathlib.Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_whatever_is_killed_every_run_ends_once_and_as_if_undisturbed(tmp_path):
    rng, quiet = random.Random(0), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    calm = start(tmp_path / "calm", *STUDY, "--workers=2", **quiet)
    disturbed = tmp_path / "disturbed"
    assert calm.wait(timeout=600) == 0
    kills = 0
    while kills < 12:
        driver = start(disturbed, *STUDY, "--workers=2", **quiet)
        for _ in range(rng.randint(1, 4)):
            time.sleep(rng.uniform(1, 8))
            victims = children(driver)
            if driver.poll() is not None or not victims:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(victims), rng.choice([signal.SIGKILL, signal.SIGTERM]))
                kills += 1
        crew = children(driver)
        driver.kill()
        driver.wait()
        kills += 1
        end = time.monotonic() + 20
        while any(map(alive, crew)):
            assert time.monotonic() < end, "workers end with their driver"
            time.sleep(0.05)
        if outcomes_known(disturbed) == 6:
            break
    last = start(disturbed, *STUDY, "--workers=2", **quiet)
    assert last.wait(timeout=600) == 0
    assert outcomes(disturbed) == outcomes(tmp_path / "calm") and len(outcomes(disturbed)) == 6


def outcomes_known(folder):
    study = folder / "results" / "tiny"
    return sum(run.ended() for run in run_folder.open_study(study)) if study.exists() else 0


@pytest.mark.slow
def test_workers_end_with_their_driver(tmp_path):
    endless = "--config.train.steps=1000000", "--config.train.stop_when_solved=false", "--seeds=2", "--workers=2"
    driver = start(tmp_path, *endless, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_checkpoint(driver, tmp_path)
    crew = children(driver)
    driver.kill()
    driver.wait()
    end = time.monotonic() + 10
    while any(map(alive, crew)):
        assert time.monotonic() < end, "a worker goes on"
        time.sleep(0.05)
    assert len(crew) == 2


@pytest.mark.slow
def test_several_drivers_share_the_runs(tmp_path):
    drivers = [start(tmp_path, *STUDY, "--workers=2", stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [driver.communicate(timeout=600)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0] and len(outcomes(tmp_path)) == 6
    assert sum(text.count("test accuracy") for text in said) == 6, "each run is trained once"
    assert all("Study tiny" in text for text in said)
    manifest = json.loads(next((tmp_path / "results" / "tiny").glob("*/manifest.json")).read_text())
    assert "--worker=" not in manifest["command"] and os.uname().nodename not in json.dumps(manifest)
