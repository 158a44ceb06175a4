"""The variant and the task that CONTRIBUTING.md shows are such: they keep the laws as they stand there."""

import pathlib
import re
import sys
from types import ModuleType

import pytest

from attention_variants.conformance import LAWS, Case
from experiments.tasks.base import Task
from experiments.tasks.registry import TASKS
from tests.experiments.tasks import position_shortcuts
from tests.experiments.tasks import test_task_laws as task_laws

TEXT = (pathlib.Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
EXPENSIVE = {"matches_definition", "transformations_change_nothing", "decoding_equals_parallel"}


TASK_LAWS = [
    name
    for name, law in vars(task_laws).items()
    if name.startswith("test_") and task_laws.every_case.mark in getattr(law, "pytestmark", ())
]


def run_example(number: int) -> ModuleType:
    """Runs one of the files that the text shows."""
    source = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[number]
    module = sys.modules[f"example_{number}"] = ModuleType(f"example_{number}")  # dataclasses look there
    exec(source, module.__dict__)
    return module


@pytest.fixture(scope="module")
def example() -> type:
    return run_example(0).DelayedWindowAttention


@pytest.fixture(scope="module")
def example_task() -> type[Task]:
    return run_example(1).FirstToken


@pytest.mark.parametrize("law", [pytest.param(law, marks=pytest.mark.slow if law in EXPENSIVE else ()) for law in LAWS])
def test_the_example_keeps_the_laws(example: type, law: str) -> None:
    LAWS[law](Case(example(window_size=5, delay=3), limit=example(window_size=37, delay=1)))


def test_the_row_is_the_one_that_is_checked() -> None:
    assert 'limit="delayed_window:window_size=37,delay=1"' in TEXT and "delayed_window:window_size=5,delay=3" in TEXT


@pytest.mark.parametrize("law", TASK_LAWS)
def test_the_task_keeps_the_laws(example_task: type[Task], law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ((spec, digest),) = re.findall(r'`"(first_token:.*)": "(\w+)",`', TEXT)
    monkeypatch.setitem(TASKS, "first_token", example_task)
    monkeypatch.setitem(task_laws.CASES, spec, digest)
    getattr(task_laws, law)(spec)


def test_no_place_gives_away_more_than_the_floors_of_the_task(example_task: type[Task]) -> None:
    assert position_shortcuts.weak_floors(example_task(length=11, vocab_size=7), 4000) == []


def test_the_lines_of_the_task_are_those_that_are_checked() -> None:
    assert {"test_solver_scores_one", "test_same_seed_same_bits"} < set(TASK_LAWS)
    assert '"first_token": FirstToken,' in TEXT and "tests/experiments/tasks/task_cases.py" in TEXT
