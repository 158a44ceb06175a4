"""What the main command refuses: in one line, with exit code 2, before anything is lost."""

import errno
import itertools
import os
import subprocess
import sys
from typing import Any

import pytest

from experiments.studies import run_folder
from tests.experiments.tiny import RESULT

BAD_INPUT = [  # arguments, what the line must name
    (["--config.model.attention=ful"], ["'ful'", "full"]),
    (["--config.model.attention=sliding_window:window=8"], ["'window'", "window_size"]),
    (["--config.model.attention=sliding_window:window_size=0"], ["window_size", "0"]),
    (["--config.model.attention=sliding_window:window_size=-3"], ["window_size", "-3"]),
    (["--config.model.attention=sliding_window:window_size=big"], ["window_size", "integer", "'big'"]),
    (["--config.model.attention=full+"], ["empty layer"]),
    (["--config.task=mqra"], ["'mqra'", "mqar"]),
    (["--config.task=mqar:lenght=16"], ["'lenght'", "length"]),
    (["--config.task=mqar:length=16,num_pairs=5,vocab_size=19"], ["length", "num_pairs", "5"]),
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
        ["--config.eval.shifted=mqar:length=8,num_pairs=2,vocab_size=19|mqar:num_pairs=2,length=8,vocab_size=19"],
        ["twice"],
    ),
    (["--vary=model.attention=conv+full|conv:kernel_size=3+full"], ["same run twice"]),
    (["--select=train.lr"], ["--select", "'train.lr'", "train.learning_rate"]),
    (["--select=train.steps", "--vary=seed=1|2"], ["--select", "'train.steps' is not varied"]),
    (["--config.study.select=('train.lr',)"], ["study.select", "'train.lr'", "train.learning_rate"]),
    (["--config.study.select=('train.lr'"], ["study.select must be a tuple of strings"]),
    (["--config.seed=-1"], ["seed", "-1"]),
    (["--config.name=../elsewhere"], ["name", "'../elsewhere'"]),
    (["--config.name=two\nlines"], ["name", "'two\\nlines'"]),
    (["--config.name=\udcff"], ["name", "'\\udcff'"]),
    (["--vary=model.atention=full|linear"], ["'model.atention'", "model.attention"]),
    (["--vary=model.attention=full|liner"], ["'liner'", "linear"]),
    (["--vary=train.learning_rate=0.1|inf"], ["train.learning_rate", "'inf'"]),
    (["--vary=model.attention=full|full:block_size=512"], ["same run twice"]),
    (["--vary=model.attention=full|sliding_window:window_size=3000000000"], ["window_size", "at most"]),
    (["--vary=model.attention=full|conv:kernel_size=99999"], ["kernel_size", "at most"]),
    (["--config.train.steps=99999999999999"], ["train.steps", "at most"]),
    (["--config.model.short_conv=99999"], ["model.short_conv", "at most 64"]),
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
    (tmp_path / "results").symlink_to(tmp_path / "nowhere")
    code, _, err = command()
    assert code == 2 and err.count("\n") == 1 and f"is a link to {tmp_path / 'nowhere'}, which does not exist" in err
    (tmp_path / "results").unlink()

    def read_only(*arguments: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", read_only)
        code, _, err = command()
    assert code == 2 and err.count("\n") == 1 and "Read-only file system" in err
    assert not trained


@pytest.mark.parametrize("full_at", [0, 2], ids=["while training", "at the result"])
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


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(tmp_path):
    arguments = [sys.executable, "-m", "experiments.run", "--config=configs/bse.py"]
    process = subprocess.run(arguments, capture_output=True, text=True)
    assert process.returncode == 2 and process.stdout == ""
    line = "error: --config: there is no file 'configs/bse.py'; nearest: configs/base.py"
    assert process.stderr.startswith(line) and process.stderr.count("\n") == 1
