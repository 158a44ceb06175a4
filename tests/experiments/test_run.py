"""The main command: what it refuses, what it repeats, and what it tells. Training is mostly replaced by a stand-in."""

import errno
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from attention_variants import specs
from attention_variants.variants.sliding_window import SlidingWindowAttention
from experiments import cli, run
from experiments.analysis import compute
from experiments.config import identity
from experiments.config.files import load_config
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.reporting import html
from experiments.studies import progress, run_folder, runner
from experiments.tasks.recall.mqar import MQAR
from experiments.training import loop, other_rows

CONFIG = """
from configs import base

def get_config():
    config = base.get_config()
    config.name = "tiny"
    config.task = "mqar:length=16,num_pairs=2,vocab_size=16"
    config.model.attention = "conv+full"
    config.model.model_dim, config.model.num_heads = 12, 3
    config.train.steps, config.train.schedule, config.train.eval_every = 6, "cosine:warmup_steps=2", 3
    config.train.batch_size, config.eval.batch_size = 5, 7
    config.eval.validation_rows, config.eval.test_rows = 7, 14
    return config
"""
RESULT = {
    "status": "done",
    "test_accuracy": 0.75,
    "validation_accuracy": 0.75,
    "test_loss": 1.0,
    "floor": 0.5,
    "ceiling": 1.0,
    "slices": {},
    "tests": [],
    "task": {
        "name": "mqar",
        "fields": {},
        "train_length": 16.0,
        "tolerance": None,
        "loss_floor": None,
        "slice_labels": {},
    },
    "model": {"layers": 2, "model_dim": 12, "mlp_dim": 0},
    "steps": 6,
    "steps_to_solve": None,
    "compute": {"params": 7, "control_params": 0, "train_flops_executed": 11, "cache_bytes": 13},
    "parameter_hash": "0",
}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the main with arguments and gives (exit code, standard output, standard error)."""
    (tmp_path / "tiny.py").write_text(CONFIG)

    def call(*arguments: str, config: str | None = str(tmp_path / "tiny.py")) -> tuple[int, str, str]:
        given = [f"--config={config}"] if config else []
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

    def fake(run, folder, report):
        calls.append(run)
        result = calls.act(run) if calls.act else RESULT
        event = {"step": 3, "steps": 6, "train_loss": 1.0, "validation_accuracy": 0.5, "validation_loss": 1.0}
        folder.log(event)
        report(event | {"tokens_per_second": 5000.0, "seconds_left": 1.0})
        return result

    monkeypatch.setattr(loop, "train", fake)
    monkeypatch.setattr(html, "write_report", lambda folder: folder / "report.html")
    return calls


BAD_INPUT = [  # arguments, what the line must name
    (["--config.model.attention=ful"], ["'ful'", "full"]),
    (["--config.model.attention=sliding_window:window=8"], ["'window'", "window_size"]),
    (["--config.model.attention=sliding_window:window_size=0"], ["window_size", "0"]),
    (["--config.model.attention=sliding_window:window_size=-3"], ["window_size", "-3"]),
    (["--config.model.attention=sliding_window:window_size=big"], ["window_size", "integer", "'big'"]),
    (["--config.model.attention=full+"], ["empty layer"]),
    (["--config.task=mqra"], ["'mqra'", "mqar"]),
    (["--config.task=mqar:lenght=16"], ["'lenght'", "length"]),
    (["--config.task=mqar:length=16,num_pairs=5,vocab_size=16"], ["length", "num_pairs", "5"]),
    (["--config.model.num_heads=5"], ["num_heads", "model_dim", "5", "12"]),
    (["--config.model.position=ropes"], ["'ropes'", "rope"]),
    (["--config.model.model_dims=12"], ["'model.model_dims'", "model.model_dim"]),
    (["--config.train.lr=1"], ["'train.lr'", "train.learning_rate"]),
    (["--config.train.learning_rate=nan"], ["train.learning_rate", "finite", "'nan'"]),
    (["--config.train.learning_rate=-1"], ["train.learning_rate", "-1"]),
    (["--config.train.learning_rate=fast"], ["train.learning_rate", "'fast'"]),
    (["--config.train.steps=0"], ["train.steps", "0"]),
    (["--config.train.steps=2.5"], ["train.steps", "integer", "'2.5'"]),
    (["--config.train.steps"], ["--config.train.steps needs a value"]),
    (["--config.train"], ["'train' is a section", "train.batch_size"]),
    (["--config.train.warmup_steps=3"], ["train.schedule=cosine:warmup_steps"]),
    (["--config.train.optimizer=adam"], ["train.optimizer", "'adam'", "adamw"]),
    (["--config.train.schedule=cosine:warmup_steps=9"], ["train.schedule", "9 and 6"]),
    (
        ["--config.eval.shifted=mqar:length=8,num_pairs=2,vocab_size=16|mqar:num_pairs=2,length=8,vocab_size=16"],
        ["twice"],
    ),
    (["--vary=model.attention=conv+full|conv:kernel_size=3+full"], ["same run twice"]),
    (["--select=train.lr"], ["--select", "'train.lr'", "train.learning_rate"]),
    (["--select=train.steps", "--vary=seed=1|2"], ["--select", "'train.steps' is not varied"]),
    (["--config.study.select=('train.lr',)"], ["study.select", "'train.lr'", "train.learning_rate"]),
    (["--config.study.select=('train.lr'"], ["study.select must be a tuple of strings"]),
    (["--config.seed=-1"], ["seed", "-1"]),
    (["--config.name=../elsewhere"], ["name", "'../elsewhere'"]),
    (["--vary=model.atention=full|linear"], ["'model.atention'", "model.attention"]),
    (["--vary=model.attention=full|liner"], ["'liner'", "linear"]),
    (["--vary=train.learning_rate=0.1|inf"], ["train.learning_rate", "'inf'"]),
    (["--vary=model.attention=full|full:block_size=512"], ["same run twice"]),
    (["--vary=model.attention=full|sliding_window:window_size=3000000000"], ["window_size", "at most"]),
    (["--vary=model.attention=full|conv:kernel_size=99999"], ["kernel_size", "at most"]),
    (["--config.train.steps=99999999999999"], ["train.steps", "at most"]),
    (["--config.model.model_dim=1000000000"], ["model.model_dim", "at most"]),
    (["--config.model.num_heads=1", "--vary=model.num_heads=1|2"], ["model.num_heads", "give one of them"]),
    (["--seeds=0"], ["seeds", "0"]),
    (["--seeds=many"], ["seeds", "many"]),
    (["--sedes=3"], ["--sedes", "--seeds"]),
    (["--confg.train.steps=3"], ["confg"]),
    (["stray"], ["'stray'"]),
    (["--dry_run", "results/tiny"], ["'results/tiny'"]),
]


@pytest.mark.parametrize("arguments, names", BAD_INPUT, ids=[" ".join(arguments) for arguments, _ in BAD_INPUT])
def test_bad_input_is_one_line_before_any_training(command, trained, tmp_path, arguments, names):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith("error: "), (out, err)
    for name in names:
        assert name in err
    assert not trained and not (tmp_path / "results").exists()


def test_a_missing_or_failing_config_file_is_one_line(command, tmp_path):
    (tmp_path / "broken.py").write_text("def get_config():\n    return 1 / 0\n")
    for config, message in (
        (tmp_path / "tinny.py", f"nearest: {tmp_path / 'tiny.py'}"),
        (tmp_path / "broken.py", "ZeroDivisionError: division by zero (line 2)"),
        (tmp_path, "there is no file"),
        (None, "--config is required"),
    ):
        code, out, err = command(config=config and str(config))
        assert (code, out) == (2, "") and err.count("\n") == 1 and message in err


def test_a_results_folder_that_cannot_be_written_is_one_line(command, trained, tmp_path, monkeypatch):
    (tmp_path / "results").write_text("a file")
    code, _, err = command()
    assert code == 2 and err.count("\n") == 1 and str(tmp_path / "results") in err
    (tmp_path / "results").unlink()

    def read_only(*arguments: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", read_only)
        code, _, err = command()
    assert code == 2 and err.count("\n") == 1 and "Read-only file system" in err
    assert not trained


@pytest.mark.parametrize("full_at", [0, 1], ids=["while training", "at the result"])
def test_a_disk_that_fills_up_is_one_line_and_harms_nothing(command, trained, tmp_path, monkeypatch, full_at):
    assert command()[0] == 0
    (before,) = run_folder.open_study(tmp_path / "results" / "tiny")

    def full(run):
        calls = itertools.count()

        def fsync(descriptor: int) -> None:
            if next(calls) == full_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", fsync)
        return RESULT

    trained.act = full
    with monkeypatch.context() as patch:
        code, _, err = command("--vary=model.attention=full|conv+full")
    assert code == 2 and err.count("\n") == 1 and "No space left on device" in err
    assert before.result()["test_accuracy"] == 0.75
    trained.act = None
    code, out, _ = command("--vary=model.attention=full|conv+full")
    assert code == 0 and len(trained) == 3  # the first, the one that met the full disk, and that one again


def test_ended_runs_are_not_repeated_and_overrides_reach_training(command, trained):
    arguments = ("--vary=model.attention=full|conv+full", "--seeds=2", "--config.train.learning_rate", "1e-2")
    code, out, _ = command(*arguments)
    assert code == 0 and "Report: " in out and "report.html" in out and "Study tiny" in out
    assert [(each.model.attention, each.seed) for each in trained] == [
        ("full", 0),
        ("conv+full", 0),
        ("full", 1),
        ("conv+full", 1),
    ]
    assert {each.train.learning_rate for each in trained} == {0.01}
    code, out, _ = command(*arguments)
    assert code == 0 and len(trained) == 4 and "4 of 4 runs have ended before and are not repeated" in out
    command(*arguments[:1], "--seeds=3", *arguments[2:])
    assert len(trained) == 6


def test_a_failed_run_is_recorded_the_study_goes_on_and_it_is_tried_again(command, trained, tmp_path):
    def act(run):
        if run.model.attention == "full":
            raise ZeroDivisionError("planted\nbug")
        return RESULT

    trained.act = act
    code, out, _ = command("--vary=model.attention=full|conv+full")
    assert code == 1 and len(trained) == 2 and "failed: ZeroDivisionError: planted bug" in out
    failed = [folder for folder in run_folder.open_study(tmp_path / "results" / "tiny") if not runner.ended(folder)]
    assert [folder.result()["error"] for folder in failed] == ["ZeroDivisionError: planted bug"]
    error = failed[0].path / "error.txt"
    assert "Traceback" in error.read_text()
    trained.act = None
    code, out, _ = command("--vary=model.attention=full|conv+full")
    assert code == 0 and len(trained) == 3 and not error.exists()


def test_a_diverged_run_is_told_with_its_step_and_not_repeated(command, trained):
    trained.act = lambda run: RESULT | {"status": "diverged", "diverged_at": 5}
    code, out, _ = command()
    assert code == 0 and "diverged: NaN or infinity at step 5" in out and "1 run diverged" in out
    command()
    assert len(trained) == 1


def test_all_runs_failing_is_exit_code_1_without_a_table(command, trained):
    def act(run):
        raise RuntimeError("no luck")

    trained.act = act
    code, out, err = command()
    assert code == 1 and "no luck" in out and "Study" not in out and err == ""


def test_a_run_in_the_hands_of_another_process_is_left_alone(command, trained, tmp_path):
    busy = Run.read(load_config(str(tmp_path / "tiny.py")))
    with runner.run_folder(tmp_path / "results", busy).locked():
        code, out, _ = command("--vary=model.attention=full|conv+full")
    assert code == 0 and len(trained) == 1 and "Another process is working on 1 run" in out


def test_the_run_folder_holds_what_the_design_says(command, trained, tmp_path):
    command()
    (folder,) = run_folder.open_study(tmp_path / "results" / "tiny")
    result = folder.result()
    digests = Run.read(Config.from_nested(result["config"])).digests
    assert (result["run_id"], result["cell"]) == digests and folder.path.name == digests.run
    assert RESULT.keys() | {"run_id", "cell", "config", "environment"} == result.keys()
    assert json.loads((folder.path / "config.json").read_text()) == json.loads(json.dumps(result["config"]))
    assert folder.manifest()["command"].startswith("python -m experiments.run --config=")
    assert folder.manifest()["environment"] == result["environment"]
    assert [line["step"] for line in folder.metrics()] == [3]


def test_dry_run_prints_every_cell_and_trains_nothing(command, trained, tmp_path):
    code, out, _ = command("--dry_run", "--vary=train.steps=5|10", "--seeds=3")
    assert code == 0 and not trained and not (tmp_path / "results").exists()
    assert out.count("0,1,2") == 2 and "6 runs" in out and "conv+full" in out and "train.steps=10" in out


def test_selections_add_up(command, trained, tmp_path):
    vary = "--vary=train.learning_rate=0.1|0.2", "--vary=model.mlp_dim=5|7"
    for number, select in enumerate(
        [
            ["--select=train.learning_rate", "--select=model.mlp_dim"],
            ["--select=train.learning_rate, model.mlp_dim"],
            ["--config.study.select=('train.learning_rate', 'model.mlp_dim')"],
        ]
    ):
        assert command(*vary, *select, f"--config.name=s{number}")[0] == 0
        assert {run.config.study.select for run in trained} == {("train.learning_rate", "model.mlp_dim")}
        trained.clear()
    assert command(*vary, "--config.study.select=model.mlp_dim", "--select=", "--config.name=none")[0] == 0
    assert {run.config.study.select for run in trained} == {()}


def test_a_run_is_read_once(command, monkeypatch, tmp_path):
    """From the flags to the report: one task, one of each variant, one digest; costs and tests once per cell."""
    calls: Counter[str] = Counter()

    def count(module: Any, name: str, label: str) -> None:
        real = getattr(module, name)

        def counted(*arguments: Any, **fields: Any) -> Any:
            calls[label] += 1
            return real(*arguments, **fields)

        monkeypatch.setattr(module, name, counted)

    count(MQAR, "__post_init__", "task")
    count(SlidingWindowAttention, "__post_init__", "variant")
    count(specs, "parse_spec", "spec")
    count(identity, "digests", "digest")
    count(compute, "abstract_model", "cost")
    count(other_rows, "_read", "program of tests")
    vary = "--vary=model.attention=conv+sliding_window:window_size=7"
    rows = "--config.eval.test_lengths=32", "--config.task=mqar:length=16,num_pairs=2,vocab_size=37"
    assert command(vary, *rows)[0] == 0
    further = 1  # the task at the other length
    specs_named = 1 + 2 + 1 + 3  # task, two layers, position, then norm, optimizer and schedule
    expected = {"task": 1 + further, "variant": 1, "spec": specs_named, "digest": 1, "cost": 1, "program of tests": 1}
    assert calls == expected
    calls.clear()
    assert command(vary, *rows, "--seeds=5")[0] == 0
    assert calls == {"task": 5 * (1 + further), "variant": 5, "spec": 5 * specs_named, "digest": 5}
    results = [folder.result() for folder in run_folder.open_study(tmp_path / "results" / "tiny")]
    assert len(results) == 5 and len({result["cell"] for result in results}) == 1


def test_dry_run_counts_the_cost_of_a_cell_once(command, monkeypatch):
    counted = []
    real = compute.abstract_model
    monkeypatch.setattr(compute, "abstract_model", lambda run: counted.append(run) or real(run))
    code, out, _ = command("--dry_run", "--vary=model.mlp_dim=31|37", "--seeds=4")
    assert code == 0 and len(counted) == 2 and "8 runs" in out


def test_one_real_run_from_the_command_to_the_report(command, tmp_path):
    code, out, _ = command()
    assert code == 0 and "[1/1] conv+full  seed=0  step 6/6" in out
    (folder,) = run_folder.open_study(tmp_path / "results" / "tiny")
    result = folder.result()
    assert result["status"] == "done" and result["steps"] == 6 and len(result["parameter_hash"]) == 64
    assert 0.5 < result["floor"] < result["ceiling"] == 1.0 and "distance" in result["slices"]
    assert "conv+" in (tmp_path / "results" / "tiny" / "report.html").read_text()


def test_divergence_is_met_for_real(command, tmp_path):
    code, out, _ = command("--config.train.learning_rate=1e25")
    (folder,) = run_folder.open_study(tmp_path / "results" / "tiny")
    assert code == 0 and folder.result()["status"] == "diverged" and folder.result()["diverged_at"] <= 6
    assert "diverged: NaN or infinity at step" in out


def test_the_command_in_a_process_of_its_own(tmp_path):
    arguments = [sys.executable, "-m", "experiments.run", "--config=configs/bse.py"]
    process = subprocess.run(arguments, capture_output=True, text=True)
    assert process.returncode == 2 and process.stdout == ""
    line = "error: --config: there is no file 'configs/bse.py'; nearest: configs/base.py"
    assert process.stderr.startswith(line) and process.stderr.count("\n") == 1


def test_lists(command):
    code, out, _ = command("--list_variants", "--list_tasks", "--list_config", config=None)
    assert code == 0
    for expected in (
        "sliding_window:window_size=64",
        "length * window_size",
        "arXiv:2004.05150",
        "mqar:length=",
        "train.schedule=cosine",
    ):
        assert expected in out


def test_plain_lines_have_the_time_left_and_no_terminal_codes(command, trained):
    _, out, _ = command()
    (line,) = [line for line in out.splitlines() if "step 3/6" in line]
    assert line == "[1/1] conv+full  seed=0  step 3/6  loss 1.000  validation 0.500  5 k tokens/s  about 1 s left"


def test_bars_on_a_terminal_leave_one_line_per_run(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with progress.make_display(2) as display:
        for index in (1, 2):
            display.start(index, f"full[{index}]", 6)
            scores = {"train_loss": 1.0, "validation_accuracy": 0.5}
            display.update({"step": 3, "steps": 6, **scores, "tokens_per_second": 1e4, "seconds_left": 2})
            display.end("solved")
    out = capsys.readouterr().out
    assert "[1] full[1]  solved" in out and "[2] full[2]  solved" in out


def test_the_clock_counts_waiting_runs(monkeypatch):
    now = iter([0.0, 10.0, 10.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    clock = progress.Clock(3)
    clock.start()
    clock.end()
    clock.start()
    assert clock.seconds_left({"seconds_left": 4.0}) == 4.0 + 1 * 10.0
    assert [progress.left(s) for s in (5, 600, 7200)] == ["about 5 s left", "about 10 min left", "about 2.0 h left"]
