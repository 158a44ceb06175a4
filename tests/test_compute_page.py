"""The commands of docs/compute.md print what the page shows."""

import pathlib
import re
import shlex
import sys

import pytest

from experiments import account, cli, run
from experiments.benchmarks import accounting

ROOT = pathlib.Path(__file__).parent.parent
BLOCKS = re.findall(r"^```\n\$ (.*?)\n(.*?)^```", (ROOT / "docs" / "compute.md").read_text(), re.DOTALL | re.MULTILINE)
MAINS = {"experiments.account": account, "experiments.run": run}


class Uncompiled:
    """Stands for a compiled training step, whose memory the page does not show."""

    peak_bytes = None
    chunk = type("Chunk", (), {"memory_analysis": staticmethod(lambda: None)})


@pytest.mark.slow
@pytest.mark.parametrize("command, shown", BLOCKS, ids=[command.split()[2] for command, _ in BLOCKS])
def test_the_page_shows_what_is_printed(command, shown, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(accounting, "compile_program", lambda run: Uncompiled)
    _, _, module, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    assert cli.execute(MAINS[module].run, MAINS[module].FLAGS) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(BLOCKS) == 2 and [line for line in shown.splitlines() if line not in printed] == []
