"""A study in jobs: submitit's local executor for real, and Slurm with stand-ins for its commands."""

import os
import pathlib
import pickle
import subprocess
import sys
import types

import pytest

from experiments.studies import jobs, workers
from experiments.studies.job import FRUITLESS, StudyJob
from experiments.studies.jobs import JobsError, Settings
from experiments.studies.training_folder import TrainingFolder
from tests.experiments import fake_slurm
from tests.experiments.processes import start, wait_for_checkpoint
from tests.experiments.studies.test_survival import QUIET, calm, outcomes
from tests.experiments.tiny import tiny_config


class FakeJob:
    """A job that is over when a test says so."""

    def __init__(self, folder, job_id, state="RUNNING"):
        self.job_id, self.state, self.paths = job_id, state, types.SimpleNamespace(folder=folder)
        self.paths.submitted_pickle, self.paths.result_pickle = (folder / f"{job_id}_{n}.pkl" for n in ("s", "r"))
        self.said, self.error = "", None

    def end(self, said="", error=None):
        self.state, self.said, self.error = "COMPLETED", said, error
        self.paths.result_pickle.touch()

    def done(self):
        return self.state not in ("RUNNING", "PENDING", "UNKNOWN")

    def exception(self):
        return self.error

    def result(self):
        return self.said


class FakeExecutor:
    """Keeps what it is asked to submit."""

    job_class = FakeJob

    def __init__(self, folder):
        self.folder, self.arrays, self.jobs = folder, [], []

    def submit_array(self, calls):
        self.arrays.append(calls)
        self.jobs += (made := [FakeJob(self.folder, str(len(self.jobs) + index)) for index in range(len(calls))])
        return made


@pytest.fixture
def pool(tmp_path):
    """Returns how to make a pool over a fake executor, for so many runs."""

    def make(executor, runs, **settings):
        folder = jobs._own_folder(tmp_path / "study" / jobs.FOLDER)
        fake = FakeExecutor(folder)
        asked = Settings(executor=executor, **settings)
        return fake, jobs._Pool(asked, fake, tmp_path / "study", ["--x"], "plan", runs)

    return make


def parts_of(call):
    return [tuple(part) for part in call._parts]


def test_jobs_of_this_machine_are_so_many_at_once_and_divide_it(pool):
    fake, made = pool("local", 7, at_once=3, workers=2)
    assert made.submit(7, 7) == 3 and made.submit(7, 4) == 0
    assert [parts_of(calls[0]) for calls in fake.arrays] == [[(0, 6), (1, 6)], [(2, 6), (3, 6)], [(4, 6), (5, 6)]]
    fake.jobs[1].end()
    assert made.look(frozenset("a"), False) == []
    assert made.submit(6, 4) == 1 and parts_of(fake.arrays[3][0]) == [(2, 6), (3, 6)], "the share that is free"
    places = [calls[0]._job for calls in fake.arrays]
    assert places == [workers.Job(place, 7, 1, "plan") for place in range(4)]


def test_of_a_cluster_there_is_one_array_at_a_time(pool, monkeypatch):
    monkeypatch.setattr(jobs, "_LARGEST_ARRAY", 5)
    fake, made = pool("slurm", 13, runs_per_job=2, workers=2)
    assert made.submit(13, 13) == 5 and made.submit(13, 3) == 0
    assert {call._job.most for call in fake.arrays[0]} == {1} and parts_of(fake.arrays[0][0]) == [(0, 2), (1, 2)]
    for job in fake.jobs[:-1]:
        job.end()
    assert made.look(frozenset("a"), False) == [] and made.submit(5, 3) == 0
    fake.jobs[-1].end()
    made.look(frozenset("b"), False)
    assert made.submit(3, 3) == 2 and [len(calls) for calls in fake.arrays] == [5, 2]


def test_nothing_is_submitted_for_runs_that_others_work_on(pool):
    _, made = pool("local", 5, at_once=4)
    assert made.submit(5, 0) == 0 and made.submit(5, 2) == 2 and made.submit(5, 0) == 0


def test_jobs_of_an_earlier_command_count_as_long_as_the_cluster_knows_them(pool, tmp_path, monkeypatch):
    folder = jobs._own_folder(tmp_path / "study" / jobs.FOLDER)
    states = {"7_0": "RUNNING", "7_1": "PENDING", "7_2": "COMPLETED", "7_3": "RUNNING", "5": "UNKNOWN", "6": "UNKNOWN"}
    for name in states:
        (folder / f"{name}_submitted.pkl").touch()
        (folder / f"{name}_s.pkl").touch()
    os.utime(folder / "5_s.pkl", (0, 0))
    (folder / "7_3_0_result.pkl").touch()  # it has said how it ended
    known = staticmethod(lambda folder, name: FakeJob(folder, name, states[name]))
    monkeypatch.setattr(FakeExecutor, "job_class", known)
    _, made = pool("slurm", 6)
    assert sorted(each.job.job_id for each in made._alive) == ["6", "7_0", "7_1"]
    assert made.submit(6, 4) == 0


def test_a_refusal_is_not_tried_again(pool):
    fake, made = pool("local", 3, at_once=1)
    made.submit(3, 3)
    fake.jobs[0].end("error: the config is not what it was")
    with pytest.raises(JobsError, match="job 0 could not begin: the config is not what it was"):
        made.look(frozenset(), True)


TRACE = "Job (task=0) failed:\n---\nTraceback\nKeyError: 'x'\n---\nYou can check full logs with 'job.stderr(0)'"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda job: job.end(error=RuntimeError(TRACE)), "KeyError: 'x'"),
        (lambda job: setattr(job, "state", "OUT_OF_MEMORY"), "it was out_of_memory"),
        (lambda job: job.end(), None),
    ],
)
def test_jobs_that_save_nothing_are_repeated_a_few_times_only(pool, end, said):
    fake, made = pool("local", 1, at_once=1)
    saved = frozenset(["a"])
    for number in range(FRUITLESS + 1):  # the first makes progress
        assert made.look(saved, True) == [] and made.submit(1, 1) == 1
        end(fake.jobs[-1])
        if number == 0:
            saved = frozenset(["a", "b"])
        if number < FRUITLESS:
            lines = made.look(saved, True)
            assert lines == ([f"job {number} ended early: {said}"] if said else [])
    with pytest.raises(JobsError, match=f"{FRUITLESS} jobs came to an end and saved nothing.*{said or ''}.*submitit"):
        made.look(saved, True)


def test_fruitless_jobs_do_not_matter_while_others_work(pool):
    fake, made = pool("local", 2, at_once=5)
    for _ in range(2 * FRUITLESS):
        made.submit(2, 1)
        fake.jobs[-1].end()
        assert made.look(frozenset(), False) == []


def evil(path):
    """A pickle that makes a file when it is read."""

    class Evil:
        def __reduce__(self):
            return pathlib.Path.touch, (path,)

    return pickle.dumps(Evil())


@pytest.mark.parametrize("wrong", ["mode", "link", "file", "owner"])
def test_no_pickle_is_read_where_others_may_write(tmp_path, monkeypatch, wrong):
    folder, elsewhere = tmp_path / "study" / jobs.FOLDER, tmp_path / "elsewhere"
    folder.parent.mkdir()
    elsewhere.mkdir(mode=0o700)
    if wrong == "link":
        folder.symlink_to(elsewhere)
    elif wrong == "file":
        folder.touch(mode=0o600)
    else:
        folder.mkdir(mode=0o755 if wrong == "mode" else 0o700)
    if wrong == "owner":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    where = elsewhere if wrong == "link" else folder if wrong != "file" else elsewhere
    (where / "1_0_result.pkl").write_bytes(evil(tmp_path / "executed"))
    job = jobs._executor(Settings(executor="local"), tmp_path / "other").job_class(folder, "1")
    with pytest.raises(JobsError, match="must be a folder of yours with mode 0700"):
        jobs._outcome(job)
    with pytest.raises(JobsError, match="must be a folder of yours with mode 0700"):
        jobs._own_folder(folder)
    assert not (tmp_path / "executed").exists()


def test_only_its_owner_reads_the_folder_of_jobs(tmp_path):
    before = os.umask(0)
    try:
        assert jobs._own_folder(tmp_path / "new").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def a_job(fruitless=0, study="."):
    return StudyJob(["--x"], str(study), workers.parts(1), workers.Job(0, 1, 1, "p"), 1.0, fruitless)


@pytest.mark.parametrize(("saved", "before", "after"), [(True, 2, 0), (False, 0, 1), (False, FRUITLESS - 1, None)])
def test_a_job_asks_to_be_repeated_unless_it_saves_nothing_again_and_again(saved, before, after):
    job = a_job(before)
    job._crew = types.SimpleNamespace(leave=lambda seconds: None)
    job._log = types.SimpleNamespace(saved=saved)
    again = job.checkpoint()
    assert (again and again.function._fruitless) == after
    if again:
        assert pickle.loads(pickle.dumps(again.function))._job == job._job, "what runs is not pickled"


def test_a_run_whose_process_dies_again_and_again_has_failed_in_a_job_too(tmp_path):
    folder = TrainingFolder(tmp_path / "abc")
    a_job(study=tmp_path)._fail("abc", "it died")
    assert not folder.failed(), "nobody knows what it was to train"
    folder.create(tiny_config().nested(), {"environment": {}})
    a_job(study=tmp_path)._fail("abc", "it died")
    assert folder.failed() and folder.result()["error"] == "it died" and folder.result()["version"]
    assert not list(folder.path.glob(".*"))


def test_what_slurm_is_asked_for(tmp_path, monkeypatch):
    srun = tmp_path / "srun"
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    needs = {"cpus": 4, "gpus": 2, "memory_gb": 1.5, "partition": "short", "account": "mine"}
    settings = Settings(executor="slurm", at_once=7, minutes=90, sbatch=("qos=high", "exclusive"), **needs)
    folder = jobs._own_folder(tmp_path / "a study" / jobs.FOLDER)
    executor = jobs._executor(settings, folder)
    executor.parameters["map_count"] = 20
    text = executor._make_submission_file_text("python job", "id")
    asked = {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}
    assert asked >= {
        *("array=0-19%7", "time=90", "signal=USR1@120", "requeue", "open-mode=append", "job-name='a study'"),
        *("cpus-per-task=4", "gpus-per-node=2", "mem=1536MB", "partition=short", "account=mine"),
        *("qos=high", "exclusive"),
    }
    check = next(line for line in text.splitlines() if line.startswith("test -O"))
    assert subprocess.run(["sh", "-c", check]).returncode == 0 and text.index(check) < text.index("python job")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert subprocess.run(["sh", "-c", check]).returncode == 1


def test_without_srun_and_without_submitit_there_is_one_line(command, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = command("--executor=slurm")
    assert code == 2 and err == (
        "error: --executor=slurm finds no `srun` here; start the study where jobs are submitted.\n"
    )
    monkeypatch.setitem(sys.modules, "submitit", None)
    code, _, err = command("--executor=local")
    assert code == 2 and err == "error: --executor needs submitit; install it by: pip install 'submitit>=1.5'\n"
    assert not list((tmp_path / "results" / "tiny").glob(".plan*"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--jobs=3"], "--jobs needs --executor=slurm or --executor=local."),
        (["--partition=x"], "--partition needs --executor=slurm."),
        (["--executor=local", "--job_memory=3"], "--job_memory needs --executor=slurm."),
        (["--executor=pbs"], "value should be one of <slurm|local>"),
        (["--executor=local", "--jobs=0"], "flag --jobs=0"),
    ],
)
def test_flags_that_mean_nothing_are_refused(command, flags, said):
    code, _, err = command(*flags)
    assert code == 2 and said in err and len(err.splitlines()) == 1


# Holds a worker at its first checkpoint until it is warned, so that a job ends when its time is up, however fast it is.
SLOW = """
def be_slow():
    import pathlib, time
    from experiments import interrupts
    from experiments.studies.training_folder import TrainingFolder

    save = TrainingFolder.save_checkpoint

    def save_and_wait(self, step, state, rows):
        held = pathlib.Path(__file__).parent / "held"
        first = not held.exists()
        held.touch()
        save(self, step, state, rows)
        while first and not interrupts._warned.is_set():
            time.sleep(0.05)

    TrainingFolder.save_checkpoint = save_and_wait

be_slow()
"""


def logs(folder):
    """Returns what all jobs of a study have written."""
    return "".join(path.read_text() for path in (folder / "results" / "tiny" / ".submitit").glob("*_log.*"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Returns what three runs end in, and their compiled programs."""
    return calm(tmp_path_factory.mktemp("study"), "--seeds=3", "--workers=2")


def ended_as(undisturbed, folder, runs):
    """Returns whether the runs of a study of jobs ended as others did, with nothing left but the folder of jobs."""
    (folder / "results" / "tiny" / ".submitit").rename(folder / "submitit")
    found = outcomes(folder)
    return len(found) == runs and all(undisturbed[name] == outcome for name, outcome in found.items())


@pytest.mark.slow
def test_jobs_of_slurm_are_warned_requeued_and_outlive_their_driver(tmp_path, monkeypatch, undisturbed):
    fake_slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    expected, programs = undisturbed
    folder, flags = tmp_path / "jobs", ("--seeds=3", "--executor=slurm", "--jobs=2")
    first = start(folder, *flags, hook=SLOW, programs=programs, **QUIET)
    wait_for_checkpoint(first, folder)
    first.kill()
    first.wait()
    again = start(folder, *flags, hook=SLOW, programs=programs, stdout=subprocess.PIPE, text=True)
    (tmp_path / "bin" / "warn").touch()
    out, _ = again.communicate(timeout=580)
    assert again.returncode == 0, logs(folder)
    assert "Study tiny" in out and "jobs submitted" not in out, "those that were submitted before are counted"
    assert len(list((tmp_path / "bin").glob("array-*"))) == 1 and "Requeued job 1_" in logs(folder)
    states = {path.name: path.read_text() for path in (tmp_path / "bin").glob("state-*")}
    assert states == {f"state-1_{index}": "COMPLETED" for index in range(3)}
    assert ended_as(expected, folder, 3)


@pytest.mark.slow
def test_local_jobs_go_on_when_their_time_is_up_and_when_their_driver_is_killed(tmp_path, undisturbed):
    expected, programs = undisturbed
    folder, flags = tmp_path / "jobs", ("--seeds=2", "--executor=local", "--runs_per_job=2", "--job_minutes=0.5")
    first = start(folder, *flags, hook=SLOW, programs=programs, **QUIET)
    wait_for_checkpoint(first, folder)
    first.kill()
    first.wait()
    again = start(folder, *flags, hook=SLOW, programs=programs, stdout=subprocess.PIPE, text=True)
    out, _ = again.communicate(timeout=580)
    assert again.returncode == 0, logs(folder)
    assert "Study tiny" in out and "Requeued job" in logs(folder)
    assert (folder / "results" / "tiny" / ".submitit").stat().st_mode & 0o777 == 0o700
    assert ended_as(expected, folder, 2)
