"""docs/tasks.md says what the code does."""

import json
from types import ModuleType

import pytest

from experiments.tasks.registry import TASKS, make_task
from tests import page_makers


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return page_makers.load("tasks_page")


@pytest.mark.slow  # computes the floors of all tasks at their default sizes
def test_the_page_is_current(maker: ModuleType) -> None:
    assert maker.PAGE.read_text() == maker.page(), "run: make pages"


@pytest.mark.parametrize("name", TASKS)
def test_every_task_shows_a_row(maker: ModuleType, name: str) -> None:
    section = maker.PAGE.read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert section.count("```") in (2, 4) and "Floors: " in section
    assert "<- target" in section or "-> " in section  # below a row of tokens, beside a picture


@pytest.mark.parametrize(("spec", "share"), [("even_pairs:min_length=3,max_length=4", 1.0), ("mqar", 0.0)])
def test_repeated_rows_are_told_from_new_ones(spec: str, share: float) -> None:
    assert page_makers.load("repeated_rows").share(make_task(spec), steps=20, test_rows=100) == share


def test_rows_repeat_where_the_tasks_say_so(maker: ModuleType) -> None:
    """So that results give the accuracy on unseen rows wherever that is another one."""
    measured = json.loads(maker.REPEATED.read_text())["shares"]
    claimed = {name: TASKS[name].rows_repeat for name in measured}  # a new task may not be measured yet
    assert {name: share >= 0.01 for name, share in measured.items()} == claimed


def test_literal_blocks_become_code(maker: ModuleType) -> None:
    text = "Title.\n\nA row::\n\n    1 2\n\n    3 4\n\nThe rest.\n\nReferences:\n  Someone 2020,\n  arXiv:1.\n"
    expected = "Title.\n\nA row:\n\n```text\n1 2\n\n3 4\n```\n\nThe rest.\n\nReference: Someone 2020, arXiv:1."
    assert maker._markdown(text) == expected
