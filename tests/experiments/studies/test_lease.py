"""One process at a time works in a folder, whatever dies, stops or has another clock, and without locks."""

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from experiments.studies import lease
from experiments.studies.lease import BusyError, LeaseLostError, leased

HOLDER = """
import pathlib, sys, time
from experiments.studies import lease
lease.BEATS_EVERY = 0.05
lease._machine = lambda: sys.argv[2]
with lease.leased(pathlib.Path(sys.argv[1])) as held:
    print("held", flush=True)
    for line in sys.stdin:
        try:
            held.check()
            print("mine", flush=True)
        except lease.LeaseLostError:
            print("lost", flush=True)
"""


@pytest.fixture
def holder(tmp_path):
    """Returns how to start a process that holds the lease of `tmp_path` as one of some machine, beating quickly."""
    started = []

    def start(machine):
        command = [sys.executable, "-c", HOLDER, str(tmp_path), machine]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, **pipes)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            pipe.close()


def ask(process):
    """Returns what the holder thinks of its lease."""
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def try_to_hold(folder):
    with leased(folder) as held:
        held.check()
    return True


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_of_many_that_try_one_at_a_time_has_it(tmp_path):
    inside, most, entered, barrier = [], [], [], threading.Barrier(20)

    def work():
        barrier.wait()
        for _ in range(10):
            try:
                with leased(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
                    entered.append(1)
            except BusyError:
                time.sleep(0.001)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered and set(most) == {1} and files(tmp_path) == []


def test_a_living_process_keeps_it_and_one_that_ends_gives_it_back(tmp_path, holder):
    process = holder(lease._machine())
    with pytest.raises(BusyError, match="is in use by another process"):
        try_to_hold(tmp_path)
    assert ask(process) == "mine"
    process.stdin.close()
    process.wait()
    assert files(tmp_path) == [] and try_to_hold(tmp_path)


def test_that_of_a_killed_process_of_this_machine_is_free_at_once(tmp_path, holder):
    process = holder(lease._machine())
    process.kill()
    process.wait()
    assert ".lease" in files(tmp_path) and try_to_hold(tmp_path) and files(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("off", [-600, 0, 600])
def test_that_of_a_vanished_machine_is_free_when_it_is_silent_for_long(tmp_path, holder, monkeypatch, off):
    """Whatever its clock says, and not before."""
    process = holder("elsewhere")
    monkeypatch.setattr(lease, "EXPIRES_AFTER", 0.6)
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        with pytest.raises(BusyError):
            try_to_hold(tmp_path)
        time.sleep(0.02)
    process.kill()
    process.wait()
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() + off,) * 2)
    silent = time.monotonic()
    while True:
        try:
            assert try_to_hold(tmp_path)
            break
        except BusyError:
            time.sleep(0.02)
    assert 0.5 < time.monotonic() - silent < 5 and files(tmp_path) == []


def test_a_process_that_was_stopped_for_long_knows_that_it_lost_it(tmp_path, holder, monkeypatch):
    process = holder(lease._machine())  # alive, and of this machine
    monkeypatch.setattr(lease, "EXPIRES_AFTER", 0.3)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)  # until it stands still: on a busy machine one more heartbeat may come first
    with pytest.raises(BusyError):
        try_to_hold(tmp_path)
    time.sleep(0.4)
    with leased(tmp_path) as held:
        os.kill(process.pid, signal.SIGCONT)
        assert ask(process) == "lost"
        process.stdin.close()
        process.wait()
        held.check()
    assert files(tmp_path) == []


def test_of_two_that_find_it_expired_one_gets_it(tmp_path, monkeypatch):
    """The slower one finds the new lease in place of the one that had expired, and puts it back."""
    (tmp_path / ".lease").write_text(json.dumps({"token": "old", "machine": lease._machine(), "pid": 2**22 + 1}))
    rename, quicker = os.rename, []

    def after_the_other(source, target):
        monkeypatch.setattr(os, "rename", rename)
        context = leased(tmp_path)
        quicker.append((context, context.__enter__()))
        rename(source, target)

    monkeypatch.setattr(os, "rename", after_the_other)
    with pytest.raises(BusyError):
        try_to_hold(tmp_path)
    ((context, held),) = quicker
    held.check()
    context.__exit__(None, None, None)
    assert files(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_lease_without_words_expires_like_any(tmp_path, monkeypatch, content):
    """Its process died before it had written them."""
    (tmp_path / ".lease").write_text(content)
    with pytest.raises(BusyError):
        try_to_hold(tmp_path)
    monkeypatch.setattr(lease, "EXPIRES_AFTER", 0.0)
    assert try_to_hold(tmp_path) and files(tmp_path) == []


def test_what_is_left_of_others_is_known(tmp_path):
    with leased(tmp_path):
        time.sleep(0.05)
        for name in (".beat-0123", ".lease-0123"):
            (tmp_path / name).touch()
        assert sorted(path.name for path in lease.leftovers(tmp_path)) == [".beat-0123", ".lease-0123"]


def test_a_lease_names_no_host_and_no_user(tmp_path):
    with leased(tmp_path):
        held = json.loads((tmp_path / ".lease").read_text())
    assert set(held) == {"token", "machine", "pid", "started"}
    assert socket.gethostname() not in str(held) and getpass.getuser() not in str(held)


def test_who_lost_it_gives_nothing_back(tmp_path):
    with pytest.raises(LeaseLostError), leased(tmp_path) as held:
        (tmp_path / ".lease").write_text(json.dumps({"token": "of another"}))
        held.check()
    assert ".lease" in files(tmp_path)
