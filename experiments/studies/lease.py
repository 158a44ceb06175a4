"""Who works on a run: a lease, which is a file that one process creates in its folder, and a heartbeat beside it.

This relies only on what any filesystem promises: of several processes that create a file exclusively, or rename one
away, one succeeds. `flock` is not used, because a shared filesystem may grant it twice. Times of different hosts are
never compared: a lease has expired if this process, by its own clock, has not seen it beat for `EXPIRES_AFTER` seconds,
or if its process was on this machine and is gone. A process that was stopped for that long finds its lease taken when
it resumes, and writes nothing more: every writing method of a run folder checks first.

References:
  Gray and Cheriton 1989, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency".
"""

import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BEATS_EVERY = 10.0  # seconds
EXPIRES_AFTER = 90.0  # seconds without a beat; a shared filesystem may show a beat half a minute late

_LEASE = ".lease"
_BEAT = ".beat-"


class BusyError(RuntimeError):
    """Another process is working in this run folder."""


class LeaseLostError(BusyError):
    """This process had the lease and was silent for so long that another one took it."""


class Holder(NamedTuple):
    """Who has the lease of a folder, as far as its files say."""

    pid: int | None
    machine: str  # a digest that stands for a machine
    here: bool  # on this machine
    gone: bool  # on this machine, and the process has ended
    silent: float  # seconds since the last beat, by this machine's clock and the filesystem's


class _Seen(NamedTuple):
    """How the lease of another process looked, and since when."""

    token: str
    beat: str
    since: float  # of the monotonic clock


_seen: dict[Path, _Seen] = {}  # this process's observations


class Lease:
    """The right of this process to write in one folder, as long as `check` does not say otherwise."""

    def __init__(self, folder: Path, token: str) -> None:
        """Starts the heartbeat of a lease that has been created."""
        self._folder, self._token = folder, token
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._beating.start()

    def check(self) -> None:
        """Raises LeaseLostError if another process has the lease by now."""
        if _read(self._folder).get("token") != self._token:
            raise LeaseLostError(f"{self._folder} was taken over by another process.")

    def release(self) -> None:
        """Releases the lease, if it is still this process's."""
        self._over.set()
        self._beating.join()
        with contextlib.suppress(OSError):
            (self._folder / f"{_BEAT}{self._token}").unlink()
        if _read(self._folder).get("token") == self._token:
            with contextlib.suppress(OSError):
                (self._folder / _LEASE).unlink()

    def _beat(self) -> None:
        path, count = self._folder / f"{_BEAT}{self._token}", 0
        while not self._over.wait(BEATS_EVERY if count else 0.0):
            count += 1
            with contextlib.suppress(OSError):  # a full disk stops the run at its next write
                if _read(self._folder).get("token") != self._token:
                    return
                path.write_text(str(count))


@contextlib.contextmanager
def leased(folder: Path) -> Iterator[Lease]:
    """Holds the lease of an existing folder.

    Raises:
      BusyError: another process has it, and is alive or may be.
    """
    token = secrets.token_hex(8)
    if not _create(folder, token):
        _take_away(folder)
        if not _create(folder, token):
            raise BusyError(f"{folder} is in use by another process.")
    lease = Lease(folder, token)
    try:
        yield lease
    finally:
        lease.release()


def holder(folder: Path) -> Holder | None:
    """Returns who has the lease of a folder, None for nobody; only for display, since it compares clocks."""
    held = _read(folder)
    for name in (f"{_BEAT}{held.get('token')}", _LEASE):
        with contextlib.suppress(OSError):
            silent = max(time.time() - (folder / name).stat().st_mtime, 0.0)
            pid, machine = held.get("pid"), str(held.get("machine", "?"))
            return Holder(pid if isinstance(pid, int) else None, machine, machine == _machine(), _is_gone(held), silent)
    return None


def is_free(folder: Path) -> bool:
    """Returns whether a process could have the lease of a folder now, as far as this one has seen; changes nothing."""
    held = _read(folder)
    if not held and not (folder / _LEASE).exists():
        return True
    return _is_gone(held) or _is_silent(folder, str(held.get("token", "")))


def traces(folder: Path) -> bool:
    """Returns whether a process has the lease of a folder, or has left traces of one."""
    with contextlib.suppress(OSError):
        return any(name.startswith((_LEASE, _BEAT)) for name in os.listdir(folder))
    return False


def leftovers(folder: Path) -> list[Path]:
    """Returns the files that leases of dead processes have left in a folder whose lease this process has."""
    token = _read(folder).get("token")
    beats = [path for path in folder.glob(f"{_BEAT}*") if path.name != f"{_BEAT}{token}"]
    return [*folder.glob(f"{_LEASE}-*"), *beats]


def _create(folder: Path, token: str) -> bool:
    """Creates the lease; returns False if there was one already."""
    try:
        handle = os.open(folder / _LEASE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with open(handle, "w", encoding="utf-8") as file:
        json.dump({"token": token, **_own_process()}, file)
    return True


def _take_away(folder: Path) -> None:
    """Removes a lease that has expired; raises BusyError if it has not, or if another process is quicker."""
    held = _read(folder)
    token = str(held.get("token", ""))
    if not (_is_gone(held) or _is_silent(folder, token)):
        raise BusyError(f"{folder} is in use by another process.")
    aside = folder / f"{_LEASE}-{secrets.token_hex(8)}"
    try:
        os.rename(folder / _LEASE, aside)
    except FileNotFoundError:
        return
    taken = str(_read(folder, aside.name).get("token", ""))
    with contextlib.suppress(OSError):
        if taken != token:  # another process was quicker, and this is its new lease
            os.link(aside, folder / _LEASE)
        else:
            (folder / f"{_BEAT}{token}").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        aside.unlink()


def _is_silent(folder: Path, token: str) -> bool:
    """Returns whether this process has seen no beat of the lease for long enough."""
    try:
        beat = (folder / f"{_BEAT}{token}").read_text()
    except OSError:
        beat = ""
    now, seen = time.monotonic(), _seen.get(folder)
    if seen is None or (seen.token, seen.beat) != (token, beat):
        seen = _seen[folder] = _Seen(token, beat, now)
    return now - seen.since >= EXPIRES_AFTER


def _is_gone(held: dict[str, Any]) -> bool:
    """Returns whether a lease belongs to a process of this machine that has ended."""
    own = _own_process()
    if held.get("machine") != own["machine"] or not isinstance(held.get("pid"), int):
        return False
    started = _started(held["pid"])
    return started is None or started != held.get("started", started)


def _own_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"machine": _machine(), "pid": pid, "started": _started(pid)}


def _machine() -> str:
    """Returns a digest that distinguishes machines, their restarts and their containers, but does not reveal them."""
    marks = []
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        with contextlib.suppress(OSError):
            marks.append(read())
    return hashlib.sha256("|".join(marks or [str(uuid.getnode())]).encode()).hexdigest()[:16]


def _started(pid: int) -> str | None:
    """Returns when a process of this machine started, "alive" where that is unknown, None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        stat = ""
    if stat:
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"


def _read(folder: Path, name: str = _LEASE) -> dict[str, Any]:
    """Returns what a lease says; nothing where there is none or it is not written yet."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
