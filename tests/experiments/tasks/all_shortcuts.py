"""Every NumPy twin of a shortcut: those of shortcuts.py here, and of the shortcuts.py of each family."""

import importlib
import pathlib

from tests.experiments.tasks import shortcuts
from tests.experiments.tasks.shortcuts import Guess, Unseen

COMMON: dict[str, Guess] = shortcuts.COMMON
GUESSES: dict[tuple[str, str], Guess] = dict(shortcuts.GUESSES)
UNSEEN: dict[str, Unseen] = dict(shortcuts.UNSEEN)
for _path in sorted(pathlib.Path(__file__).parent.glob("*/shortcuts.py")):
    _family = importlib.import_module(f"tests.experiments.tasks.{_path.parent.name}.shortcuts")
    GUESSES |= getattr(_family, "GUESSES", {})
    UNSEEN |= getattr(_family, "UNSEEN", {})
