"""Fixtures: the main command with a tiny config, a stand-in for training, and a browser."""

import sys
from typing import Any

import pytest

from experiments import cli, run
from experiments.reporting import html
from experiments.training import loop
from tests.experiments.tiny import RESULT

CONFIG = """
from configs import base

def get_config():
    config = base.get_config()
    config.name = "tiny"
    config.task = "mqar:length=16,num_pairs=2,vocab_size=19"
    config.model.attention = "conv+full"
    config.model.model_dim, config.model.num_heads = 12, 3
    config.train.steps, config.train.schedule, config.train.eval_every = 6, "cosine:warmup_steps=2", 3
    config.train.batch_size, config.eval.batch_size = 5, 7
    config.eval.validation_rows, config.eval.test_rows = 7, 14
    return config
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the main with arguments and gives (exit code, standard output, standard error).

    It trains in this process, unless told of other `workers`; None leaves their number to the command.
    """
    (tmp_path / "tiny.py").write_text(CONFIG)

    def call(
        *arguments: str, config: str | None = str(tmp_path / "tiny.py"), workers: int | None = 1
    ) -> tuple[int, str, str]:
        given = [f"--config={config}"] if config else []
        given += [f"--workers={workers}"] if workers else []
        monkeypatch.setattr(sys, "argv", ["run", *given, f"--results={tmp_path / 'results'}", *arguments])
        code = cli.execute(run.run, run.FLAGS)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def trained(monkeypatch):
    """Replaces training; returns the list of runs that were trained. A test may set `trained.act`."""

    class Trained(list):
        act: Any = None

    calls = Trained()

    def fake(run, folder, report, source=None):
        calls.append(run)
        result = calls.act(run) if calls.act else RESULT
        event = {"step": 3, "steps": 6, "train_loss": 1.0, "validation_accuracy": 0.5, "validation_loss": 1.0}
        folder.replace_metrics([event])
        report(event | {"tokens_per_second": 5000.0, "seconds_left": 1.0})
        return result

    monkeypatch.setattr(loop, "train", fake)
    monkeypatch.setattr(html, "write_report", lambda folder: folder / "report.html")
    return calls


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium for the tests of a file."""
    from tests.experiments.reporting import browser as tools  # whoever tests no page needs no driver

    if not tools.find_chromium():
        tools.missing("Chromium", "install one, such as the package chromium of your system")
    with tools.chromium() as started:
        yield started
