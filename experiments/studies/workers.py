"""Several processes that share the runs of a study, each with its part of the machine, and what to do when one dies.

A worker is the same command again with `--worker=i/n`. It takes whatever run is free, as any process does (`lease.py`),
and tells its driver of it in lines of JSON. Its standard input is a pipe that the driver holds: where the driver dies,
the pipe ends and so does the worker.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

DEATHS = 3  # of its process, after which a run has failed; and of a worker that has begun no run

_FINE = (0, 1, 2)  # exit codes of a worker that has said what it had to say


class Part(NamedTuple):
    """Which worker this is, from 0, of how many."""

    place: int
    number: int


class Board(Protocol):
    """What the driver shows of its workers."""

    def event(self, worker: int, event: dict[str, Any]) -> None:
        """A worker has begun a run, taken some steps of it, or ended it."""

    def note(self, worker: int, text: str) -> None:
        """Something else is to be said of a worker."""


def read_part(text: str) -> Part:
    """Returns the part that the driver wrote as "i/n"."""
    place, _, number = text.partition("/")
    return Part(int(place), int(number))


def begin(part: Part) -> None:
    """Takes this worker's part of the machine, and ends it when its driver dies; before JAX looks for devices."""
    threading.Thread(target=_end_with_the_driver, name="driver", daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores_of(part, sorted(os.sched_getaffinity(0))))
    devices = sorted(path.name for path in Path("/proc/driver/nvidia/gpus").glob("*"))
    if len(devices) > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(part.place % len(devices))
    leave_memory_to_others()


def leave_memory_to_others() -> None:
    """Lets JAX take memory of a GPU as it needs it, which else takes three quarters at once; before it has a device."""
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


def share(number: int, arguments: Sequence[str], board: Board, fail: Callable[[str, str], None]) -> None:
    """Runs a command in several workers until all of them have ended.

    Args:
      number: of workers.
      arguments: of `python -m experiments.run`.
      board: told what they do.
      fail: called with the id of a run and a line that says why, where its process died `DEATHS` times.
    """
    crew = _Crew(arguments, board, fail)
    threads = [
        threading.Thread(target=crew.attend, args=(Part(index, number),), daemon=True) for index in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _Crew:
    """The workers of one driver, each with a thread that reads what it says and starts it again where it dies."""

    def __init__(self, arguments: Sequence[str], board: Board, fail: Callable[[str, str], None]) -> None:
        self._arguments, self._board, self._fail = arguments, board, fail
        self._deaths: Counter[str] = Counter()  # by the run that the worker was at; "" for none
        self._lock = threading.Lock()

    def attend(self, part: Part) -> None:
        while True:
            run, code, last = self._work(part)
            if code in _FINE:
                if code:
                    self._board.note(part.place, last)
                return
            if not self._another(part, run, f"signal {-code}" if code < 0 else f"exit code {code}"):
                return

    def _work(self, part: Part) -> tuple[str, int, str]:
        """Runs a worker to its end; returns the run that it was at, its exit code and its last words."""
        command = [sys.executable, "-m", "experiments.run", *self._arguments, f"--worker={part.place}/{part.number}"]
        pipe, run, last = subprocess.PIPE, "", ""
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
            for line in process.stdout or ():
                event = _event(line)
                if event is None:
                    last = line.strip() or last
                    continue
                run = {"start": event.get("run", ""), "end": ""}.get(event["event"], run)
                with self._lock:
                    self._board.event(part.place, event)
        return run, process.returncode, last

    def _another(self, part: Part, run: str, what: str) -> bool:
        """Returns whether a worker that died is to start again, and gives up the run that it was at too often."""
        with self._lock:
            self._deaths[run] += 1
            often = self._deaths[run] >= DEATHS
            if often and not run:
                self._board.note(part.place, f"died of {what} before it began a run; given up.")
                return False
            self._board.note(part.place, f"died of {what}; it starts again.")
            if often:
                self._fail(run, f"its process died {DEATHS} times, the last time of {what}")
        return True


def _event(line: str) -> dict[str, Any] | None:
    """Returns the event that a line of a worker tells, None where it is something else, such as a warning."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and "event" in value else None
