"""The main that decodes a run: what it prints, its refusals, and the page that explains it."""

import pathlib
import re
import sys

import pytest

from experiments import cli, generate, run
from experiments.config import files
from experiments.decoding.prompts import read_tokens
from experiments.model.transformer import Model
from experiments.tasks.recall.mqar import MQAR
from experiments.tasks.registry import make_task
from tests.experiments.conftest import CONFIG

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "decoding.md").read_text()


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the main with arguments and gives (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["generate", *map(str, arguments)])
        code = cli.execute(generate.run, generate.FLAGS)
        return code, *capsys.readouterr()

    return call


def test_the_tokens_of_the_page_are_of_the_task_it_trains_on():
    task = make_task(files.load(str(ROOT / "configs" / "quickstart.py")).config.task)
    assert isinstance(task, MQAR)
    lines = [line for text in (PAGE, generate.__doc__ or "") for line in text.splitlines() if "--tokens=" in line]
    assert len(lines) == 2
    for line in lines:
        (text,) = re.findall(r"--tokens='([^']*)'", line)
        one, its_value, other, other_value, *_, asked = read_tokens(text, task)
        assert asked == other and max(one, other) < task.first_value <= min(its_value, other_value)


@pytest.fixture
def trained(tmp_path, monkeypatch, call):
    """The folder of a run of a tiny study that was trained to copy."""
    text = re.sub(r'config.task = ".*"', 'config.task = "copying:length=10,vocab_size=7"', CONFIG)
    (tmp_path / "tiny.py").write_text(text.replace('"tiny"', '"mine"'))
    monkeypatch.setattr(sys, "argv", ["run", "--config=tiny.py"])
    assert cli.execute(run.run, run.FLAGS) == 0
    (folder,) = (path for path in (tmp_path / "results" / "mine").iterdir() if path.is_dir())
    return folder


@pytest.mark.slow
def test_a_run_is_decoded_and_the_page_shows_it_in_python(trained, call, capsys, monkeypatch):
    capsys.readouterr()
    code, out, err = call(trained, "--rows=4", "--row=3", "--top=2")
    assert code == 0 and err == ""
    assert out.startswith("conv+full on copying:length=10,vocab_size=7, seed 0: 4 rows; answers are the likeliest\n")
    for text in (
        "right answers ",
        "own answers ",
        "20 tokens in 4 whole answers",
        "row 3, own answers read",
        "likeliest 2",
    ):
        assert text in out
    assert re.search(r"prefill +5 .* us\n", out) and re.search(r"one by one +5 .* us\n", out)
    # kernel_size - 1 inputs of the convolution, and keys and values of ten tokens, each of width 12.
    assert re.search(r"layer 1 +conv +96 B +0 B\nlayer 2 +full +960 B +96 B\nin all +1.06 kB +96 B\n", out)
    assert "the tolerance is 0.001" in out and "those of 4 rows take 4.22 kB" in out and "jax" in out.splitlines()[-1]

    code, out, err = call(trained, "--tokens=3,5 1 2 4 |", "--new_tokens=5", "--temperature=0.7", "--seed=9")
    assert code == 0 and "given tokens; answers are drawn at temperature 0.7, seed 9" in out
    assert "given      3 5 1 2 4 |\n" in out and len(re.findall(r"^(?:5|6|7|8|9) ", out, re.MULTILINE)) == 5
    assert (
        call(trained, "--tokens=3 5 1 2 4 |", "--new_tokens=5", "--temperature=0.7", "--seed=9")[1][:300] == out[:300]
    )

    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(script, {})
    assert re.fullmatch(r"right \d\.\d\d, own \d\.\d\d, .* kB\n", capsys.readouterr().out)

    def forgetful(self, cache, tokens, plain=Model.extend):
        return plain(self, self.init_cache(len(tokens), 10)._replace(length=cache.length), tokens)[0], cache

    monkeypatch.setattr(Model, "extend", forgetful)
    code, out, err = call(trained, "--rows=4")
    assert (
        code == 2 and out == "" and err.startswith("error: decoding is not the parallel pass") and err.count("\n") == 1
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "name the folder of a run"),
        (["nowhere"], "there is no run folder 'nowhere'."),
        (["nowhere", "--rows=3", "--row=3"], "--row must be one of the 3 rows, from 0; got 3."),
        (["nowhere", "--new_tokens=3"], "--new_tokens is for decoding --tokens; this is decoding task rows."),
        (["nowhere", "--rows=3", "--tokens=5"], "--rows is for decoding task rows; this is decoding --tokens."),
        (["nowhere", "--temperature=nan"], "`--temperature` must be a number in [0.0, 1000.0]; got nan."),
        (["nowhere", "--temperature=-1"], "`--temperature` must be a number"),
        (["nowhere", "--tolerance=2"], "`--tolerance` must be a number in [0.0, 1.0]; got 2.0."),
        (["nowhere", "--rwo=3"], "unknown flag '--rwo'; valid choices, nearest first: --row"),
    ],
)
def test_a_wrong_command_is_one_line(call, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
