"""What a study prints while it runs: bars with the time left on a terminal, one plain line per evaluation elsewhere."""

import dataclasses
import json
import sys
import time
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from typing_extensions import override


class Display(Protocol):
    """How a study reports; used as a context manager around all its runs.

    What is reported after `start` refers to that run, until another one starts or has its `turn`.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves nothing behind."""
        return None

    def start(self, index: int, label: str, steps: int, run: str) -> None:
        """Run `index` of the study, whose id is `run`, begins; others that have not ended go on beside it."""

    def turn(self, run: str) -> None:
        """What follows refers to this run, which has started and not ended."""

    def update(self, event: dict[str, Any]) -> None:
        """The run has taken a chunk of steps; `event` is what `train` reports."""

    def end(self, outcome: str) -> None:
        """The run has ended in `outcome`."""


def make_display(runs: int) -> Display:
    """Returns bars where standard output is a terminal, plain lines otherwise."""
    return Bars(runs) if sys.stdout.isatty() else Lines(runs)


class Lines(Display):
    """One line per evaluation, for logs and pipes."""

    def __init__(self, runs: int) -> None:
        """Args: runs, how many will be started."""
        self._clock = Clock(runs)
        self._runs, self._prefix = runs, ""
        self._prefixes: dict[str, str] = {}

    @override
    def start(self, index: int, label: str, steps: int, run: str) -> None:
        self._clock.start()
        self._prefixes[run] = f"[{index}/{self._runs}] {label}"
        self.turn(run)

    @override
    def turn(self, run: str) -> None:
        self._prefix = self._prefixes[run]

    @override
    def update(self, event: dict[str, Any]) -> None:
        print(f"{self._prefix}  {describe(event)}  {left(self._clock.seconds_left(event))}", flush=True)

    @override
    def end(self, outcome: str) -> None:
        self._clock.end()
        print(f"{self._prefix}  {outcome}", flush=True)


class _WithBars:
    """Has bars, which are on the terminal while this is used as a context manager."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[note]}"))
        self._progress = Progress(*columns, console=Console(highlight=False), transient=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()


@dataclasses.dataclass
class _Bar:
    """The bar of a run that has not ended."""

    index: int
    label: str
    task: TaskID
    share: float = 0.0  # of its steps that it has taken


class Bars(_WithBars, Display):
    """A bar for the study and one for the run; every ended run leaves a line."""

    def __init__(self, runs: int) -> None:
        """Args: runs, how many will be started."""
        super().__init__()
        self._clock = Clock(runs)
        self._study = self._progress.add_task(f"study of {runs} runs", total=runs, note="")
        self._bars: dict[str, _Bar] = {}
        self._run, self._ended = "", 0

    @override
    def start(self, index: int, label: str, steps: int, run: str) -> None:
        self._clock.start()
        self._bars[run] = _Bar(index, label, self._progress.add_task(label, total=steps, note="compiling"))
        self.turn(run)

    @override
    def turn(self, run: str) -> None:
        self._run = run

    @override
    def update(self, event: dict[str, Any]) -> None:
        bar = self._bars[self._run]
        bar.share = event["step"] / event["steps"]
        self._progress.update(bar.task, completed=event["step"], note=describe(event))
        done = self._ended + sum(other.share for other in self._bars.values())
        self._progress.update(self._study, completed=done, note=left(self._clock.seconds_left(event)))

    @override
    def end(self, outcome: str) -> None:
        self._clock.end()
        self._ended += 1
        bar = self._bars.pop(self._run)
        self._progress.remove_task(bar.task)
        self._progress.update(self._study, completed=self._ended + sum(other.share for other in self._bars.values()))
        self._progress.console.print(f"[{bar.index}] {bar.label}  {outcome}", markup=False)


class Reports(Display):
    """A line of JSON for every event, for the driver of a worker."""

    _run = ""

    @override
    def start(self, index: int, label: str, steps: int, run: str) -> None:
        self.turn(run)
        self._say(event="start", index=index, label=label, steps=steps, run=run)

    @override
    def turn(self, run: str) -> None:
        self._run = run

    @override
    def update(self, event: dict[str, Any]) -> None:
        self._say(**event, event="update", run=self._run)

    @override
    def end(self, outcome: str) -> None:
        self._say(event="end", outcome=outcome, run=self._run)

    def _say(self, **values: Any) -> None:
        print(json.dumps(values), flush=True)


class Board(Protocol):
    """What a driver shows of its workers; used as a context manager around their work."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves nothing behind."""
        return None

    def event(self, worker: int, event: dict[str, Any]) -> None:
        """A worker has begun the run `event["run"]`, taken some steps of it, or ended it."""

    def note(self, worker: int, text: str) -> None:
        """There is something else to say about a worker."""


def make_board(runs: int) -> Board:
    """Returns bars where standard output is a terminal, plain lines otherwise."""
    return WorkerBars(runs) if sys.stdout.isatty() else WorkerLines(runs)


class WorkerLines(Board):
    """One line per evaluation of every worker."""

    def __init__(self, runs: int) -> None:
        """Args: runs, how many are to end."""
        self._runs, self._ended = runs, 0
        self._labels: dict[str, str] = {}  # by run

    @override
    def event(self, worker: int, event: dict[str, Any]) -> None:
        if event["event"] == "start":
            self._labels[event["run"]] = event["label"]
            return
        if event["event"] == "end":
            self._ended += 1
        what = event["outcome"] if event["event"] == "end" else describe(event)
        self.note(worker, f"{self._labels[event['run']]}  {what}")

    @override
    def note(self, worker: int, text: str) -> None:
        print(f"[{self._ended}/{self._runs}] worker {worker + 1}: {text}", flush=True)


class WorkerBars(_WithBars, Board):
    """A bar for the study and one for each worker; every ended run leaves a line."""

    def __init__(self, runs: int) -> None:
        """Args: runs, how many are to end."""
        super().__init__()
        self._runs, self._ended, self._started = runs, 0, time.monotonic()
        self._study = self._progress.add_task(f"study of {runs} runs", total=runs, note="")
        self._bars: dict[int, TaskID] = {}
        self._shares: dict[str, float] = {}  # what is done of the runs that workers are training
        self._labels: dict[str, str] = {}  # of these runs

    @override
    def event(self, worker: int, event: dict[str, Any]) -> None:
        run = event["run"]
        if event["event"] == "start":
            self._labels[run], self._shares[run] = event["label"], 0.0
            self._show(worker, run, (0, event["steps"]), "compiling")
        elif event["event"] == "update":
            self._shares[run] = event["step"] / event["steps"]
            self._show(worker, run, (event["step"], event["steps"]), describe(event))
        else:
            self._ended += 1
            self._shares[run] = 0.0
            self.note(worker, f"{self._labels[run]}  {event['outcome']}")
            self._progress.update(self._bars[worker], visible=False)
        done = self._ended + sum(self._shares.values())
        seconds = (time.monotonic() - self._started) * (self._runs - done) / done if done else None
        self._progress.update(self._study, completed=done, note="" if seconds is None else left(seconds))

    @override
    def note(self, worker: int, text: str) -> None:
        self._progress.console.print(f"[{self._ended}/{self._runs}] worker {worker + 1}: {text}", markup=False)

    def _show(self, worker: int, run: str, taken: tuple[int, int], note: str) -> None:
        """Shows a run with its steps taken and in total; of several runs of a worker, the last one to report."""
        if worker not in self._bars:
            self._bars[worker] = self._progress.add_task("", note="")
        description, (step, steps) = f"worker {worker + 1}: {self._labels[run]}", taken
        self._progress.update(
            self._bars[worker], description=description, completed=step, total=steps, note=note, visible=True
        )


class Clock:
    """Estimates the time left in a study from the seconds that its ended runs took."""

    def __init__(self, runs: int) -> None:
        """Args: runs, how many will be started."""
        self._waiting = runs
        self._durations: list[float] = []
        self._started, self._running, self._together = 0.0, 0, 0

    def start(self) -> None:
        """A run begins, by itself or beside others."""
        self._waiting -= 1
        self._together = self._together + 1 if self._running else 1
        self._running += 1
        self._started = time.monotonic()

    def end(self) -> None:
        """A run has ended."""
        self._running -= 1
        self._durations.append((time.monotonic() - self._started) / self._together)

    def seconds_left(self, event: dict[str, Any]) -> float:
        """Returns an upper estimate: a run that solves its task stops sooner."""
        this_run = event["seconds_left"] * self._running
        whole = (time.monotonic() - self._started + this_run) / self._together
        typical = sum(self._durations) / len(self._durations) if self._durations else whole
        return this_run + self._waiting * typical


def describe(event: dict[str, Any]) -> str:
    """Returns the state of one run in one line."""
    return (
        f"step {event['step']}/{event['steps']}  loss {event['train_loss']:.3f}  "
        f"validation {event['validation_accuracy']:.3f}  {event['tokens_per_second'] / 1e3:.0f} k tokens/s"
    )


def left(seconds: float) -> str:
    """Returns "about 2 min left"."""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"
