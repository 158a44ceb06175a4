"""The tiny run in a process of its own, whose signals are those of a terminal, however the tests were started."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from experiments.studies.training_folder import TrainingFolder
from tests.experiments.conftest import CONFIG
from tests.experiments.tiny import RESULT

# What runs in the background of a shell has SIGINT ignored, and hands that on to its children.
_WITH_DEFAULT_SIGNALS = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
# What waits for other processes looks often, or a test would wait for most of its time.
_IMPATIENT = """
def be_impatient():
    from experiments.studies import jobs, runner

    jobs._LOOKS_EVERY = runner._LOOKS_EVERY = 0.5

be_impatient()
"""


def start(
    folder: Path, *flags: str, hook: str = "", programs: Path | None = None, compiles: bool = False, **streams: Any
) -> subprocess.Popen:
    """Starts the run below `folder`; `streams` are those of `Popen`.

    It has no workers, unless `flags` name them.

    A `hook` is Python that stands in the config, and is thus executed in the command, its workers and its jobs.
    Compiled programs are taken from the folder `programs`; a result names the flags for it. Only a process that
    `compiles` writes there, which nobody may kill: JAX writes the files in place.
    """
    folder.mkdir(exist_ok=True)
    (folder / "tiny.py").write_text(CONFIG + _IMPATIENT + hook)
    places = f"--config={folder / 'tiny.py'}", f"--results={folder / 'results'}"
    command = ["-m", "experiments.run", *places, "--workers=1", *flags]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # it compiles longer than it trains
    if programs:
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(programs),
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0" if compiles else "1e9",
        }
    return subprocess.Popen([sys.executable, "-c", _WITH_DEFAULT_SIGNALS, *command], env=environment, **streams)


def wait_for_checkpoint(process: subprocess.Popen, folder: Path) -> None:
    """Waits until the run has written a checkpoint, or has ended."""
    before = set(_checkpoints(folder))
    while process.poll() is None and not set(_checkpoints(folder)) - before:
        time.sleep(0.002)


def _checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("results/tiny/*/checkpoints/*.msgpack"))


def hold_elsewhere(folder: TrainingFolder, status: str) -> threading.Event:
    """Holds the folder of a run as another process would; returns the event at which that ends it.

    Args:
      folder: of the run.
      status: "done" or "failed", with which it ends the run, or "died", and it leaves it as it is.
    """
    taken, end = threading.Event(), threading.Event()

    def other() -> None:
        with folder.locked():
            taken.set()
            end.wait()
            if status != "died":
                folder.finish(RESULT | {"status": status, "error": "boom"})

    threading.Thread(target=other, daemon=True).start()  # a test that fails must not wait for it
    taken.wait()
    return end
