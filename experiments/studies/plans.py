"""The plan of a study: which runs a command is to train, written down while it trains them.

A waiting run has no folder yet, so whoever looks at the study from elsewhere would not know of it. A plan is a
sealed file in the study's folder, named after its runs: the same command again writes the same file, and shards that
start at once do not overwrite each other. It is removed when its runs have ended.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.studies.run_folder import DamagedError, RunFolder
from experiments.studies.whole_files import storage

_PREFIX = ".plan-"
_LENGTH = 12  # hexadecimal digits


class PlannedRun(NamedTuple):
    """A run that may not have a folder yet."""

    label: str
    cell: str  # digest, shared by its seeds
    steps: int


def digest_of(runs: Sequence[str]) -> str:
    """Returns the name of a plan: a digest of the ids of its runs, in any order."""
    return hashlib.sha256(" ".join(sorted(runs)).encode()).hexdigest()[:_LENGTH]


@contextlib.contextmanager
def written(study: Path, runs: Mapping[str, PlannedRun]) -> Iterator[None]:
    """Keeps the plan of some runs, by their ids, in a study; it stays if they were not all trained.

    Raises:
      StorageError: it cannot be written.
    """
    name = f"{_PREFIX}{digest_of(list(runs))}.json"
    with storage(study):
        study.mkdir(parents=True, exist_ok=True)
    if runs:
        RunFolder(study).write(name, {"runs": {run: list(planned) for run, planned in runs.items()}})
    yield
    with contextlib.suppress(OSError):
        (study / name).unlink()


def read(study: Path) -> dict[str, PlannedRun]:
    """Returns the runs of all plans in a study, by their ids; a damaged plan is left out."""
    found: dict[str, PlannedRun] = {}
    for path in sorted(study.glob(f"{_PREFIX}*.json")):
        with contextlib.suppress(DamagedError, TypeError, AttributeError, ValueError):
            plan = RunFolder(study).read(path.name) or {}
            found |= {str(run): PlannedRun(str(p[0]), str(p[1]), int(p[2])) for run, p in plan["runs"].items()}
    return found
