"""The command line that shows rows of a task."""

import re
import subprocess
import sys

import jax
import pytest

from experiments import cli, show_task
from experiments.reporting import task_rows
from experiments.tasks.registry import make_task


def execute(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["show_task", *arguments])
    return cli.execute(show_task.run, show_task.FLAGS)


def test_rows_read_without_colour(monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert execute(monkeypatch, "--task=mqar:length=32,num_pairs=4", "--rows=2") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "mqar:length=32,num_pairs=4" in out and "guess a value seen in context 0.250" in out
    assert out.count("row ") >= 2 and out.count("evidence [v") == 8
    task = make_task("mqar:length=32,num_pairs=4")
    batch = task.sample(jax.random.key(0), 2)
    key, value, position = batch.inputs[0, 0], batch.inputs[0, 1], batch.positions[0, 0]
    assert f"at {position}: k{key}? -> v{value}   evidence [v{value}] at 1; distance {position - 1}" in out
    assert max(len(line) for line in out.splitlines()[5:]) <= 80


def test_a_file_of_images(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.svg"
    assert execute(monkeypatch, "--task=pathfinder:side=16", "--rows=3", f"--output={path}") == 0
    assert capsys.readouterr().out == f"wrote {path}\n" and path.read_text().count("<image") == 3


def test_numbers_and_contexts_read_as_such(monkeypatch, capsys):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    assert execute(monkeypatch, "--task=adding:length=13", "--rows=1") == 0
    out = capsys.readouterr().out
    assert "13 positions of 2 numbers a row, answers right within 0.04, version 1" in out
    assert "floor: always answer 1 0.078" in out and "floor: always answer 1 (mean squared error) 0.167" in out
    first, second = (float(text) for text in re.findall(r"evidence \[([\d.]+)\] at \d+, \[([\d.]+)\]", out)[0])
    assert float(re.findall(r" -> ([\d.]+) ", out)[0]) == pytest.approx(first + second, abs=0.02)

    assert execute(monkeypatch, "--task=translation:min_length=3,max_length=3,vocab_size=7", "--rows=1") == 0
    context, row, first, *_ = capsys.readouterr().out.partition("row 0\ncontext\n")[2].replace("\nrow", "").splitlines()
    assert context.startswith("3: ") and row.startswith("0: ") and first.startswith("  at 0: _? -> ")
    last = context.split()[-1]
    assert last.startswith("[") and f"evidence {last} at 5; length 3, place 0" in first


MISTAKES = {
    (): "--task is needed",
    ("--task=mqra",): "unknown task 'mqra'; valid choices, nearest first: mqar",
    ("--task=mqar:lenght=32",): "nearest first: length",
    ("--task=mqar:length=8",): "`length` must be at least 4 times `num_pairs`",
    ("--task=mqar:length=x",): "`length` must be an integer; got 'x'",
    ("--tsk=mqar",): "unknown flag '--tsk'; valid choices, nearest first: --task",
    ("--task=mqar", "--rows=0"): "--rows=0",
    ("--task=mqar", "--seed=-1"): "--seed=-1",
    ("mqar",): "unexpected argument 'mqar'",
    ("--task=induction", "--output=rows.png"): "rows of Induction are not images",
    ("--task=induction", "--output=rows.jpg"): "--output=rows.jpg must end with .png or .svg.",
    ("--task=induction", "--output=nowhere/rows.png"): "there is no folder 'nowhere'",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, monkeypatch, capsys):
    if "not images" not in MISTAKES[arguments]:  # which only a row can tell
        monkeypatch.setattr(task_rows, "draw_rows", lambda *_: pytest.fail("drawn"))
    assert execute(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and MISTAKES[arguments] in err


@pytest.mark.slow
def test_from_the_shell():
    command = [sys.executable, "-m", "experiments.show_task", "--task=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "unknown task 'nothing'" in done.stderr
