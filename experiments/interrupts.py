"""Ctrl-C, SIGTERM and SIGHUP end the process within a moment, with one line, whatever it is doing.

Python calls a handler between two of its own instructions, and a compilation may keep it waiting for minutes. JAX drops
what a handler raises inside some of its callbacks, and leaving Python while XLA compiles causes a segmentation fault.
Hence Python's C code, which runs at once, writes the number of the signal to a pipe, and a thread that waits there ends
the process without any clean-up. Run folders are whole at every moment, so nothing is lost.

SIGUSR1 is a cluster's warning that the time of the process is nearly over. What is `unsaved` goes on to its next
checkpoint, and then the process ends with `WARNED`; if nothing is, it ends at once.
"""

import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
    signal.SIGUSR1: "warned",
}
WARNED = 128 + signal.SIGUSR1  # exit code of a process that was warned: whoever started it should start it again
_LEAVE_BARS = b"\x1b[?25h\r\x1b[K"  # show the cursor, and begin the line anew

_waiting: threading.Thread | None = None
_warned = threading.Event()
_unsaved: list[Callable[[], None]] = []  # what to do on a warning instead of ending


class WarnedError(BaseException):
    """The process was warned, has saved what it had, and is to end with `WARNED`; no `except Exception` stops it."""


def install() -> None:
    """Takes over the signals that end a process, except those that its parent had ignored; once is enough.

    The exit code is 128 and the number of the signal. Call it in the main thread, as early as possible.
    """
    global _waiting
    if _waiting is not None:
        return
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    for number in _WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave_to_the_thread)
    _waiting = threading.Thread(target=_wait, args=(receiver,), name="interrupts", daemon=True)
    _waiting.start()


@contextlib.contextmanager
def unsaved(on_warning: Callable[[], None] = lambda: None) -> Iterator[None]:
    """While it lasts, a warning does not end the process but calls `on_warning`, in another thread.

    Raises:
      WarnedError: at its end, or where `leave_if_warned` is called, after a warning.
    """
    _unsaved.append(on_warning)
    try:
        yield
    finally:
        _unsaved.remove(on_warning)
    leave_if_warned()


def leave_if_warned() -> None:
    """Raises WarnedError after a warning; call it where all is saved."""
    if _warned.is_set():
        raise WarnedError(_line(signal.SIGUSR1))


def _leave_to_the_thread(number: int, frame: Any) -> None:
    """Without a handler in Python, nothing is written to the pipe."""


def _wait(receiver: int) -> None:
    while True:
        for number in os.read(receiver, 64):
            if number == signal.SIGUSR1 and _unsaved:
                _warned.set()
                for on_warning in list(_unsaved):
                    on_warning()
            elif number in _WORDS:
                _end(signal.Signals(number))


def _line(number: signal.Signals) -> str:
    return f"{_WORDS[number]}; run the same command again to continue."


def _silence_others() -> int:
    """Discards what other threads still print, such as bars below the last line; returns standard output."""
    with contextlib.suppress(OSError):
        screen = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return screen
    return 1


def _end(number: signal.Signals) -> None:
    """Prints the line and ends the process; what blocks or fails on the way is skipped."""
    screen = _silence_others()
    for stream, content in (
        (screen, _LEAVE_BARS if os.isatty(screen) else b""),
        (2, f"{_line(number)}\n".encode()),
    ):
        with contextlib.suppress(OSError, ValueError):
            if select.select([], [stream], [], 0)[1]:  # the shell shares it, so it must stay blocking
                os.write(stream, content)
    os._exit(128 + number)
