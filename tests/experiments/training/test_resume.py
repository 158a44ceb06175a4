"""A run that is killed and started again ends with the same bits as one that never was."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.studies import run_folder
from tests.experiments.processes import python

TIMES = ("step_ms", "tokens_per_second")
CONFIG = """
from configs import base

def get_config():
    config = base.get_config()
    config.name = "resumed"
    config.task = "mqar:length=16,num_pairs=2,vocab_size=16"
    config.model.attention = "conv+linear"
    config.model.model_dim, config.model.num_heads = 24, 3
    config.train.steps, config.train.eval_every = 403, 13
    config.train.schedule = "cosine:warmup_steps=10"
    config.train.batch_size, config.eval.batch_size = 5, 32
    config.train.stop_when_solved = False
    config.eval.validation_rows, config.eval.test_rows = 32, 64
    return config
"""


def start(folder: Path) -> subprocess.Popen:
    arguments = ["-m", "experiments.run", f"--config={folder / 'tiny.py'}", f"--results={folder / 'results'}"]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # it compiles longer than it trains
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(python(*arguments), env=environment, text=True, **output)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    return out


def outcome(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the result and the metrics of the only run, without times."""
    (run,) = run_folder.open_study(folder / "results" / "resumed")
    result, metrics = run.result(), run.metrics()
    del result["metrics_sha256"]  # of the times in them, too
    for mapping in (result["compute"], *metrics):
        for name in TIMES:
            mapping.pop(name, None)
    return json.loads(json.dumps(result)), metrics


@pytest.mark.slow
def test_kill_at_random_moments_and_resume(tmp_path):
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.py").write_text(CONFIG)
    finish(start(tmp_path / "whole"))
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = start(tmp_path / "killed")
        checkpoints = tmp_path / "killed" / "results" / "resumed"
        before = set(checkpoints.glob("*/checkpoints/*.msgpack"))
        while process.poll() is None and not set(checkpoints.glob("*/checkpoints/*.msgpack")) - before:
            time.sleep(0.002)
        time.sleep(random.random() * 0.05)
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == code, (out, err)
        (run,) = run_folder.open_study(checkpoints)
        assert run.result() is None
    out = finish(start(tmp_path / "killed"))
    assert "step 13/403" not in out  # it continued
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
