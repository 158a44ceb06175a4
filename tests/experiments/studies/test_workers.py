"""Workers share what there is, and start again when they die, unless they were warned or refuse."""

import stat
import sys
import textwrap
import threading
import time

import pytest

from experiments import runtime
from experiments.config.files import load_config
from experiments.studies import grid, runner, workers
from experiments.studies.workers import Job, Part, cores_of
from experiments.training import parallel


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7, 11])
@pytest.mark.parametrize("cores", [[0], [0, 1], [3, 5, 8, 13], list(range(17))])
def test_cores_are_shared_out(cores, number):
    shares = [cores_of(Part(place, number), cores) for place in range(number)]
    assert set().union(*shares) == set(cores)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    if number <= len(cores):
        assert sum(sizes) == len(cores), "no core has two workers"


GIB = 2**30


@pytest.mark.parametrize(
    "expected, runs, needed, cores, devices, memory",
    [
        (7, 13, 2**20, 7, 0, 64 * GIB),  # one per core
        (5, 5, 2**20, 7, 0, 64 * GIB),  # per run
        (2, 13, 2**20, 7, 0, 4 * GIB),  # as memory allows
        (1, 13, 2**20, 7, 0, GIB),
        (3, 13, GIB, 7, 0, 53 * GIB),
        (3, 13, GIB, 7, 3, 2 * GIB),  # one per device, whose memory is its own
        (1, 13, 2**20, 17, 1, 64 * GIB),
        (2, 2, 2**20, 17, 3, 64 * GIB),
    ],
)
def test_there_are_as_many_workers_as_fit(expected, runs, needed, cores, devices, memory):
    assert workers.fitting(runs, needed, cores, devices, memory) == expected


def test_a_worker_traces_nothing_that_its_driver_has_traced(command, trained, monkeypatch):
    traced = []
    monkeypatch.setattr(runner.loop, "validate", traced.append)
    monkeypatch.setattr(workers, "begin", lambda part: None)  # it would end with a driver that is not there
    command("--seeds=1", "--workers=1")
    assert len(traced) == 1
    command("--seeds=1", "--worker=0/2:" + "0" * 8)
    assert len(traced) == 1


@pytest.mark.parametrize(
    "flags, workers, expected",
    [
        (["--seeds=3"], None, [3]),  # the cores of this machine
        (["--seeds=2"], None, [2]),
        ([], None, [1]),
        (["--seeds=3"], 1, [1]),
        (["--seeds=2"], 5, [5]),
        (["--seeds=2", "--devices=2"], None, [1]),
    ],
)
def test_a_study_has_workers_by_default(command, monkeypatch, flags, workers, expected):
    monkeypatch.setattr(runtime, "cores", lambda: 3)
    monkeypatch.setattr(parallel.Devices, "first", lambda number: parallel.Devices())
    chosen = []
    monkeypatch.setattr(runner, "run_in_workers", lambda number, *_, **__: chosen.append(number) or 0)
    monkeypatch.setattr(runner, "run_study", lambda *_, **__: chosen.append(1) or 0)
    code, _, error = command(*flags, workers=workers)
    assert (code, error, chosen) == (0, "", expected)


class Board:
    def __init__(self):
        self.events, self.notes = [], []

    def event(self, worker, event):
        self.events.append((worker, event))

    def note(self, worker, text):
        self.notes.append((worker, text))


@pytest.fixture
def crew(tmp_path, monkeypatch):
    """Returns how to let workers follow a script, which knows how many `times` it began before."""

    def share(script, number=1, job=None):
        program = tmp_path / "python"
        head = f"#!{sys.executable}\nimport json, os, pathlib, signal, sys, time\n"
        count = "begun = pathlib.Path(__file__).parent / sys.argv[-1].replace('/', '-')\n"
        count += "times = len(begun.read_text()) if begun.exists() else 0\nbegun.write_text('x' * (times + 1))\n"
        say = "def say(**values): print(json.dumps(values), flush=True)\n"
        program.write_text(head + count + say + textwrap.dedent(script))
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setattr(workers.sys, "executable", str(program))
        board, failed = Board(), []
        board.crew = workers.Crew(["--config=c.py"], board, lambda run, why: failed.append((run, why)), job, "p")
        board.crew.work(workers.parts(number))
        return board, failed

    return share


def test_every_worker_knows_its_part_and_is_heard(crew):
    board, failed = crew("say(event='start', run=sys.argv[-1], label=' '.join(sys.argv[1:]))", number=3)
    assert not failed and not board.notes
    assert sorted((worker, event["run"]) for worker, event in board.events) == [
        (place, f"--worker={place}/3:p") for place in range(3)
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
        say(event='end', outcome='done', run='good')
        say(event='start', run='bad' if times != 1 else 'fair')
        os._exit(3)
    """
    board, failed = crew(script)
    assert failed == [("bad", "its process died 3 times, the last time of exit code 3")]
    assert board.notes == [(0, "died of exit code 3; it starts again.")] * 4


def test_runs_that_are_trained_at_once_fail_together_but_for_those_that_have_ended(crew):
    script = """
    if times < 3:
        for run in ("one", "two", "three"):
            say(event='start', run=run)
        say(event='end', outcome='done', run='two')
        os._exit(3)
    """
    _, failed = crew(script)
    assert [run for run, _ in failed] == ["one", "three"]


def test_a_worker_that_cannot_even_begin_is_given_up(crew):
    board, failed = crew("print('broken installation'); os._exit(7)")
    assert not failed and board.notes[-1] == (0, "died of exit code 7 before it began a run; given up.")
    assert len(board.notes) == workers.DEATHS


def test_a_mistake_is_said_once(crew):
    board, failed = crew("print('error: no such thing', file=sys.stderr); sys.exit(2)")
    assert board.notes == [(0, "error: no such thing")] and not failed
    assert board.crew.refusal == "error: no such thing"


@pytest.mark.parametrize("end", ["sys.exit(138)", "os.kill(os.getpid(), signal.SIGUSR1)"])
def test_a_worker_that_was_warned_does_not_start_again(crew, end):
    board, failed = crew(f"say(event='start', run='r')\n{end}")
    assert len(board.events) == 1 and not (board.notes or failed or board.crew.refusal)


def test_who_does_not_heed_the_warning_is_killed(crew, monkeypatch):
    warnings = []

    def warned_at_once(self, worker, event):
        warnings.append(event)
        threading.Thread(target=self.crew.leave, args=(0.3,)).start()

    monkeypatch.setattr(Board, "event", warned_at_once)
    started = time.monotonic()
    crew("signal.signal(signal.SIGUSR1, signal.SIG_IGN); say(event='start', run='r'); time.sleep(600)")
    assert len(warnings) == 1 and 0.3 <= time.monotonic() - started < 60


def test_a_worker_knows_what_it_is_for():
    assert workers.read_assignment("0/3:p") == workers.Assignment(Part(0, 3), None, "p")


def test_the_workers_of_a_job_know_their_job(crew):
    job = Job(3, 5, 2, "abc")
    board, _ = crew("say(event='start', run=sys.argv[-1])", number=2, job=job)
    said = sorted(event["run"].removeprefix("--worker=") for _, event in board.events)
    assert [workers.read_assignment(text) for text in said] == [(Part(0, 2), job, "abc"), (Part(1, 2), job, "abc")]


@pytest.mark.parametrize(("jobs", "number", "runs"), [(0, 3, 7), (0, 7, 7), (5, 1, 5), (3, 2, 12), (7, 3, 5)])
def test_workers_begin_in_different_places(jobs, number, runs):
    own = [
        workers.Assignment(part, Job(place, jobs, 1, "") if jobs else None)
        for place in range(jobs or 1)
        for part in workers.parts(number)
    ]
    first = [each.first(runs) for each in own]
    assert first == sorted(first) and first[0] == 0 and first[-1] < runs
    assert len(set(first)) == min(len(first), runs), "no two at the same run while there are others"
    if jobs:
        again = workers.Assignment(Part(0, number), Job(jobs, jobs, 1, ""))
        assert again.first(runs) == 0, "a job more than there are runs begins like the first"


def test_the_worker_of_a_job_trains_as_many_runs_as_it_is_told(command, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "begin", lambda part: None)  # it would end this process with its standard input
    given = "--seeds=5", f"--results={tmp_path / 'results'}"
    plan = runner.plan_of(runner.read_runs(grid.expand(load_config(str(tmp_path / "tiny.py")), (), 5)))
    code, _, err = command(*given, f"--worker=0/1@2/5/2/{plan}")
    assert (code, err) == (0, "") and [run.seed for run in trained] == [2, 3]
    code, _, err = command("--seeds=4", f"--worker=0/1@2/5/2/{plan}")
    assert code == 2 and "error: the config is not what it was when this job was submitted" in err
