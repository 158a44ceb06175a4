"""Several processes that share the runs of a study, each with its part of the machine, and what to do when one dies.

A worker is the same command again with `--worker=i/n`. It takes whatever run is free, as any process does (`lease.py`),
and reports it to its driver in lines of JSON. Its standard input is a pipe that the driver holds open: if the driver
dies, the pipe ends and so does the worker.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import interrupts
from experiments.studies.progress import Board

_BYTES = 3 << 29  # of a process that has JAX, its programs and temporaries of the compiler: 1.5 GiB
_TIMES = 16  # times the least that a run needs (`memory.least_bytes`): what attention, logits and gradients take

DEATHS = 3  # of its process, after which a run has failed; also of a worker that has begun no run

_REFUSED = 2
_WARNED = (interrupts.WARNED, -signal.SIGUSR1)  # it has saved what it had; or it had not even begun
_FINE = (0, 1, _REFUSED, *_WARNED)  # exit codes of a worker that is not to start again


class Part(NamedTuple):
    """Which worker this is, from 0, of how many that share a machine."""

    place: int
    number: int


def parts(number: int) -> list[Part]:
    """Returns the parts of this many workers."""
    return [Part(place, number) for place in range(number)]


class Job(NamedTuple):
    """What the workers of one job of a cluster have in common."""

    place: int  # from 0
    number: int  # of jobs
    most: int  # runs for each worker
    plan: str  # digest of the runs that it was submitted for

    def text(self) -> str:
        """Returns what `read_assignment` reads."""
        return "@" + "/".join(map(str, self))


class Assignment(NamedTuple):
    """What one worker is to do."""

    part: Part  # of the machine
    job: Job | None  # None for a worker of this machine, which trains whatever is free
    plan: str = ""  # digest of the runs that it is for

    def first(self, runs: int) -> int:
        """Returns the index of the run to begin with, so that workers begin in different places."""
        place, number = self.part
        if self.job is not None:
            place, number = self.job.place % self.job.number * number + place, self.job.number * number
        return place * runs // number


def read_assignment(text: str) -> Assignment:
    """Returns what a driver wrote as "i/n:digest", or as "i/n" followed by that of its job."""
    part, at, rest = text.partition("@")
    part, _, plan = part.partition(":")
    place, number = part.split("/")
    job = None
    if at:
        *numbers, plan = rest.split("/")
        index, of, most = map(int, numbers)
        job = Job(index, of, most, plan)
    return Assignment(Part(int(place), int(number)), job, plan)


def fitting(runs: int, needed: int, cores: int, devices: int, memory: int) -> int:
    """Returns how many workers a study gets by default: one per core, or per device that is not a CPU.

    The number depends on the study and the machine alone, not on what is still to do, so that a run goes on with the
    cores that it began with, on which its last bits depend.

    Args:
      runs: of the study.
      needed: the least bytes that a run needs.
      cores: that this process may use.
      devices: that are not CPUs.
      memory: in bytes, of the machine or of one device.
    """
    if devices:
        return min(devices, runs)
    return max(min(cores, runs, memory // (_BYTES + _TIMES * needed)), 1)


def begin(part: Part) -> None:
    """Takes this worker's part of the machine, before JAX looks for devices; ends the worker when its driver dies."""
    threading.Thread(target=_end_with_the_driver, name="driver", daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores_of(part, sorted(os.sched_getaffinity(0))))
    there = [str(index) for index, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(there)).split(",")  # a job has some of them
    if len(devices) > 1 and part.number > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[part.place % len(devices)]
    leave_memory_to_others()


def leave_memory_to_others() -> None:
    """Lets JAX, before it has a device, take GPU memory as needed, not three quarters of it at once."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def _end_with_the_driver() -> None:
    while os.read(0, 1):
        pass
    os._exit(128 + signal.SIGTERM)


def cores_of(part: Part, cores: Sequence[int]) -> set[int]:
    """Returns the cores of a worker: its share of them, or one of them where there are more workers."""
    if len(cores) < part.number:
        return {cores[part.place % len(cores)]}
    first, last = (place * len(cores) // part.number for place in (part.place, part.place + 1))
    return set(cores[first:last])


class Crew:
    """The workers of one driver, each with a thread that reads what it says and restarts it if it dies.

    `refusal` is the line of a worker that could not obey its command, "" as long as there is none.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        board: Board,
        fail: Callable[[str, str], None],
        job: Job | None = None,
        plan: str = "",
    ) -> None:
        """Starts nothing yet.

        Args:
          arguments: of `python -m experiments.run`.
          board: told what the workers do.
          fail: called with the id of a run and a line that says why, where its process died `DEATHS` times.
          job: that the workers belong to.
          plan: digest of the runs that they are for, where they belong to no job.
        """
        self._arguments, self._board, self._fail = arguments, board, fail
        self._behind = f":{plan}" if job is None else job.text()
        self._deaths: Counter[tuple[str, ...]] = Counter()  # by the runs that the worker was training
        self._lock = threading.Lock()
        self._processes: dict[Part, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._leaving = False
        self.refusal = ""

    def work(self, parts: Iterable[Part]) -> None:
        """Runs the command in a worker for each part until all of them have ended."""
        self._threads = [threading.Thread(target=self._attend, args=(part,), daemon=True) for part in parts]
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def warn(self) -> None:
        """Lets every worker save what it has and end, and starts none again."""
        self._leaving = True
        self._send(signal.SIGUSR1)

    def leave(self, seconds: float) -> None:
        """Warns all workers, and kills those that have not ended so many seconds later."""
        self.warn()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for process in list(self._processes.values()):
            process.send_signal(number)  # nothing is sent to one that has been waited for

    def _attend(self, part: Part) -> None:
        while True:
            runs, code, last = self._work(part)
            if code == _REFUSED:
                self.refusal = self.refusal or last
            if code in _FINE or self._leaving:
                if code in (1, _REFUSED):
                    self._board.note(part.place, last)
                return
            if not self._another(part, runs, f"signal {-code}" if code < 0 else f"exit code {code}"):
                return

    def _work(self, part: Part) -> tuple[tuple[str, ...], int, str]:
        """Runs a worker to its end; returns the runs that it was training, its exit code and its last words."""
        own = f"--worker={part.place}/{part.number}{self._behind}"
        command = [sys.executable, "-m", "experiments.run", *self._arguments, own]
        pipe, last = subprocess.PIPE, ""
        runs: list[str] = []
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
            self._processes[part] = process
            if self._leaving:
                process.send_signal(signal.SIGUSR1)
            for line in process.stdout or ():
                event = _event(line)
                if event is None:
                    last = line.strip() or last
                    continue
                if event["event"] == "start":
                    runs.append(event["run"])
                elif event["event"] == "end":
                    runs.remove(event["run"])
                with self._lock:
                    self._board.event(part.place, event)
        return tuple(runs), process.returncode, last

    def _another(self, part: Part, runs: tuple[str, ...], what: str) -> bool:
        """Returns whether a worker that died is to start again; gives up runs whose workers have died too often."""
        with self._lock:
            self._deaths[runs] += 1
            often = self._deaths[runs] >= DEATHS
            if often and not runs:
                self._board.note(part.place, f"died of {what} before it began a run; given up.")
                return False
            self._board.note(part.place, f"died of {what}; it starts again.")
            for run in runs if often else ():
                self._fail(run, f"its process died {DEATHS} times, the last time of {what}")
        return True


def _event(line: str) -> dict[str, Any] | None:
    """Returns the event on a line of a worker, None if the line is something else, such as a warning."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "event" in value else None
