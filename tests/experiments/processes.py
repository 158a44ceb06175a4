"""Commands in a process of their own whose signals are those of a terminal, however the tests were started."""

import sys

# What runs in the background of a shell has SIGINT ignored, and hands that on to its children.
_WITH_DEFAULT_SIGNALS = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def python(*arguments: str) -> list[str]:
    """Returns the command that runs Python with these arguments."""
    return [sys.executable, "-c", _WITH_DEFAULT_SIGNALS, *arguments]
