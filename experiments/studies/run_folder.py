"""Run folders: what a run leaves on disk, written so that a kill at any moment loses at most one chunk of steps.

`results/<study>/<run_id>/` holds `config.json`, `manifest.json` (environment, command, date), `metrics.jsonl`,
`checkpoints/`, `parameters/` of a run that keeps those of every evaluation, `error.txt` where the last attempt failed,
and `result.json`, written last, by fsync and rename. The folder is the truth: everything else is derived.

A file ends with the SHA-256 of its content, in its field "sha256"; `result.json` has that of `metrics.jsonl`, too. A
file that does not match is damaged. Earlier versions wrote no digests; their files are taken as they are.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.studies.whole_files import storage, write_whole


class DamagedError(ValueError):
    """A file of a run folder is not what was written; the message says in one line which, and what shows it."""


CONFIG, MANIFEST, RESULT, METRICS = "config.json", "manifest.json", "result.json", "metrics.jsonl"
_CHECKPOINTS, _PARAMETERS = "checkpoints", "parameters"
SEAL, METRICS_SEAL = "sha256", "metrics_sha256"


class RunFolder:
    """One run on disk. Writing methods raise StorageError; a reader may look at any time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Names the folder; nothing is read or written."""
        self.path = Path(path)

    def create(self, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
        """Makes the folder and writes `config.json` and `manifest.json`; what is already saved stays.

        Leftovers of an earlier attempt are removed: half-written files, and the record of a failure.
        """
        with storage(self.path):
            (self.path / _CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        failure = [self.path / RESULT] if self.failed() else []
        for leftover in (*self.path.glob("**/.*.tmp"), self.path / "error.txt", *failure):
            with contextlib.suppress(OSError):
                leftover.unlink()
        self.write(CONFIG, config)
        self.write(MANIFEST, manifest)

    def check_lease(self) -> None:
        """Called before anything is written; the folder of a run in training raises LeaseLostError here."""

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns the content of a JSON file of the folder, without its digest; None if there is no such file.

        Raises:
          DamagedError: it cannot be read, is not a JSON object, or does not match its digest.
        """
        try:
            value = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedError(f"{name} cannot be read: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{name} is damaged: it is no JSON") from error
        if not isinstance(value, dict):
            raise DamagedError(f"{name} is damaged: it must be a JSON object")
        seal = value.pop(SEAL, None)
        if (seal is None and _has_a_nameless_seal(value)) or (seal is not None and seal != digest(value)):
            raise DamagedError(f"{name} is damaged: its SHA-256 does not match")
        return value

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Writes a JSON file of the folder, with its digest."""
        self.check_lease()
        plain = _plain(value)
        write_whole(self.path / name, (json.dumps(plain | {SEAL: digest(plain)}, indent=1) + "\n").encode())

    def result(self) -> dict[str, Any] | None:
        """Returns `result.json`, None where the run has not ended or the file is damaged."""
        try:
            return self.read(RESULT)
        except DamagedError:
            return None

    def warn(self, problem: str) -> None:
        """Prints what is wrong with this run to standard error."""
        print(f"run {self.path.name}: {problem}", file=sys.stderr)

    def ended(self) -> bool:
        """Returns whether the run is done or diverged; a failed one is tried again."""
        return has_ended(self.result())

    def failed(self) -> bool:
        """Returns whether the last attempt, if it has ended, ended in an exception."""
        return (self.result() or {}).get("status") == "failed"

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes `result.json`, the mark that the run has ended, and keeps only the newest checkpoint."""
        self.write(RESULT, {**result, METRICS_SEAL: _file_digest(self.path / METRICS)})
        self.prune(1)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`; `metrics` has a "step"."""
        self.check_lease()
        with storage(self.path), open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(metrics), allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of `metrics.jsonl`; a line torn by a kill is left out."""
        try:
            text = (self.path / METRICS).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        lines = []
        for line in text.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(line)
                lines += [value] if isinstance(value, dict) else []
        return lines

    def check_metrics(self, result: Mapping[str, Any]) -> None:
        """Raises DamagedError if `metrics.jsonl` is not what it was when its run ended in `result`."""
        if METRICS_SEAL in result and _file_digest(self.path / METRICS) != result[METRICS_SEAL]:
            raise DamagedError(f"{METRICS} is damaged: its SHA-256 does not match")

    def replace_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rewrites `metrics.jsonl`."""
        self.check_lease()
        content = "".join(json.dumps(_plain(row), allow_nan=False) + "\n" for row in rows).encode()
        write_whole(self.path / METRICS, content)

    def checkpoints(self) -> list[Path]:
        """Returns the files of the checkpoints, oldest first."""
        return sorted((self.path / _CHECKPOINTS).glob("*.msgpack"))

    def parameters_at(self, step: int) -> Path:
        """Returns where the parameters of a step are, or would be."""
        return self.path / _PARAMETERS / f"{step:09d}.msgpack"

    def kept_steps(self) -> list[int]:
        """Returns the steps whose parameters are kept, in order: none unless `train.keep_checkpoints` is every."""
        files = (self.path / _PARAMETERS).glob("*.msgpack")
        return sorted(int(path.stem) for path in files if path.stem.isdecimal())

    def prune(self, kept: int) -> None:
        """Keeps only the newest checkpoints."""
        for path in self.checkpoints()[:-kept]:
            with contextlib.suppress(OSError):
                path.unlink()


def has_ended(result: Mapping[str, Any] | None) -> bool:
    """Returns whether a `result.json` is that of a run that is done or diverged."""
    return result is not None and result.get("status") in ("done", "diverged")


def is_plain(name: str) -> bool:
    """Returns whether a name can be that of a folder in a study, not outside it, and a word in a line of text."""
    return bool(name) and name.isprintable() and not name.startswith(".") and not set(name) & set("/\\")


def open_study(study: str | os.PathLike[str]) -> list[RunFolder]:
    """Returns the run folders of a study: every folder in it that has, or seems to have, files of a run."""
    return [RunFolder(path) for path in _folders(study) if _is_run(path)]


def other_folders(study: str | os.PathLike[str]) -> list[str]:
    """Returns the names of the folders of a study in which there is no run."""
    return [path.name for path in _folders(study) if not _is_run(path)]


def _folders(study: str | os.PathLike[str]) -> list[Path]:
    return [path for path in sorted(Path(study).iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _is_run(path: Path) -> bool:
    try:
        return bool({CONFIG, MANIFEST, RESULT, METRICS, _CHECKPOINTS} & set(os.listdir(path)))
    except OSError:  # what cannot be read may be one
        return True


def _plain(value: Any) -> Any:
    """Returns `value` as JSON can hold it: arrays become lists, NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _has_a_nameless_seal(value: Mapping[str, Any]) -> bool:
    """Whether some field looks like the digest of the file under a damaged name; earlier versions wrote no digest."""
    others = {key: item for key, item in value.items() if key not in ("parameter_hash", METRICS_SEAL)}
    return any(isinstance(item, str) and re.fullmatch("[0-9a-f]{64}", item) for item in others.values())


def digest(value: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of the content of a JSON object, whatever its layout."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _file_digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
