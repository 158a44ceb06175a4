"""What a report may import: stored numbers only, through few layers."""

import ast
import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[3]
MOST_LAYERS = 9
DRAWS_TASKS = {"experiments.reporting.listings", "experiments.reporting.task_rows"}  # and no report imports them
FORBIDDEN = ("jax", "flax", "optax", "experiments.tasks", "experiments.model", "experiments.components")
FORBIDDEN += ("experiments.training", "experiments.analysis", "experiments.benchmarks")


@functools.cache
def modules():
    """Returns module name -> path, of the experiments."""
    paths = (ROOT / "experiments").rglob("*.py")
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


@functools.cache
def imports(name):
    """Returns what a module imports, as full names, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & modules().keys()) or {node.module}
    return frozenset(found)


@functools.cache
def longest(name):
    """Returns the longest chain of files that begins with a module."""
    below = [longest(other) for other in imports(name) & modules().keys()]
    return (name, *max(below, key=len, default=()))


def reached(name):
    """Returns all that a module imports, directly or not."""
    found, todo = set(), [name]
    while todo:
        for other in imports(todo.pop()) - found:
            found.add(other)
            todo += [other] if other in modules() else []
    return found


PICTURES = [name for name in modules() if name.startswith("experiments.reporting.figures.")]
REPORTS = [name for name in modules() if name.startswith("experiments.reporting") and name not in DRAWS_TASKS]
REPORTS += ["experiments.studies.results", "experiments.studies.rows", "experiments.table", "experiments.report"]


@pytest.mark.parametrize("name", PICTURES)
def test_the_longest_chain_of_files_below_a_picture_is_short(name):
    assert len(longest(name)) <= MOST_LAYERS, " -> ".join(longest(name))


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_drawn_from_stored_numbers_alone(name):
    wrong = {other for other in reached(name) for part in FORBIDDEN if f"{other}.".startswith(f"{part}.")}
    assert wrong == set() and not reached(name) & DRAWS_TASKS


def test_a_planted_import_of_a_task_would_be_found():
    assert any(other.startswith("experiments.tasks") for other in reached("experiments.reporting.listings"))
    assert len(longest("experiments.reporting.figures.registry")) > 5
