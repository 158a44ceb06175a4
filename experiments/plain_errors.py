"""A filter for the standard error of a `--distributed` process, in a process of its own that `distributed.py` starts.

If another process is silent for too long, or never joins, JAX ends this one from a C++ thread with a stack trace, and
no Python code runs any more. This filter says in one line what that means, and passes on everything else. It imports
nothing from this package, so that it starts at once.
"""

import re
import signal
import sys
from collections.abc import Iterable, Iterator

_OF_JAX = re.compile(r"[EF]\d{4} .*(coordination|client\.h|distributed service)")
LOST = (
    "error: another process of this run ended or cannot be reached any more; "
    "start the same command again in every process."
)
NOT_JOINED = (
    "error: not all processes joined in time; start the same command in every process, with one --coordinator_address "
    "that all can reach and with --process_id from 0 to --num_processes - 1."
)


def plain(lines: Iterable[str]) -> Iterator[str]:
    """Yields the lines of a process, except what JAX says about others; one line instead, if there is none of ours.

    What JAX says has no end marker, so it is taken to last until a line of ours.
    """
    held, fatal, ours = "", False, False
    for line in lines:
        if line.startswith(("error: ", "interrupted;", "terminated;", "hung up;")):
            ours, held = True, ""
        elif held or _OF_JAX.match(line):
            held += line
            fatal |= "Terminating process" in line
            continue
        yield line
    if fatal and not ours:
        yield f"{NOT_JOINED if 'RegisterTask' in held else LOST}\n"


def main() -> None:
    """Filters standard input to standard error, until the process at its other end is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for line in plain(sys.stdin):
        sys.stderr.write(line)
        sys.stderr.flush()


if __name__ == "__main__":
    main()
