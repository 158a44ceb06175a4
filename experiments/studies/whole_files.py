"""Files that are written whole or not at all, and what a killed process left of them."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

_HOST = socket.gethostname()
_LONGEST_WRITE = 24 * 3600  # seconds, for a process on another host that may still be writing


class StorageError(OSError):
    """A run folder cannot be written: it is read-only or full, or something else is there. The message is one line."""


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Makes `folder` and writes, syncs and removes a small file there; raises StorageError where that fails.

    Files that a killed process left half-written in the folder are removed.
    """
    folder = Path(folder)
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for leftover in (*folder.glob(".*.tmp"), *folder.glob(".probe-*")):
        if not _may_be_in_use(leftover):
            with contextlib.suppress(OSError):
                leftover.unlink()
    probe = folder / f".probe-{_HOST}.{os.getpid()}"
    try:
        write_whole(probe, b"probe")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a derived file (table, plot, report) whole or not at all; raises StorageError.

    Links are followed. Anything but a regular file, such as a device or a pipe, is written in place. A replaced file
    keeps its mode.
    """
    path, data = Path(path), content.encode() if isinstance(content, str) else content
    with storage(path):
        path = path.resolve()
        make_folder(path.parent)
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
            return
        mode = path.stat().st_mode if path.exists() else None
    write_whole(path, data)
    if mode is not None:
        with storage(path):
            path.chmod(mode)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it; raises StorageError, which names a file that is in the way."""
    with storage(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            file = next(each for each in (path, *path.parents) if each.exists())
            raise StorageError(f"cannot write into {path}: {file} is a file, not a folder.") from None


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
    temporary = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")
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


def _may_be_in_use(path: Path) -> bool:
    """Whether the process that writes a temporary file may be alive; the file's name ends in host and process."""
    host, _, process = path.name.removesuffix(".tmp").removeprefix(".probe-").rpartition(".")
    if host.endswith(_HOST) and process.isdecimal():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return False
        except OSError:  # of another user
            return True
        return True
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime < _LONGEST_WRITE
    return False
