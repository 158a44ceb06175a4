"""The process: its numbers depend on no flag of jax in the environment."""

import os
import subprocess
import sys

import pytest

from experiments import cli, runtime, show_task

PROGRAM = """
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.training.outcome import parameter_hash
from experiments.training.step import initial_state
import hashlib, jax, numpy as np
run = Run.read(Config())
rows = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(run.task.sample(jax.random.key(0), 4)))
print(parameter_hash(initial_state(run).params), hashlib.sha256(rows).hexdigest())
"""


def bits(**flags: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment | flags, capture_output=True, text=True, check=True
    ).stdout


def test_where_there_is_no_device_one_line_says_so(monkeypatch, capsys):
    def backends() -> None:
        raise AssertionError

    monkeypatch.setattr("jax.devices", backends)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(sys, "argv", ["show_task", "--task=mqar"])
    assert cli.execute(show_task.run, show_task.FLAGS) == 2
    line = "error: JAX finds no device for JAX_PLATFORMS='cuda'; unset it, or set JAX_PLATFORMS=cpu.\n"
    assert capsys.readouterr() == ("", line)


def test_a_run_names_the_flags_that_may_move_its_numbers_or_times(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("JAX_", "XLA_"))]:
        monkeypatch.delenv(name)
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "1")
    assert runtime.environment()["flags"] == {}
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=~/programs")
    assert runtime.environment()["flags"] == {"JAX_ENABLE_X64": "1", "XLA_FLAGS": "--xla_dump_to=(path)"}


@pytest.mark.slow
def test_flags_of_jax_move_no_bit() -> None:
    plain = bits()
    assert len(plain.split()) == 2
    assert bits(JAX_DEFAULT_PRNG_IMPL="rbg", JAX_ENABLE_X64="1", JAX_THREEFRY_PARTITIONABLE="0") == plain
