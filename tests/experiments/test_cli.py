import importlib
import pathlib

import pytest
from absl import flags

from experiments import cli

FLAGS = cli.new_flags()
WORD = flags.DEFINE_string("word", "plain", "A word.", flag_values=FLAGS)
flags.DEFINE_integer("rows", 3, "Rows.", lower_bound=1, flag_values=FLAGS)


def run() -> int | None:
    """Raises or returns what the flag says."""
    errors = {
        "value": ValueError("first line\n  second line"),
        "unsupported": NotImplementedError("not here"),
        "folder": PermissionError(13, "Permission denied", "results"),
        "silent": ValueError(),
        "bug": KeyError("ours"),
    }
    if WORD.value in errors:
        raise errors[WORD.value]
    print(WORD.value)
    return 1 if WORD.value == "one" else None


def execute(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["main", *arguments])
    return cli.execute(run, FLAGS)


MISTAKES = {
    ("--wrod=x",): "error: unknown flag '--wrod'; valid choices, nearest first: --word, --rows, --traceback.",
    ("--word=x", "stray"): "error: unexpected argument 'stray'; every option is a flag, such as --name=value.",
    ("--rows=many",): "error: flag --rows=many: must be an integer; got 'many'",
    ("--rows=0",): "error: flag --rows=0: 0 is not a positive integer",
    ("--rows",): "error: Missing value for flag --rows",
    ("--word=value",): "error: first line second line",
    ("--word=unsupported",): "error: not here",
    ("--word=folder",): "error: [Errno 13] Permission denied: 'results'",
    ("--word=silent",): "error: ValueError",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, monkeypatch, capsys):
    assert execute(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == MISTAKES[arguments] + "\n"


def test_codes_of_runs_that_end_otherwise(monkeypatch, capsys):
    assert execute(monkeypatch, "--word=hello") == 0
    assert capsys.readouterr().out == "hello\n"
    assert execute(monkeypatch, "--word=one") == 1


def test_bugs_and_requested_tracebacks_are_not_hidden(monkeypatch):
    with pytest.raises(KeyError, match="ours"):
        execute(monkeypatch, "--word=bug")
    with pytest.raises(ValueError, match="first line"):
        execute(monkeypatch, "--word=value", "--traceback")


def test_main_exits(monkeypatch):
    monkeypatch.setattr("sys.argv", ["main", "--notraceback", "--wrod=x"])
    monkeypatch.setattr(cli.interrupts, "install", lambda: None)
    with pytest.raises(SystemExit) as caught:
        cli.main(run, FLAGS)
    assert caught.value.code == 2


def test_help_names_every_flag(monkeypatch, capsys):
    assert execute(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert "--word: A word. (default: 'plain')" in out and "--rows" in out and "--traceback" in out


EXPERIMENTS = pathlib.Path(cli.__file__).parent
MAINS = sorted(path.stem for path in EXPERIMENTS.glob("*.py") if path.read_text().endswith("cli.main(run, FLAGS)\n"))


@pytest.mark.parametrize("name", MAINS)
def test_every_main_explains_itself_and_refuses_what_it_does_not_know(name, monkeypatch, capsys):
    main = importlib.import_module(f"experiments.{name}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    assert cli.execute(main.run, main.FLAGS) == 0
    assert capsys.readouterr().out.startswith(main.__doc__.strip().splitlines()[0])
    monkeypatch.setattr("sys.argv", [name, "--wrod=x"])
    assert cli.execute(main.run, main.FLAGS) == 2
    assert capsys.readouterr().err.startswith("error: unknown flag '--wrod'")
