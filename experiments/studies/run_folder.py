"""Run folders: what a run leaves on disk, written so that a kill at any moment loses at most one chunk of steps.

`results/<study>/<run_id>/` holds `config.json`, `manifest.json` (environment, command, date), `metrics.jsonl`,
`checkpoints/`, `error.txt` where the last attempt failed, and, last and by fsync and rename, `result.json`. The folder
is the truth: everything else is derived.
"""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class StorageError(OSError):
    """A run folder cannot be written: read-only, full, or something else stands there. The message is one line."""


class BusyError(RuntimeError):
    """Another process is working in this run folder."""


class RunFolder:
    """One run on disk. Writing methods raise StorageError; a reader may look at any time."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Names the folder; nothing is read or written."""
        self.path = Path(path)

    def create(self, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
        """Makes the folder and writes `config.json` and `manifest.json`; what is already saved stays.

        What an earlier attempt left goes: half-written files, and the traceback of a failure.
        """
        with storage(self.path):
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        for leftover in (*self.path.glob("**/.*.tmp"), self.path / "error.txt"):
            with contextlib.suppress(OSError):
                leftover.unlink()
        write_whole(self.path / "config.json", _json(config))
        write_whole(self.path / "manifest.json", _json(manifest))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for this process; the system lets go when a process dies, so no lock can be stale.

        Raises:
          BusyError: another process holds it.
        """
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = open(self.path / ".lock", "ab")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(f"{self.path} is in use by another process.") from error
            yield

    def config(self) -> dict[str, Any] | None:
        """Returns `config.json`, None where it is missing or damaged."""
        return _read_json(self.path / "config.json")

    def manifest(self) -> dict[str, Any] | None:
        """Returns `manifest.json`, None where it is missing or damaged."""
        return _read_json(self.path / "manifest.json")

    def result(self) -> dict[str, Any] | None:
        """Returns `result.json`, None where the run has not ended (or the file is damaged)."""
        return _read_json(self.path / "result.json")

    def ended(self) -> bool:
        """Returns whether the run is done or diverged; a failed one is tried again."""
        return has_ended(self.result())

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes `result.json`, the mark that the run has ended, and keeps only the newest checkpoint."""
        write_whole(self.path / "result.json", _json(result))
        self.prune(1)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Appends one line to `metrics.jsonl`; `metrics` has a "step"."""
        with storage(self.path), open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(metrics), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a checkpoint is only as good as the lines up to it

    def metrics(self) -> list[dict[str, Any]]:
        """Returns the lines of `metrics.jsonl`; a line torn by a kill is left out."""
        try:
            text = (self.path / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        lines = []
        for line in text.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                value = json.loads(line)
                lines += [value] if isinstance(value, dict) else []
        return lines

    def truncate_metrics(self, step: int) -> None:
        """Drops the lines after `step` and any torn one: what a resumed run is about to write again."""
        kept = [line for line in self.metrics() if line.get("step", 0) <= step]
        write_whole(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept).encode())

    def checkpoints(self) -> list[Path]:
        """Returns the files of the checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("*.msgpack"))

    def prune(self, kept: int) -> None:
        """Keeps the newest checkpoints only."""
        for path in self.checkpoints()[:-kept]:
            with contextlib.suppress(OSError):
                path.unlink()


def has_ended(result: Mapping[str, Any] | None) -> bool:
    """Returns whether a `result.json` is that of a run that is done or diverged."""
    return result is not None and result.get("status") in ("done", "diverged")


def open_study(study: str | os.PathLike[str]) -> list[RunFolder]:
    """Returns the run folders of a study: every folder in it that has a readable `config.json`."""
    folders = [RunFolder(path) for path in sorted(Path(study).iterdir()) if path.is_dir()]
    return [folder for folder in folders if folder.config() is not None]


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Makes `folder` and writes, syncs and removes a small file there; raises StorageError where that fails."""
    folder = Path(folder)
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    try:
        write_whole(probe, b"probe")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a derived file (table, plot, report) whole or not at all; raises StorageError.

    Links are followed. What is no regular file, such as a device or a pipe, is written through. A file that is replaced
    keeps its mode.
    """
    path, data = Path(path), content.encode() if isinstance(content, str) else content
    with storage(path):
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        mode = path.stat().st_mode if path.exists() else None
    write_whole(path, data)
    if mode is not None:
        with storage(path):
            path.chmod(mode)


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turns an OSError from writing at `path` into a StorageError of one line."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {error.filename or path}: {error.strerror or error}.") from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes by fsync and rename: after a crash `path` is old or new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from error
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _plain(value: Any) -> Any:
    """Returns `value` as JSON can hold it: arrays become lists, NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(value: Any) -> bytes:
    return (json.dumps(_plain(value), indent=1, allow_nan=False) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
