"""The task that CONTRIBUTING.md shows keeps the laws as it stands there; `test_promise.py` says so of the variant."""

import pathlib
import re
import sys
from types import ModuleType

import pytest

from experiments.tasks.base import Task
from experiments.tasks.registry import TASKS
from tests import recipes
from tests.experiments.tasks import position_shortcuts
from tests.experiments.tasks import test_task_laws as task_laws

ROOT = pathlib.Path(__file__).parent.parent
RECIPES = recipes.read((ROOT / "CONTRIBUTING.md").read_text())


TASK_LAWS = [
    name
    for name, law in vars(task_laws).items()
    if name.startswith("test_") and task_laws.every_case.mark in getattr(law, "pytestmark", ())
]


def run_example(title: str) -> ModuleType:
    """Runs the file that a recipe shows."""
    name = f"example_of_{title.replace(' ', '_')}"
    module = sys.modules[name] = ModuleType(name)  # dataclasses look there
    exec(RECIPES[title].steps[0].text, module.__dict__)
    return module


def line_of(title: str, file: str) -> str:
    """Returns what a recipe adds to a file."""
    (step,) = [step for step in RECIPES[title].steps if step.file == file]
    return step.text


@pytest.fixture(scope="module")
def example_task() -> type[Task]:
    return run_example("A task").FirstToken


@pytest.mark.parametrize("law", TASK_LAWS)
def test_the_task_keeps_the_laws(example_task: type[Task], law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = line_of("A task", "tests/experiments/tasks/task_cases.py")
    ((spec, digest),) = re.findall(r'^ *"(first_token:.*)": "(\w+)",\n$', row)
    monkeypatch.setitem(TASKS, "first_token", example_task)
    monkeypatch.setitem(task_laws.CASES, spec, digest)
    getattr(task_laws, law)(spec)


def test_no_place_gives_away_more_than_the_floors_of_the_task(example_task: type[Task]) -> None:
    assert position_shortcuts.weak_floors(example_task(length=11, vocab_size=7), 4000) == []


def test_the_laws_of_tasks_are_found() -> None:
    assert {"test_solver_scores_one", "test_same_seed_same_bits"} < set(TASK_LAWS)


def test_every_step_names_a_file_and_every_command_a_test_that_exists() -> None:
    new = {recipe.steps[0].file for recipe in RECIPES.values() if recipe.steps and not recipe.steps[0].place}
    for recipe in RECIPES.values():
        files = [step.file for step in recipe.steps]
        files += [word for command in recipe.commands for word in command if word.startswith("tests/")]
        assert [file for file in files if file not in new and not (ROOT / file).exists()] == []
    assert {command[0] for recipe in RECIPES.values() for command in recipe.commands} == {"make", "pytest"}


SOURCE = "import os\n\nKNOWN: dict[str, int] = {\n    'a': 1,\n}\n\n\ndef f():\n    return [\n        1,\n    ]\n"


@pytest.mark.parametrize(
    ("place", "text", "expected"),
    [
        ("KNOWN", "    'b': 2,\n", "    'a': 1,\n    'b': 2,\n}"),
        ("f()", "        2\n", "        1,\n        2,\n    ]"),
        ("above KNOWN", "class B:\n    pass\n", "class B:\n    pass\n\n\nKNOWN"),
    ],
)
def test_an_entry_goes_where_its_step_says(place: str, text: str, expected: str) -> None:
    after = recipes.insert(SOURCE, place, text)
    assert expected in after
    assert all(line in after for line in SOURCE.splitlines())


def test_a_place_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no LOST"):
        recipes.insert(SOURCE, "LOST", "")
