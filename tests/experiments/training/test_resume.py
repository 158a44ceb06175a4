"""A run that is killed and started again ends with the same bits as one that never was."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.studies import run_folder
from tests.experiments.processes import start, wait_for_checkpoint

TIMES = ("step_ms", "tokens_per_second", "seconds")
LINES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
FLAGS = (
    *("--config.model.attention=conv+linear", "--config.model.model_dim=24", "--config.train.stop_when_solved=false"),
    *("--config.train.steps=403", "--config.train.eval_every=13", "--config.train.keep_checkpoints=every"),
)


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, (out, err)
    return out


def outcome(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the result and the metrics of the only run, without times."""
    (run,) = run_folder.open_study(folder / "results" / "tiny")
    result, metrics = run.result(), run.metrics()
    del result["metrics_sha256"]  # of the times in them, too
    for mapping in (result["compute"], *metrics):
        for name in TIMES:
            mapping.pop(name, None)
    return json.loads(json.dumps(result)), metrics


def parameters(folder: Path) -> dict[str, bytes]:
    """Returns the files of the parameters that the only run kept."""
    (run,) = run_folder.open_study(folder / "results" / "tiny")
    return {path.name: path.read_bytes() for path in (run.path / "parameters").iterdir()}


@pytest.mark.slow
def test_kill_at_random_moments_and_resume(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    finish(start(whole, *FLAGS, **LINES))
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = start(killed, *FLAGS, **LINES)
        wait_for_checkpoint(process, killed)
        time.sleep(random.random() * 0.05)
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == code, (out, err)
        (run,) = run_folder.open_study(killed / "results" / "tiny")
        assert run.result() is None
    out = finish(start(killed, *FLAGS, **LINES))
    assert "step 13/403" not in out  # it continued
    assert outcome(killed) == outcome(whole)
    assert parameters(killed) == parameters(whole) and len(parameters(whole)) == 32
