"""What is kept of a command: enough to repeat it, nothing that says whose machine it ran on."""

import os
import shlex
from pathlib import Path


def without_machine(command: str) -> str:
    """Returns a command whose paths are relative to the working folder, or begin with "~" in the home folder."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return shlex.join(_shorter(word) for word in words)


def _shorter(word: str) -> str:
    flag, equals, value = word.rpartition("=")
    for folder, name in ((os.getcwd(), ""), (str(Path.home()), "~/")):
        if len(folder) > 1 and value.startswith(f"{folder}/"):
            return f"{flag}{equals}{name}{value.removeprefix(f'{folder}/')}"
    return word
