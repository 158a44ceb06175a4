"""How fast runs are, judging by those that have ended: the basis of a plan's time estimate."""

import contextlib
import functools
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attention_variants import specs
from experiments.studies.archive import open_runs
from experiments.studies.run_folder import RESULT, DamagedError, has_ended

REFERENCE = Path(__file__).parents[2] / "results" / "reference"  # studies that come with the code

_MOST = 300  # runs of one study that are read
_DEVICE = ("backend", "device", "cores")  # of the environment: runs that agree in these are preferred


class Speed(NamedTuple):
    """The speed of one ended run."""

    attention: str
    task: str
    flops_per_second: float  # of its training steps
    other_seconds: float | None  # compilation and evaluation; None where it was not measured
    environment: Mapping[str, Any]


class Speeds(NamedTuple):
    """The basis of an estimate: ended runs, of this device if there are any."""

    known: Sequence[Speed]

    def seconds(self, attention: str, task: str, flops: float) -> float | None:
        """Returns roughly how long a run of this many FLOPs takes; None without an ended run.

        Runs of the same attention and task count or, failing that, those of the same attention, of the same mixers, or
        any. The time outside steps is taken from runs that have measured it, and is 0 without any.
        """
        if not self.known:
            return None
        rates = self._nearest(attention, task, lambda speed: speed.flops_per_second)
        others = self._nearest(attention, task, lambda speed: speed.other_seconds)
        return flops / statistics.median(rates) + (statistics.median(others) if others else 0.0)

    @property
    def complete(self) -> bool:
        """Whether compilation and evaluation are part of the estimates."""
        return any(speed.other_seconds is not None for speed in self.known)

    def _nearest(self, attention: str, task: str, value: Callable[[Speed], float | None]) -> list[float]:
        tests: list[Callable[[Speed], bool]] = [
            lambda speed: speed.attention == attention and speed.task == task,
            lambda speed: speed.attention == attention,
            lambda speed: _mixers(speed.attention) == _mixers(attention),
            lambda speed: True,
        ]
        for test in tests:
            found = [value(speed) for speed in self.known if test(speed)]
            if values := [each for each in found if each is not None]:
                return values
        return []


def read_speeds(results: str | Path, name: str, environment: Mapping[str, Any]) -> Speeds:
    """Returns the speeds of ended runs: of the study if it has any, or else of all studies.

    Of these, the runs of this device count if there are any, or else all.

    Args:
      results: the folder of all studies.
      name: of the study.
      environment: of this process, see `runtime.environment`; empty where it has no device.
    """
    here = list(_read([Path(results) / name]))
    known = here or list(_read([*_studies(Path(results)), *_studies(REFERENCE)]))
    same = [speed for speed in known if all(speed.environment.get(key) == environment.get(key) for key in _DEVICE)]
    return Speeds(same or known)


def _studies(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_dir() and path != REFERENCE]
    except OSError:
        return []


def _read(studies: Iterable[Path]) -> Iterator[Speed]:
    for study in studies:
        with contextlib.suppress(OSError):
            yield from itertools.islice(_speeds_of(study), _MOST)


def _speeds_of(study: Path) -> Iterator[Speed]:
    for run in open_runs(study):
        with contextlib.suppress(DamagedError, KeyError, TypeError, ZeroDivisionError, specs.SpecError):
            result = run.read(RESULT)
            if result is not None and has_ended(result):
                yield _speed(result)


def _speed(result: Mapping[str, Any]) -> Speed:
    """Raises KeyError, TypeError or ZeroDivisionError for a result without the times of its steps."""
    compute, config = result["compute"], result["config"]
    seconds = result["steps"] * compute["step_ms"] / 1e3
    whole = compute.get("seconds")
    return Speed(
        config["model"]["attention"],
        config["task"],
        (compute["train_flops_executed"] - compute.get("pretrain_flops", 0)) / seconds,
        None if whole is None else max(whole - seconds, 0.0),
        result["environment"],
    )


@functools.lru_cache(maxsize=1024)
def _mixers(attention: str) -> tuple[str, ...]:
    """Returns the names in a spec, without their fields."""
    return tuple(spec.partition(":")[0] for spec in specs.split_layers(attention))
