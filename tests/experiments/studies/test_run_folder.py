"""What a run leaves on disk survives kills, damage and full disks."""

import errno
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from experiments.studies import lease, run_folder, whole_files
from experiments.studies.lease import BusyError, LeaseLostError
from experiments.studies.training_folder import TrainingFolder


class State(NamedTuple):
    step: Any
    params: Any


def make_state(seed: int) -> State:
    rng = np.random.default_rng(seed)
    params = {"a": {"kernel": rng.normal(size=(3, 5)).astype(np.float32)}, "b": (jnp.bfloat16(1.5), jnp.float32(seed))}
    return State(jnp.int32(seed), params)


def assert_equal_trees(one: State, other: State) -> None:
    assert int(one.step) == int(other.step)
    np.testing.assert_array_equal(one.params["a"]["kernel"], other.params["a"]["kernel"])
    assert one.params["b"][0].dtype == other.params["b"][0].dtype == jnp.bfloat16
    assert one.params["b"] == other.params["b"]


@pytest.fixture
def folder(tmp_path):
    return TrainingFolder(tmp_path / "run")


def test_checkpoint_round_trip_keeps_the_newest_two(folder):
    assert folder.load_checkpoint(make_state(0)) is None
    for step in (7, 11, 1000):
        folder.save_checkpoint(step, make_state(step), [{"step": step}])
    state, rows = folder.load_checkpoint(make_state(0))
    assert rows == [{"step": 1000}] == folder.saved_rows()
    assert_equal_trees(state, make_state(1000))
    assert sorted(path.name for path in (folder.path / "checkpoints").iterdir()) == [
        "000000011.msgpack",
        "000001000.msgpack",
    ]


def sealed(payload):
    """As a checkpoint is: behind its SHA-256."""
    return hashlib.sha256(payload).digest() + payload


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other_model", "earlier_version"])
def test_a_damaged_checkpoint_is_named_and_removed_and_the_older_one_used(folder, damage, capsys):
    folder.save_checkpoint(1, make_state(1), [])
    folder.save_checkpoint(2, {"other": jnp.zeros(3)} if damage == "other_model" else make_state(2), [])
    path = folder.path / "checkpoints" / "000000002.msgpack"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    without_rows = serialization.msgpack_serialize({"step": 2, "arrays": {}})
    written = {"truncate": content[:-3], "empty": b"", "earlier_version": sealed(without_rows)}
    path.write_bytes(written.get(damage, content))
    state, _ = folder.load_checkpoint(make_state(0))
    assert_equal_trees(state, make_state(1))
    assert "run run: checkpoints/000000002.msgpack cannot be used and is removed" in capsys.readouterr().err
    assert [path.name for path in folder.checkpoints()] == ["000000001.msgpack"]
    for step in (1, 2):  # what was removed is in nobody's way
        folder.save_checkpoint(step, make_state(step), [])
    assert len(folder.checkpoints()) == 2


def test_parameters_of_every_step_stay_beside_checkpoints_that_go(folder):
    assert folder.kept_steps() == []
    for step in (0, 7, 11, 1000):
        folder.keep_parameters(step, make_state(step).params)
        folder.save_checkpoint(step, make_state(step), [{"step": step}])
    folder.finish({"status": "done"})
    assert folder.kept_steps() == [0, 7, 11, 1000] and len(folder.checkpoints()) == 1
    for step in folder.kept_steps():
        kept = folder.load_parameters(step, make_state(0).params)
        assert_equal_trees(State(step, kept), make_state(step))
    before = folder.parameters_at(7).read_bytes()
    folder.keep_parameters(7, make_state(7).params)
    assert folder.parameters_at(7).read_bytes() == before, "a step that is trained again gives the same file"


@pytest.mark.parametrize(
    "damage, message",
    [
        ("flip", "parameters/000000002.msgpack cannot be used: its SHA-256 does not match"),
        ("truncate", "parameters/000000002.msgpack cannot be used: its SHA-256 does not match"),
        ("empty", "parameters/000000002.msgpack cannot be used: its SHA-256 does not match"),
        ("other_model", "parameters/000000002.msgpack cannot be used: its arrays are not those of this model"),
        ("other_step", "parameters/000000002.msgpack cannot be used: it is that of step 3"),
        ("deleted", "it keeps no parameters of step 2; 2 steps are kept, nearest first 3, 5"),
        ("all deleted", "it keeps no parameters along training; train with --config.train.keep_checkpoints=every"),
    ],
)
def test_damaged_parameters_are_named_and_left_alone(folder, damage, message):
    for step in (5, 3, 2):
        folder.keep_parameters(step, {"other": jnp.zeros(3)} if damage == "other_model" else make_state(step).params)
    path = folder.parameters_at(2)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    others = {"truncate": content[:-3], "empty": b"", "other_step": folder.parameters_at(3).read_bytes()}
    path.write_bytes(others.get(damage, content))
    for step in {"deleted": (2,), "all deleted": (2, 3, 5)}.get(damage, ()):
        folder.parameters_at(step).unlink()
    before = sorted(folder.path.rglob("*"))
    with pytest.raises(ValueError, match=f"run run: {message}") as caught:
        folder.load_parameters(2, make_state(0).params)
    assert "\n" not in str(caught.value) and sorted(folder.path.rglob("*")) == before


def test_a_digest_whose_name_is_damaged_is_not_taken_for_none(folder):
    """Files of earlier versions have none and are taken as they are."""
    folder.path.mkdir()
    folder.write("result.json", {"status": "done", "parameter_hash": "0" * 64, "metrics_sha256": "1" * 64})
    path = folder.path / "result.json"
    path.write_text(path.read_text().replace('"sha256"', '"shi256"'))
    with pytest.raises(run_folder.DamagedError, match="result.json is damaged: its SHA-256 does not match"):
        folder.read("result.json")
    path.write_text(json.dumps({"status": "done", "parameter_hash": "0" * 64}))
    assert folder.read("result.json")["status"] == "done"


def test_metrics_leave_out_a_torn_line_and_can_be_replaced(folder):
    folder.path.mkdir()
    for step in (10, 20, 30):
        folder.log({"step": step, "loss": np.float32(0.5), "bad": math.nan})
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "lo')
    assert [line["step"] for line in folder.metrics()] == [10, 20, 30]
    assert folder.metrics()[0] == {"step": 10, "loss": 0.5, "bad": None}
    folder.replace_metrics(folder.metrics()[:2])
    folder.log({"step": 30})
    assert [line["step"] for line in folder.metrics()] == [10, 20, 30]


def test_result_is_plain_json_and_damage_reads_as_unfinished(folder):
    folder.path.mkdir()
    assert folder.result() is None
    folder.save_checkpoint(1, make_state(1), [])
    folder.save_checkpoint(2, make_state(2), [])
    folder.finish({"accuracy": jnp.float32(0.25), "nan": math.nan, "inf": [math.inf], "tuple": (1, np.int64(2))})
    plain = {"accuracy": 0.25, "nan": None, "inf": [None], "tuple": [1, 2], "metrics_sha256": None}
    assert folder.result() == plain
    assert int(folder.load_checkpoint(make_state(0))[0].step) == 2
    (folder.path / "result.json").write_text('{"accuracy": 0.2')
    assert folder.result() is None


def test_a_result_is_whole_or_absent_whenever_the_process_is_killed(tmp_path):
    script = (
        "import sys\nfrom experiments.studies.training_folder import TrainingFolder\n"
        "folder = TrainingFolder(sys.argv[1])\n"
        "print('ready', flush=True)\nn = 0\n"
        "while True:\n    n += 1\n    folder.finish({'n': n, 'padding': ['x' * 1000] * 300})\n"
    )
    (tmp_path / "run").mkdir()
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE)
    process.stdout.readline()
    seen = 0
    while seen < 20:
        assert process.poll() is None
        path = tmp_path / "run" / "result.json"
        if path.exists():
            assert len(json.loads(path.read_bytes())["padding"]) == 300  # a reader never sees half a file
            seen += 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert len(TrainingFolder(tmp_path / "run").result()["padding"]) == 300


def test_a_full_disk_is_one_line_and_harms_nothing(folder, monkeypatch):
    folder.path.mkdir()
    folder.finish({"n": 1})
    folder.save_checkpoint(1, make_state(1), [])

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: folder.finish({"n": 2}),
        lambda: folder.save_checkpoint(2, make_state(2), []),
        lambda: folder.keep_parameters(2, make_state(2).params),
        lambda: folder.replace_metrics([{"step": 1}]),
        lambda: whole_files.check_writable(folder.path),
    ):
        with pytest.raises(whole_files.StorageError, match="cannot write .*: No space left on device.$"):
            write()
    monkeypatch.undo()
    assert folder.result()["n"] == 1
    assert int(folder.load_checkpoint(make_state(0))[0].step) == 1
    assert not list(folder.path.glob("**/.*.tmp")) and not list(folder.path.glob(".probe*"))


def test_one_process_at_a_time_writes(folder):
    other = TrainingFolder(folder.path)
    with folder.locked(), pytest.raises(BusyError, match="in use by another process"), other.locked():
        pass
    with other.locked():
        other.create({"task": "mqar"}, {})
        (folder.path / ".lease").write_text('{"token": "taken over"}')
        for write in (
            lambda: other.log({"step": 1}),
            lambda: other.replace_metrics([]),
            lambda: other.save_checkpoint(1, make_state(1), []),
            lambda: other.keep_parameters(1, make_state(1).params),
            lambda: other.write("config.json", {}),
            lambda: other.finish({"n": 1}),
        ):
            with pytest.raises(LeaseLostError, match="was taken over by another process"):
                write()
    assert other.read("config.json") == {"task": "mqar"} and not other.checkpoints() and not other.metrics()
    assert not other.kept_steps()


@pytest.mark.parametrize("left", [[".lease", ".beat-0123"], [".beat-0123"], [".lease-0123"]])
def test_what_a_process_left_that_died_after_the_end_of_the_run_goes(folder, left):
    folder.create({"seed": 3}, {})
    folder.finish({"status": "done"})
    before = sorted(folder.path.iterdir())
    for name in left:
        (folder.path / name).write_text(json.dumps({"token": "0123", "machine": lease._machine(), "pid": 2**22 + 1}))
    folder.tidy()
    assert sorted(folder.path.iterdir()) == before
    with folder.locked():
        TrainingFolder(folder.path).tidy()
        folder.check_lease()


def test_create_writes_config_and_manifest_and_sweeps_up(folder):
    folder.path.mkdir()
    for leftover in (".result.json.123.tmp", "error.txt"):
        (folder.path / leftover).write_text("of an earlier attempt")
    folder.create({"task": "mqar"}, {"version": "1.1"})
    assert folder.read("config.json") == {"task": "mqar"} and folder.read("manifest.json") == {"version": "1.1"}
    assert {path.name for path in folder.path.iterdir()} == {"checkpoints", "config.json", "manifest.json"}
    assert run_folder.open_study(folder.path.parent)[0].path == folder.path
