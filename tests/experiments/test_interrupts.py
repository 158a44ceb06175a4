"""A signal ends a command within a moment, in one line, whatever it is doing; the same command goes on."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from experiments.studies import run_folder
from tests.experiments.processes import start, wait_for_checkpoint

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
MOMENTS = np.geomspace(0.3, 3, 21)  # seconds: start-up, imports, compilation; a third of them for each signal
ENDLESS = "--config.train.steps=20000", "--config.train.stop_when_solved=false"


class Screen:
    """What reads the other end all the time, as a terminal does: one that is full takes no last line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._parts = descriptor, []
        os.set_blocking(descriptor, False)
        self._over = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        while not self._over.wait(0.01):
            self._take()

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(self._descriptor, 1 << 16):
                self._parts.append(part)

    def text(self) -> str:
        """Returns all that was written, once nothing more will be."""
        self._over.set()
        self._reading.join()
        self._take()
        return b"".join(self._parts).decode()


@contextlib.contextmanager
def terminal_or_pipe(terminal: bool) -> Iterator[tuple[Screen, int]]:
    """Yields what is seen, and a descriptor to write to."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    screen = Screen(reader)
    try:
        yield screen, writer
    finally:
        screen.text()
        for end in (reader, writer):
            os.close(end)


@pytest.mark.slow
@pytest.mark.parametrize("number", WORDS, ids=lambda number: number.name)
def test_a_signal_at_any_moment_is_one_line_and_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    own = MOMENTS[[*WORDS].index(number) :: len(WORDS)]
    for trial, moment in enumerate([*own, None, None]):  # None: while it trains
        with terminal_or_pipe(terminal=trial % 2 == 1) as (screen, writer):
            process = start(tmp_path, *ENDLESS, stdin=writer, stdout=writer, stderr=writer)
            if moment is None:
                wait_for_checkpoint(process, tmp_path)
            else:
                time.sleep(moment)
            sent = time.monotonic()
            process.send_signal(number)
            code = process.wait(timeout=30)
            assert time.monotonic() - sent < 2, moment
            text = screen.text()
            assert os.get_blocking(writer), "what it shares with a shell is as it was"
        assert code == 128 + number, (moment, text)
        *before, last = re.split(r"[\r\n]+", text.strip())
        assert last.removeprefix("\x1b[K") == f"{WORDS[number]}; run the same command again to continue."
        assert not any(word in line for line in before for word in ("Traceback", "Exception", "Error"))
        assert text.rfind("\x1b[?25h") >= text.rfind("\x1b[?25l"), "the cursor is hidden"
    (run,) = run_folder.open_study(tmp_path / "results" / "tiny")
    assert run.metrics() and run.result() is None


@pytest.mark.slow
def test_what_its_parent_ignores_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` does."""
    program = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'experiments.show_task', '--task=mqar:length=16,num_pairs=2'])"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    time.sleep(1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0


WARNED = """
import sys, time
from experiments import cli, interrupts

def run():
    if state == "idle":
        print("ready", flush=True)
        time.sleep(600)
    with interrupts.unsaved(lambda: print("told", flush=True)):
        print("ready", flush=True)
        while not interrupts._warned.is_set():
            time.sleep(0.01)
        print("saved", flush=True)
        try:
            if state == "checkpoint":
                interrupts.leave_if_warned()
        except Exception:
            print("lost", flush=True)
        print("end", flush=True)
    print("lost", flush=True)

state = sys.argv.pop()
cli.main(run, cli.new_flags())
"""


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("idle", ["ready"]),
        ("checkpoint", ["ready", "told", "saved"]),
        ("end", ["ready", "told", "saved", "end"]),
    ],
)
def test_a_warning_ends_what_is_idle_at_once_and_what_is_not_where_it_has_saved(state: str, said: list[str]) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WARNED, state], **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (138, "warned; run the same command again to continue.\n")
    assert sorted(["ready", *out.splitlines()]) == sorted(said)
