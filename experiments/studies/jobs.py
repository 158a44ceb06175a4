"""A study in the jobs of a cluster, through submitit, whose local executor runs jobs as processes of this machine.

Jobs find their runs by leases, as workers do, so this process assigns nothing: it submits jobs as long as there are
runs for them, and waits. If it is killed, the jobs go on, and the same command waits for them and submits what is
missing.

submitit keeps pickles and logs in the folder `.submitit` of the study. Reading a pickle executes it, so nobody else
may write there.

References:
  https://github.com/facebookincubator/submitit
"""

import dataclasses
import os
import shlex
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config.run import Run
from experiments.studies import lease, runner, status, workers
from experiments.studies.batches import is_over
from experiments.studies.job import FRUITLESS, StudyJob
from experiments.studies.training_folder import TrainingFolder

FOLDER = ".submitit"
EXECUTORS = ("slurm", "local")
_LOOKS_EVERY = 5.0  # seconds
_LARGEST_ARRAY = 1000  # Slurm's default limit is 1001
_WARNING = 120.0  # seconds before the end of a job, for workers to reach their next checkpoint
_TIMEOUTS = 1000  # of one job; what ends it is saving nothing
_FORGOTTEN = 24 * 3600  # seconds after which a job unknown to the cluster counts as over


class JobsError(ValueError):
    """Jobs cannot be submitted, or come to nothing; the message is one line."""


Saved = frozenset[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a study is cut into jobs, and what each of them needs."""

    executor: str
    at_once: int = 2  # jobs
    runs_per_job: int = 1
    workers: int = 1  # processes of a job
    minutes: float = 60.0  # after which a job is stopped, and started again
    cpus: int | None = None
    gpus: int = 0
    memory_gb: float | None = None
    partition: str | None = None
    account: str | None = None
    sbatch: tuple[str, ...] = ()  # further options of sbatch, as "name=value" or "name"

    @property
    def warning(self) -> float:
        """Seconds between the cluster's warning and the end of a job."""
        return min(_WARNING, 20.0 * self.minutes)


def run_study(settings: Settings, runs: Sequence[Run], results: str | os.PathLike[str], command: str) -> int:
    """Does what `runner.run_study` does, in jobs; returns how many runs failed.

    Raises:
      JobsError: submitit is missing, or its folder is not this user's alone; jobs end without any progress, or refuse
        the command; one line.
    """
    study = Path(results) / runs[0].config.name
    todo = [item.folder for item in runner.unfinished(runs, results, command)]
    if not todo:
        return 0
    executor = _executor(settings, _own_folder(study / FOLDER))
    for folder in todo:
        folder.forget_failure()  # from here on, a failed run is one that has failed now
    with runner.planned(runs, results, todo):
        pool = _Pool(settings, executor, study, shlex.split(command)[3:], runner.plan_of(runs), len(todo))
        with status.make_view(study) as view:
            left = todo
            while left := [folder for folder in left if not is_over(folder)]:
                free = sum(lease.is_free(folder.path) for folder in left)
                for line in pool.look(_saved(left), free == len(left)):
                    view.note(line)
                if number := pool.submit(len(left), free):
                    view.note(f"jobs submitted: {number}; logs in {study / FOLDER}")
                view.show()
                time.sleep(_LOOKS_EVERY)
    return sum(folder.failed() for folder in todo)


def _saved(left: Sequence[TrainingFolder]) -> Saved:
    """Returns a value that changes once any of these unfinished runs has been saved or has ended."""
    return frozenset(str(path) for folder in left for path in (folder.path, *folder.checkpoints()))


@dataclasses.dataclass
class _Submitted:
    """A job, its share of this machine, and what was saved when it was submitted."""

    job: Any
    slot: int
    saved: Saved = frozenset()


class _Pool:
    """The jobs that this process knows: its own, and those of the cluster that an earlier process submitted."""

    def __init__(
        self, settings: Settings, executor: Any, study: Path, arguments: Sequence[str], plan: str, runs: int
    ) -> None:
        self._settings, self._executor, self._study, self._arguments = settings, executor, study, arguments
        self._plan, self._number = plan, max(-(-runs // settings.runs_per_job), 1)
        self._place, self._fruitless, self._saved, self._last = 0, 0, Saved(), ""
        found = [_known(executor, name) for name in _open_jobs(executor.folder)]
        self._alive = [_Submitted(job, slot) for slot, job in enumerate(found) if job is not None and not job.done()]

    def look(self, saved: Saved, all_free: bool) -> list[str]:
        """Returns a line for each job that did not end as it should; raises JobsError if that is hopeless."""
        self._saved, lines = saved, []
        for each in [each for each in self._alive if each.job.done()]:
            self._alive.remove(each)
            fine, said = _outcome(each.job)
            if fine and said:
                raise JobsError(f"job {each.job.job_id} could not begin: {said.removeprefix('error: ')}")
            self._fruitless = self._fruitless + 1 if each.saved == saved else 0
            if not fine:
                self._last = f"; the last one: {said}"
                lines.append(f"job {each.job.job_id} ended early: {said}")
        if self._fruitless >= FRUITLESS and all_free and not self._alive:
            where = self._executor.folder
            raise JobsError(f"{self._fruitless} jobs came to an end and saved nothing{self._last}; see {where}.")
        return lines

    def submit(self, left: int, free: int) -> int:
        """Submits the jobs that are missing for `left` runs, of which `free` are free; returns how many."""
        per_job, alive = self._settings.runs_per_job, len(self._alive)
        missing = max(min(-(-left // per_job) - alive, -(-free // per_job)), 0)
        if self._settings.executor == "slurm":  # an array enforces its own limit, so there is one at a time
            groups = [[0] * min(missing, _LARGEST_ARRAY)] if missing and not alive else []
        else:
            taken = {each.slot for each in self._alive}
            groups = [[slot] for slot in range(self._settings.at_once) if slot not in taken][:missing]
        for slots in groups:
            self._submit(slots)
        return sum(map(len, groups))

    def _submit(self, slots: Sequence[int]) -> None:
        if gpus := self._settings.gpus if self._settings.executor == "local" else 0:
            visible = range(slots[0] * gpus, (slots[0] + 1) * gpus)
            self._executor.update_parameters(gpus_per_node=gpus, visible_gpus=tuple(visible))
        try:
            jobs = self._executor.submit_array([self._job(slot) for slot in slots])
        except (RuntimeError, OSError) as error:
            raise JobsError(f"the cluster refuses a job: {error}") from error
        self._alive += [_Submitted(job, slot, self._saved) for job, slot in zip(jobs, slots, strict=True)]

    def _job(self, slot: int) -> StudyJob:
        """Returns the next job; jobs of this machine each have their share of it."""
        each, own = self._settings, self._settings.executor == "local"
        first, number = (slot * each.workers, each.at_once * each.workers) if own else (0, each.workers)
        parts = [workers.Part(first + worker, number) for worker in range(each.workers)]
        job = workers.Job(self._place, self._number, -(-each.runs_per_job // each.workers), self._plan)
        self._place += 1
        return StudyJob(self._arguments, str(self._study), parts, job, 0.75 * each.warning)


def _open_jobs(folder: Path) -> list[str]:
    """Returns the ids of the jobs that have not reported how they ended, from the names of submitit's files."""
    done = {path.name.removesuffix("_0_result.pkl") for path in folder.glob("*_0_result.pkl")}
    ids = {path.name.removesuffix("_submitted.pkl") for path in folder.glob("*_submitted.pkl")}
    return sorted(ids - done)


def _known(executor: Any, name: str) -> Any | None:
    """Returns a job of an earlier process, None where the cluster has long forgotten it."""
    job = executor.job_class(executor.folder, name)
    old = time.time() - job.paths.submitted_pickle.stat().st_mtime > _FORGOTTEN
    return None if old and job.state.upper() == "UNKNOWN" else job


def _outcome(job: Any) -> tuple[bool, str]:
    """Returns whether a job ended as it should, and what it said."""
    _own_folder(job.paths.folder)
    if not job.paths.result_pickle.exists():
        return False, f"it was {job.state.lower()}"
    error = job.exception()
    return (True, job.result()) if error is None else (False, _last_line(str(error)))


def _last_line(text: str) -> str:
    """Returns the last line of a traceback that submitit wraps in lines of its own."""
    lines = [line.strip() for line in text.partition("You can check full logs")[0].splitlines()]
    return next((line for line in reversed(lines) if line.strip("-")), "unknown error")


def _own_folder(path: Path) -> Path:
    """Makes a folder that is this user's alone, and returns it; raises JobsError if it is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise JobsError(
            f"{path} holds pickles, which are executed where they are read: it must be a folder of yours with mode "
            f"0700; its mode is {stat.S_IMODE(found.st_mode):04o} and its owner {found.st_uid}. Remove it."
        )
    return path


def _executor(settings: Settings, folder: Path) -> Any:
    """Returns submitit's executor, with what each job needs."""
    os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # the warning that workers handle, too
    try:
        import submitit
    except ImportError as error:
        raise JobsError("--executor needs submitit; install it by: pip install 'submitit>=1.5'") from error
    if settings.executor == "local":
        local = submitit.LocalExecutor(folder, max_num_timeout=_TIMEOUTS)
        local.update_parameters(timeout_min=settings.minutes, signal_delay_s=int(settings.warning))
        return local
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=_TIMEOUTS)
    except RuntimeError as error:
        raise JobsError("--executor=slurm finds no `srun` here; start the study where jobs are submitted.") from error
    slurm.update_parameters(**_slurm_parameters(settings, folder))
    return slurm


def _slurm_parameters(settings: Settings, folder: Path) -> dict[str, Any]:
    quoted = shlex.quote(str(folder.absolute()))
    further = dict(option.partition("=")[::2] for option in settings.sbatch)
    found = {
        "job_name": folder.parent.name,
        "time": max(round(settings.minutes), 1),
        "signal_delay_s": int(settings.warning),
        "array_parallelism": settings.at_once,
        "cpus_per_task": settings.cpus,
        "gpus_per_node": settings.gpus or None,
        "mem": None if settings.memory_gb is None else f"{round(1024 * settings.memory_gb)}MB",
        "partition": settings.partition,
        "account": settings.account,
        "setup": [f"test -O {quoted} -a ! -L {quoted} || exit 1  # pickles are read there"],
        "additional_parameters": {"requeue": True} | {name: value or True for name, value in further.items()},
    }
    return {name: value for name, value in found.items() if value is not None}
