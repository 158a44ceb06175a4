"""The process: its numbers depend on no flag of jax in the environment."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.training.loop import parameter_hash
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


@pytest.mark.slow
def test_flags_of_jax_move_no_bit() -> None:
    plain = bits()
    assert len(plain.split()) == 2
    assert bits(JAX_DEFAULT_PRNG_IMPL="rbg", JAX_ENABLE_X64="1", JAX_THREEFRY_PARTITIONABLE="0") == plain
