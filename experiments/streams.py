"""Standard output and standard error that outlive their readers."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Steady:
    """A text stream that drops what it cannot write, from the first error on, and keeps that error.

    Training must not end because a pipe is closed or the disk of a log is full. Characters that the encoding lacks are
    written as escapes. Everything else is left to the stream.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Args: stream, None where the process was started with it closed."""
        self._stream = stream
        self.error: OSError | None = None
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        """Writes what can be written; returns the length of `text`."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.write(text)
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Flushes what can be flushed."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self.error = error

    def isatty(self) -> bool:
        """Returns whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady() -> Iterator[Steady]:
    """Replaces standard output and standard error by steady ones; yields standard output."""
    before = sys.stdout, sys.stderr
    out, err = Steady(sys.stdout), Steady(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        sys.stdout, sys.stderr = before
        if out.error is not None:  # or Python would try again at exit
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), before[0].fileno())
