"""A study in one file: `runs.jsonl`, one line per ended run, with all that its folder says except checkpoints.

A thousand runs are four thousand files in folders. One file is what you keep in a repository or send to somebody.
Tables and reports read it as they read run folders; once unpacked, the study continues where it was.
"""

import contextlib
import functools
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.studies.run_folder import (
    CONFIG,
    MANIFEST,
    METRICS_SEAL,
    RESULT,
    SEAL,
    DamagedError,
    RunFolder,
    digest,
    has_ended,
    is_plain,
    open_study,
)
from experiments.studies.whole_files import write_file

ARCHIVE = "runs.jsonl"
_METRICS = "metrics"
_FIELDS = {CONFIG: "config", MANIFEST: "manifest", RESULT: "result"}


class PackedRun:
    """One line of an archive, read as a `RunFolder` is."""

    def __init__(self, study: Path, number: int, line: str) -> None:
        """Keeps the line; errors in it show up when it is read."""
        self._line = line
        self.path = study / f"in line {number} of {ARCHIVE}"
        with contextlib.suppress(DamagedError):
            self.path = study / self._content["run"]

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns the content of a JSON file of the folder, None if there was none; raises DamagedError."""
        value = self._content.get(_FIELDS[name])
        if value is not None and not isinstance(value, dict):
            raise DamagedError(f"its {_FIELDS[name]} is damaged: it must be a JSON object")
        if name == RESULT and value is not None and "config" in value and value["config"] is None:
            return value | {"config": self._content.get("config")}
        return value

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the rows of metrics."""
        return list(self._content.get(_METRICS, ()))

    def check_metrics(self, result: Mapping[str, Any]) -> None:
        """Raises nothing: the digest of the line covers its metrics, too."""

    @functools.cached_property
    def _content(self) -> dict[str, Any]:
        """The line without its digest, which matches."""
        try:
            content = json.loads(self._line)
            seal = content.pop(SEAL)
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
            raise DamagedError("its line is damaged: it is no JSON object with a digest") from error
        if seal != digest(content):
            raise DamagedError("its line is damaged: its SHA-256 does not match")
        name = content.get("run")
        if not isinstance(name, str) or not is_plain(name):
            raise DamagedError(f"its line is damaged: the name of a run must be a plain folder name; got {name!r}")
        return content


def open_archive(study: str | Path) -> list[PackedRun]:
    """Returns the runs in the archive of a study, none where it has no archive."""
    study = Path(study)
    try:
        lines = (study / ARCHIVE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [PackedRun(study, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def open_runs(study: str | Path) -> Sequence[RunFolder | PackedRun]:
    """Returns the runs of a study; runs of its archive that have no folder come last."""
    folders = open_study(study)
    known = {folder.path.name for folder in folders}
    return [*folders, *(run for run in open_archive(study) if run.path.name not in known)]


def pack(study: str | Path, output: str | Path, *, replace: bool = False) -> int:
    """Writes the archive of a study into the folder `output`; returns how many runs are in it.

    Args:
      study: the folder with the runs.
      output: the folder with the archive.
      replace: whether an existing archive may have other runs, which are then lost.

    Raises:
      ValueError: no run has ended, one is damaged, or an existing archive has other runs; one line.
    """
    lines = {run.path.name: _line(run) for run in open_runs(study) if _has_ended(run)}
    if not lines:
        raise ValueError(f"no run in {str(study)!r} has ended.")
    lost = [run.path.name for run in open_archive(output) if run.path.name not in lines]
    if lost and not replace:
        raise ValueError(
            f"{str(Path(output) / ARCHIVE)!r} has runs that {str(study)!r} has not: {len(lost)}, such as {lost[0]}; "
            "pack into another folder, or remove the file."
        )
    write_file(Path(output) / ARCHIVE, "".join(f"{lines[name]}\n" for name in sorted(lines)))
    return len(lines)


def unpack(study: str | Path, output: str | Path) -> int:
    """Writes run folders from the archive of a study into `output`, which may have others; returns how many are new.

    Raises:
      ValueError: there is no archive, or some of its lines are damaged; the others are unpacked first.
    """
    runs = open_archive(study)
    if not runs:
        raise ValueError(f"there is no {ARCHIVE} in {str(study)!r}.")
    new = [run for run in runs if not RunFolder(Path(output) / run.path.name).ended()]
    damaged: list[str] = []
    for run in new:
        try:
            files = {name: _whole(run, name) for name in _FIELDS}
        except ValueError as error:
            damaged.append(str(error))
            continue
        folder = RunFolder(Path(output) / run.path.name)
        folder.create(files[CONFIG], files[MANIFEST])
        folder.replace_metrics(run.metrics())
        folder.finish(files[RESULT])
    if damaged:
        raise ValueError(f"{len(new) - len(damaged)} unpacked, {len(damaged)} damaged: {damaged[0]}")
    return len(new)


def _has_ended(run: RunFolder | PackedRun) -> bool:
    try:
        return has_ended(run.read(RESULT))
    except DamagedError as error:
        raise ValueError(f"run {run.path.name}: {error}.") from error


def _line(run: RunFolder | PackedRun) -> str:
    config, manifest, result = (_whole(run, name) for name in (CONFIG, MANIFEST, RESULT))
    try:
        run.check_metrics(result)
    except DamagedError as error:
        raise ValueError(f"run {run.path.name}: {error}.") from error
    kept = {key: value for key, value in result.items() if key != METRICS_SEAL}
    if result.get("config") == config:
        kept["config"] = None  # stored once
    if "command" in manifest:
        manifest = manifest | {"command": _without_results(manifest["command"])}
    content = {"run": run.path.name, "config": config, "manifest": manifest, "result": kept, _METRICS: run.metrics()}
    return json.dumps(content | {SEAL: digest(content)}, allow_nan=False)


def _whole(run: RunFolder | PackedRun, name: str) -> dict[str, Any]:
    """Returns the content of a file of a run; raises ValueError if it is damaged or missing."""
    try:
        value = run.read(name)
    except DamagedError as error:
        raise ValueError(f"run {run.path.name}: {error}.") from error
    if value is None:
        raise ValueError(f"run {run.path.name}: {name} is missing.")
    return value


def _without_results(command: str) -> str:
    """Returns a command without the folder of its results, which is specific to one machine."""
    try:
        words = shlex.split(command)
    except ValueError:  # not a command of ours
        return command
    pairs = zip(["", *words], words, strict=False)
    return shlex.join(word for before, word in pairs if not word.startswith("--results") and before != "--results")
