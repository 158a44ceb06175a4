"""The status of a study, from its folders alone: nothing is written, so it can be read anywhere and at any time.

Ages are differences between this machine's clock and that of the filesystem. They are only for display: who may take
over a lease is decided elsewhere, without clocks.
"""

import collections
import contextlib
import dataclasses
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text
from typing_extensions import override

from experiments.studies import archive, finding, lease, plans
from experiments.studies.archive import PackedRun
from experiments.studies.lease import EXPIRES_AFTER, Holder
from experiments.studies.plans import PlannedRun
from experiments.studies.progress import left
from experiments.studies.run_folder import CONFIG, MANIFEST, RESULT, DamagedError, RunFolder

STATES = ("done", "diverged", "failed", "running", "waiting")


class RunStatus(NamedTuple):
    """The status of one run."""

    state: str  # one of STATES
    cell: str  # digest, "" where it is not known
    label: str
    step: int
    steps: int
    step_seconds: float | None  # of one step, as measured last
    seconds: float | None  # from the start of its last attempt to its end
    holder: Holder | None  # whoever has its lease, or had it and died


@dataclasses.dataclass(frozen=True)
class StudyStatus:
    """The status of a study; runs of its plan that have no folder yet are waiting."""

    runs: tuple[RunStatus, ...]

    def count(self, state: str) -> int:
        """Returns how many runs are in a state."""
        return sum(run.state == state for run in self.runs)

    @property
    def working(self) -> list[RunStatus]:
        """The runs that some process has, or had when it died."""
        return [run for run in self.runs if run.holder is not None and run.state in ("running", "waiting")]

    def seconds_left(self) -> float | None:
        """Returns an upper estimate from the times of ended runs, of the same cell if there are any.

        None where nothing has been measured, or no process is at work.
        """
        ended: dict[str, list[float]] = collections.defaultdict(list)
        for run in self.runs:
            if run.seconds is not None:
                ended[run.cell].append(run.seconds)
        cells = {cell: statistics.fmean(seconds) for cell, seconds in ended.items()}
        open_runs = [run for run in self.runs if run.state in ("running", "waiting")]
        known = [seconds for run in open_runs if (seconds := _rest(run, cells)) is not None]
        if not known or not self.count("running"):
            return None
        return len(open_runs) * statistics.fmean(known) / self.count("running")


def _rest(run: RunStatus, cells: Mapping[str, float]) -> float | None:
    """Returns the seconds that a run still needs, from the mean time of ended runs of each cell."""
    whole = cells.get(run.cell)
    if whole is None and run.step_seconds is not None:
        whole = run.steps * run.step_seconds
    if whole is None and cells:
        whole = statistics.fmean(cells.values())
    return None if whole is None else whole * (1 - run.step / max(run.steps, 1))


def read_status(study: Path, ended: dict[str, RunStatus] | None = None) -> StudyStatus:
    """Returns the status of a study.

    Args:
      study: its folder.
      ended: the runs that had ended at the last call, which are not read again; those that have ended since are added.

    Raises:
      ValueError: there is no such folder, or neither a run nor a plan in it.
    """
    finding.check_study(study)
    ended = {} if ended is None else ended
    planned = plans.read(study)
    found = {run.path.name: run for run in archive.open_runs(study)}
    if not planned and not found:
        raise ValueError(f"there is no run in {str(study)!r}, and no plan of one{finding.studies_near(study)}.")
    waiting = [
        RunStatus("waiting", plan.cell, plan.label, 0, plan.steps, None, None, None)
        for name, plan in planned.items()
        if name not in found
    ]
    runs = {name: ended.get(name) or _status(run, planned.get(name)) for name, run in found.items()}
    ended |= {name: run for name, run in runs.items() if run.state in ("done", "diverged")}
    return StudyStatus((*runs.values(), *waiting))


def _status(run: RunFolder | PackedRun, planned: PlannedRun | None) -> RunStatus:
    result = _read(run, RESULT)
    state = result.get("status")
    if state in ("done", "diverged", "failed"):
        steps = int(result.get("steps") or 0)
        return RunStatus(state, str(result.get("cell", "")), "", steps, steps, None, _seconds(run.path), None)
    holder, rows = lease.holder(run.path), run.metrics()
    alive = holder is not None and not holder.gone and holder.silent < EXPIRES_AFTER
    last = rows[-1] if rows else {}
    label, cell, steps = planned if planned is not None else (*_named(_read(run, CONFIG)),)
    step_ms = last.get("step_ms")
    return RunStatus(
        "running" if alive else "waiting",
        cell,
        label,
        int(last.get("step", 0)),
        steps,
        None if step_ms is None else step_ms / 1e3,
        None,
        holder,
    )


def _named(config: dict[str, Any]) -> tuple[str, str, int]:
    """Returns (label, cell, steps) of a run that is in no plan."""
    attention = config.get("model", {}).get("attention", "unknown")
    return f"{attention}  seed={config.get('seed', '?')}", "", int(config.get("train", {}).get("steps", 0))


def _read(run: RunFolder | PackedRun, name: str) -> dict[str, Any]:
    try:
        return run.read(name) or {}
    except DamagedError:
        return {}


def _seconds(path: Path) -> float | None:
    """Returns how long the last attempt of an ended run took, by the times of its files; None for an archived run."""
    with contextlib.suppress(OSError):
        seconds = (path / RESULT).stat().st_mtime - (path / MANIFEST).stat().st_mtime
        return seconds if seconds > 0 else None
    return None


def status_text(status: StudyStatus) -> str:
    """Returns a line with the counts and the time left, and one for each process at work."""
    counts = ", ".join(f"{status.count(state)} {state}" for state in STATES)
    seconds = status.seconds_left()
    head = f"runs: {counts}{'' if seconds is None else f'; {left(seconds)}'}"
    rows = [_worker(run) for run in status.working]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([head, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)])


def _worker(run: RunStatus) -> tuple[str, ...]:
    holder = run.holder
    if holder is None:
        raise ValueError("a run that no process has is no line")
    where = "here" if holder.here else f"on {holder.machine[:4]}"
    beat = "it has ended" if holder.gone else f"last beat {holder.silent:.0f} s ago"
    if not holder.gone and run.state == "waiting":
        beat += ", silent"
    return f"process {holder.pid or '?'} {where}", run.label, f"step {run.step}/{run.steps}", beat


class View(Protocol):
    """What a command that waits for others shows of a study; used as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves nothing behind."""
        return None

    def show(self) -> None:
        """Looks at the study again."""

    def note(self, line: str) -> None:
        """Says something else."""


def make_view(study: Path) -> View:
    """Returns a view that is refreshed in place on a terminal, and one line per change elsewhere."""
    return _Screen(study) if sys.stdout.isatty() else _Changes(study)


class _Changes(View):
    def __init__(self, study: Path) -> None:
        self._study = study
        self._ended: dict[str, RunStatus] = {}
        self._said: tuple[int, ...] = ()

    @override
    def show(self) -> None:
        status = read_status(self._study, self._ended)
        counts = tuple(map(status.count, STATES))
        if counts != self._said:
            self._said = counts
            print(status_text(status).partition("\n")[0], flush=True)

    @override
    def note(self, line: str) -> None:
        print(line, flush=True)


class _Screen(View):
    def __init__(self, study: Path) -> None:
        self._study = study
        self._ended: dict[str, RunStatus] = {}
        self._live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)

    @override
    def __enter__(self) -> Self:
        self._live.start()
        return self

    @override
    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    @override
    def show(self) -> None:
        text = status_text(read_status(self._study, self._ended))
        self._live.update(Text(text, overflow="ellipsis", no_wrap=True), refresh=True)

    @override
    def note(self, line: str) -> None:
        self._live.console.print(line, markup=False)


def is_over(status: StudyStatus) -> bool:
    """Returns whether no run is running or waiting."""
    return not (status.count("running") or status.count("waiting"))
