"""CONTRIBUTING.md is complete: after the steps that it names, and no others, all tests pass."""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests import recipes

ROOT = pathlib.Path(__file__).parent.parent
RECIPES = recipes.read((ROOT / "CONTRIBUTING.md").read_text())
FOLLOWED = ("A variant", "A task", "A column", "A figure", "An optimizer")

GENERAL = [f"tests/test_{name}.py" for name in ("contributing", "docs", "imports", "repository")]
JUST_RUN = (  # by commands with -k, or in writing the page
    "tests/test_contributing.py::test_the_task_keeps_the_laws",
    "tests/test_tasks_page.py::test_the_page_is_current",
)

MISSING = """\
- add `delayed_window`, the class DelayedWindowAttention, to VARIANTS in attention_variants/registry.py
- add a row for `delayed_window` to CASES in attention_variants/conformance/cases.py
- draw a `picture` in the row of `delayed_window` in CASES in attention_variants/conformance/cases.py
- run `make pages`, so that docs/variants.md shows `delayed_window`
- run `make pages`, so that the catalogue in README.md names `delayed_window`
- add `first_token`, the class FirstToken, to TASKS in experiments/tasks/registry.py
- add a row for `first_token` to CASES in tests/experiments/tasks/task_cases.py
- run `make pages`, so that docs/tasks.md shows `first_token`
- add `sign_sgd`, the class SignSgd, to OPTIMIZERS in experiments/components/optimizers.py
- use experiments/reporting/figures/memory.py in FIGURES in experiments/reporting/figures/registry.py, or remove it
- add `memory.accuracy_against_memory` to FIGURES in experiments/reporting/figures/registry.py
"""


def copy_to(folder: pathlib.Path) -> None:
    """Copies what git tracks or would track; where there is no git, all but hidden folders."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        paths = [pathlib.Path(name) for name in out.split("\0") if name]
    else:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        paths = [path for path in paths if not path.parts[0].startswith(".")]
    for path in paths:
        if (ROOT / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, folder / path)


def start(folder: pathlib.Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts Python in the copy, which then imports the copy."""
    names = [name for name in os.environ if not name.startswith(("PYTEST", "PYTHONPATH"))]
    environment = {name: os.environ[name] for name in names} | {"PYTHONDONTWRITEBYTECODE": "1"}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, text=True, **output)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns exit code and output."""
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def check(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Waits for all of them; each must have succeeded."""
    for code, output in [finish(process) for process in processes]:
        assert code == 0, output


def pytest_in(folder: pathlib.Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts pytest in the copy."""
    return start(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments)


def commands(*, chosen: bool) -> list[list[str]]:
    """Returns what the recipes pass to pytest: the commands with -k, or those without."""
    lines = [command[1:] for title in FOLLOWED for command in RECIPES[title].commands if command[0] == "pytest"]
    return [line for line in lines if ("-k" in line) == chosen]


def united(lines: Sequence[Sequence[str]]) -> list[str]:
    """Returns arguments that run the tests of all `lines` at once, each word in its own folder."""
    paths = sorted({word for line in lines for word in line if word.startswith("tests")})
    words = []
    for line in lines:
        if "-k" in line:
            (path,) = [pathlib.Path(word).name for word in line if word.startswith("tests")]
            words.append(f"({path} and {line[line.index('-k') + 1]})")
    return [*paths, *(["-k", " or ".join(words)] if words else [])]


@pytest.mark.slow
def test_the_steps_of_the_page_are_all_that_is_needed(tmp_path: pathlib.Path) -> None:
    copy_to(tmp_path)
    steps = {title: RECIPES[title].steps for title in FOLLOWED}

    # The new files and classes alone: the checklist names all the other steps at once.
    first = {title: steps[title][:1] for title in FOLLOWED}
    for step in sum(first.values(), []):
        step.apply(tmp_path)
    code, output = finish(pytest_in(tmp_path, "tests/test_checklist.py", "-k", "no_step_is_missing"))
    assert code == 1 and named(output) == MISSING, output

    # All steps, then the commands, those that run what was added while the pages are written.
    for title in FOLLOWED:
        for step in steps[title][1:]:
            step.apply(tmp_path)
    assert ["make", "pages"] in RECIPES["A variant"].commands
    pages, chosen = start(tmp_path, "docs/pages.py"), pytest_in(tmp_path, *united(commands(chosen=True)))
    check([pages, chosen])
    for name in ("delayed_window", "first_token", "memory"):
        assert name in " ".join(united(commands(chosen=True)))
    known = [f"--deselect={name}" for name in JUST_RUN]
    rest = pytest_in(tmp_path, "-m", "not slow", *GENERAL, *known, *united(commands(chosen=False)))
    changed = sorted({step.file for recipe in steps.values() for step in recipe})
    lint = start(tmp_path, "-m", "ruff", "check", "--ignore=I", "--no-cache", *changed)
    check([rest, lint])


def named(output: str) -> str:
    """Returns the steps in the message of the checklist."""
    lines = [line.removeprefix("E").strip() for line in output.splitlines() if line.startswith("E")]
    return "".join(f"{line}\n" for line in lines if line.startswith("- "))
