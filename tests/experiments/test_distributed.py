"""Processes that share every batch of a run: on loopback, as on several hosts."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import cli, distributed, plain_errors, runtime
from experiments.reporting import html
from experiments.studies import run_folder
from experiments.training import parallel
from tests.experiments.processes import start, wait_for_checkpoint

FLAGS = (
    *("--config.train.batch_size=8", "--config.eval.batch_size=8", "--config.model.attention=conv+performer"),
    *("--config.train.stop_when_solved=false", "--config.train.eval_every=1"),
)
LONG = ("--config.train.steps=300", "--config.train.eval_every=10")
STREAMS = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def places(number: int) -> list[tuple[str, ...]]:
    """Returns the flags in which the processes of a run differ."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"--coordinator_address=127.0.0.1:{free.getsockname()[1]}"
    return [(address, f"--num_processes={number}", f"--process_id={place}") for place in range(number)]


def start_two(folder: Path, *flags: str) -> list[subprocess.Popen]:
    return [start(folder, "--distributed", *FLAGS, *flags, *place, **STREAMS) for place in places(2)]


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Returns the exit code, standard output and standard error of each."""
    spoken = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *said) for process, said in zip(processes, spoken, strict=True)]


def only_run(folder: Path) -> run_folder.RunFolder:
    (run,) = run_folder.open_study(folder / "results" / "tiny")
    return run


def scores(folder: Path) -> list[float]:
    """Returns the losses of every step and the scores of the only run."""
    run, names = only_run(folder), ("train_loss", "validation_accuracy", "validation_loss")
    result = run.result() or {}
    return [row[name] for row in run.metrics() for name in names] + [result["test_loss"], result["test_accuracy"]]


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_device(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    ((code, out, err),) = ends([start(one, *FLAGS, **STREAMS)])
    assert code == 0, err
    first, second = ends(start_two(two))
    assert (first[0], first[2]) == (0, ""), first
    assert second == (0, "", ""), "the second process writes and says nothing"
    np.testing.assert_allclose(scores(two), scores(one), rtol=2e-4)
    written = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (one, two)]
    assert written[0] == written[1]
    alone, together = (only_run(folder).read("manifest.json") or {} for folder in (one, two))
    assert (alone["environment"]["devices"], alone["environment"].get("processes")) == (1, None)
    assert (together["environment"]["devices"], together["environment"]["processes"]) == (2, 2)
    assert "127.0.0.1" not in json.dumps(together) and "--distributed" in together["command"]


@pytest.mark.slow
def test_where_one_process_dies_the_other_ends_and_the_same_command_goes_on(tmp_path):
    for victim in (1, 0):
        processes = start_two(tmp_path, *LONG)
        wait_for_checkpoint(processes[0], tmp_path)
        processes[victim].send_signal(signal.SIGKILL)
        started = time.monotonic()
        code, out, err = ends(processes)[1 - victim]
        assert code not in (0, 2) and err.splitlines() == [plain_errors.LOST], err
        assert time.monotonic() - started < distributed.SILENT_AFTER
        assert only_run(tmp_path).result() is None
        assert victim == 1 or "step 10/300" not in out, "it continued"
    ((code, out, err),) = ends([start(tmp_path, *FLAGS, *LONG, **STREAMS)])  # on one device
    assert code == 0 and "step 10/300" not in out, (out, err)
    assert [row["step"] for row in only_run(tmp_path).metrics()] == list(range(10, 301, 10))
    assert not list(tmp_path.rglob(".lease*"))


@pytest.mark.slow
def test_processes_that_are_told_different_things_all_refuse(tmp_path):
    rates = ("--config.train.learning_rate=0.1", "--config.train.learning_rate=0.2")
    processes = [
        start(tmp_path, "--distributed", *FLAGS, rate, *place, **STREAMS)
        for rate, place in zip(rates, places(2), strict=True)
    ]
    for code, out, err in ends(processes):
        assert out == "" and err.count("\n") == 1, err
        assert (code, "must be given the same command" in err) == (2, True) or (
            code != 0 and err == f"{plain_errors.LOST}\n"
        )
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_four_devices_of_one_process_are_a_flag(command, tmp_path, monkeypatch):
    monkeypatch.setattr(html, "write_report", lambda folder: folder / "report.html")
    code, _, err = command(*FLAGS, "--devices=4", "--config.train.steps=2")
    assert (code, err) == (0, "")
    assert (only_run(tmp_path).result() or {})["environment"]["devices"] == 4
    assert parallel.devices() == parallel.Devices(), "the next command has one device again"


PLACE = ("--coordinator_address=127.0.0.1:1", "--num_processes=2", "--process_id=0")  # nobody listens there
REFUSED = [
    (["--num_processes=2"], ["--num_processes", "--distributed"]),
    (["--coordinator_address=a:1"], ["--coordinator_address", "--distributed"]),
    (["--distributed", "--process_id=0"], ["together", "--process_id", "--num_processes"]),
    (["--distributed", *PLACE, "--process_id=2"], ["--process_id", "2"]),
    (["--distributed", *PLACE, "--coordinator_address=host"], ["host:port", "'host'"]),
    (["--distributed", *PLACE, "--coordinator_address=a:1:x"], ["host:port", "'a:1:x'"]),
    (["--distributed", *PLACE, "--coordinator_address=a:65536"], ["host:port", "'a:65536'"]),
    (["--distributed", "--devices=2"], ["--devices", "--distributed"]),
    (["--distributed", "--workers=2"], ["--distributed", "--workers=2"]),
    (["--devices=2", "--workers=2"], ["--devices=2", "--workers=2"]),
    (["--devices=2", "--executor=local"], ["--devices=2", "--executor"]),
    (["--distributed", "--executor=local"], ["--distributed", "--executor"]),
    (["--devices=0"], ["devices", "0"]),
    (["--devices=9"], ["--devices=9", "8"]),
    (["--devices=4"], ["train.batch_size", "5", "4 or 8"]),
    (["--num_processes=0", "--distributed"], ["num_processes", "0"]),
]


@pytest.mark.parametrize("arguments, names", REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_flags_that_contradict_each_other_are_one_line(command, trained, tmp_path, arguments, names):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("error: "), (out, err)
    for name in names:
        assert name in err
    assert not trained and not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("taken", [True, False])
def test_what_keeps_a_process_from_joining_is_one_line(tmp_path, taken):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        flags = (f"--coordinator_address={address}", "--num_processes=2", "--process_id=0") if taken else ()
        ((code, out, err),) = ends([start(tmp_path, "--distributed", *FLAGS, *flags, **STREAMS)])
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert ("must be a free port" if taken else "finds no cluster") in err


def test_a_plan_needs_no_other_process(command):
    code, out, err = command("--distributed", "--dry_run", *places(2)[1])
    assert (code, err) == (0, "") and "conv+full" in out


def test_a_manifest_names_no_host():
    shared = ["--config=c.py", "--distributed", "--devices=1", "--seeds", "3"]
    for given in (places(3)[2], ("--coordinator_address", "host:1", "-num_processes", "3", "--process_id", "2")):
        assert distributed.without_places([*shared[:2], *given, *shared[2:]]) == shared


SILENT = """F1126 13:57:02.822056 4619 client.h:80] Terminating process because the JAX distributed service detected \
fatal errors. This most likely indicates that another task died
The tasks have crashed. Check the task logs for an earlier error.

RPC: /xla.coordination.CoordinationService/PollForError [type.googleapis.com/tensorflow.CoordinationServiceError='']
*** Check failure stack trace: ***
    @     0x7efc82040634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""
WARNED = "E1126 13:57:02.821899 4619 coordination_service_agent.cc:289] Polled an error from coordination service.\n"


@pytest.mark.parametrize(
    "said, heard",
    [
        ("", ""),
        ("a warning\nand more\n", "a warning\nand more\n"),
        ("a warning\n" + SILENT, f"a warning\n{plain_errors.LOST}\n"),
        (WARNED + SILENT, f"{plain_errors.LOST}\n"),
        (SILENT.replace("PollForError", "RegisterTask"), f"{plain_errors.NOT_JOINED}\n"),
        (WARNED + "error: a disk is full.\n", "error: a disk is full.\n"),
        ("error: a disk is full.\n" + SILENT, "error: a disk is full.\n"),
        (
            WARNED + "terminated; run the same command again to continue.\n",
            "terminated; run the same command again to continue.\n",
        ),
        ("E1126 13:57:02.8 1 allocator.cc:1] out of memory\n", "E1126 13:57:02.8 1 allocator.cc:1] out of memory\n"),
    ],
)
def test_what_jax_says_of_other_processes_becomes_one_line(said, heard):
    assert "".join(plain_errors.plain(said.splitlines(keepends=True))) == heard


def test_an_exception_with_others_waiting_ends_the_command(monkeypatch):
    monkeypatch.setattr(parallel.Devices, "processes", 2)
    for error, kind, expected in (
        (ValueError("Gloo all-reduce failed"), parallel.LostProcessError, plain_errors.LOST.removeprefix("error: ")),
        (RuntimeError("a bug"), parallel.OutOfStepError, "this process cannot go on: RuntimeError: a bug."),
    ):
        with pytest.raises(kind, match=f"^{expected}$"), parallel.in_step():
            raise error
    with pytest.raises(OSError, match="full"), parallel.in_step():
        raise OSError("full")
    monkeypatch.setattr(parallel.Devices, "processes", 1)
    with pytest.raises(RuntimeError, match="^a bug$"), parallel.in_step():
        raise RuntimeError("a bug")
    assert not issubclass(parallel.OutOfStepError, cli.USAGE_ERRORS), "its exit code is 1"


def test_an_environment_says_how_many_share_a_batch_and_not_where(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "some.host:1")
    assert "some.host" not in str(runtime.environment())
    assert runtime.environment()["devices"] == 1 and "processes" not in runtime.environment()
    shared = runtime.environment(8, 2)
    assert (shared["devices"], shared["processes"]) == (8, 2)
