"""Output that cannot be written stops no work."""

import errno
import io
import os
import sys

import pytest

from experiments import streams
from tests.experiments.test_cli import FLAGS, cli

DONE: list[int] = []


class Broken(io.StringIO):
    """Takes one line, then fails."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        if self.getvalue():
            raise OSError(self.number, os.strerror(self.number))
        return super().write(text)


def work() -> int:
    """Prints and goes on."""
    for step in range(3):
        print(f"step {step}\n", end="", flush=True)
        DONE.append(step)
    return 0


def execute(monkeypatch: pytest.MonkeyPatch, out: io.TextIOBase | None) -> int:
    DONE.clear()
    monkeypatch.setattr(sys, "argv", ["main"])
    monkeypatch.setattr(sys, "stdout", out)
    code = cli.execute(work, FLAGS)
    assert sys.stdout is out and DONE == [0, 1, 2], "all of the work is done"
    return code


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (errno.EPIPE, 0, ""),
        (errno.ENOSPC, 2, "error: cannot write to standard output: No space left on device.\n"),
        (errno.EIO, 2, "error: cannot write to standard output: Input/output error.\n"),
    ],
)
def test_work_goes_on_where_output_fails(number, code, said, monkeypatch, capsys):
    out = Broken(number)
    assert execute(monkeypatch, out) == code
    assert out.getvalue() == "step 0\n" and capsys.readouterr().err == said


def test_output_may_be_closed_from_the_start(monkeypatch, capsys):
    assert execute(monkeypatch, None) == 0
    assert not streams.Steady(None).isatty()
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "argv", ["main", "--wrod=x"])
    assert cli.execute(work, FLAGS) == 2


def test_what_the_encoding_lacks_is_escaped(monkeypatch):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    with streams.steady():
        print("caf\u00e9 \ud800", flush=True)
    assert raw.getvalue() == b"caf\\xe9 \\ud800\n"
