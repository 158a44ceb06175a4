import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import command_line, show_task
from experiments.tasks.registry import TASKS, make_task


def execute(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    for name in show_task.FLAGS:
        show_task.FLAGS[name].unparse()
    monkeypatch.setattr("sys.argv", ["show_task", *arguments])
    return command_line.execute(show_task.run, show_task.FLAGS)


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


@pytest.mark.parametrize("name", TASKS)
def test_every_token_of_every_task_is_shown(name: str):
    task = make_task(name)
    batch = jax.tree.map(np.asarray, task.sample(jax.random.key(0), 2))
    for width in (20, 77):
        lines = [line.plain for line in show_task.row_lines(task, batch, 1, width)]
        scored = int(batch.weights[1].sum())
        cells = " ".join(line.partition(": ")[2] for line in lines[:-scored]).split()
        tokens = [task.token_text(token).strip("[]?") for token in batch.inputs[1]]
        assert [cell.strip("[]?") for cell in cells] == tokens
        assert sum(cell.strip("[]").endswith("?") for cell in cells) == scored
        evidence = batch.evidence[1][batch.weights[1] > 0]
        marked = sum(cell.startswith("[") and cell.endswith("]") for cell in cells)
        assert marked == len(np.unique(evidence[evidence >= 0]))


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
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, monkeypatch, capsys):
    assert execute(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and MISTAKES[arguments] in err


def test_from_the_shell():
    command = [sys.executable, "-m", "experiments.show_task", "--task=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "unknown task 'nothing'" in done.stderr
