"""No step of adding something is forgotten: one message names all that are missing."""

import dataclasses

import pytest

from experiments.components.optimizers import AdamW
from experiments.tasks.base import Task
from tests import checklist
from tests.checklist import Repository


@pytest.fixture(scope="module")
def here() -> Repository:
    return Repository.here()


def without(here: Repository, **removed: str) -> list[str]:
    """Returns what is missing once the entries of that name are removed from fields of the repository."""
    changes = {}
    for field, name in removed.items():
        value = getattr(here, field)
        if isinstance(value, str):
            changes[field] = value.replace(f"`{name}`", "").replace(f"\n## {name}\n", "\n## removed\n")
        elif isinstance(value, checklist.Registry):
            changes[field] = value._replace(entries={key: kind for key, kind in value.entries.items() if key != name})
        elif isinstance(value, dict):
            changes[field] = {key: item for key, item in value.items() if key.partition(":")[0] != name}
        else:
            changes[field] = [
                item for item in value if (item if isinstance(item, str) else item[0]).partition(":")[0] != name
            ]
    return checklist.missing(dataclasses.replace(here, **changes))


def test_no_step_is_missing(here: Repository) -> None:
    missing = checklist.missing(here)
    assert not missing, "steps that are missing:\n" + "\n".join(f"- {step}" for step in missing)


CASES = "CASES in attention_variants/conformance/cases.py"
ROWS = "CASES in tests/experiments/tasks/task_cases.py"
PLANTED: dict[str, tuple[dict[str, str], list[str]]] = {
    "a registry without a variant": (
        {"variants": "linear"},
        ["add `linear`, the class LinearAttention, to VARIANTS in attention_variants/registry.py"],
    ),
    "a registry without a task": (
        {"tasks": "mqar"},
        ["add `mqar`, the class MQAR, to TASKS in experiments/tasks/registry.py"],
    ),
    "no sharp case": ({"cases": "linear"}, [f"add a row for `linear` to {CASES}"]),
    "no picture of a pattern": ({"drawn": "bigbird"}, [f"draw a `picture` in the row of `bigbird` in {CASES}"]),
    "no pattern and no picture": ({"drawn": "linear"}, []),
    "no word on which controls decay": (
        {"decaying": "delta"},
        ["add `delta` to CONTROLS in tests/experiments/model/test_weight_decay.py: which controls decay"],
    ),
    "not on the page": (
        {"variants_page": "delta"},
        ["run `make pages`, so that docs/variants.md shows `delta`"],
    ),
    "no file of the page": ({"pictures": "lsh"}, ["run `make pages`, so that docs/variants.md shows `lsh`"]),
    "not in the catalogue": (
        {"catalogue": "full"},
        ["run `make pages`, so that the catalogue in README.md names `full`"],
    ),
    "no row of a task": ({"task_cases": "dyck"}, [f"add a row for `dyck` to {ROWS}"]),
    "no twins": (
        {"twins": "induction"},
        [
            "add a NumPy twin of (`induction`, `guess the row's most frequent token`) to GUESSES in "
            "tests/experiments/tasks/recall/shortcuts.py"
        ],
    ),
    "a task not on the page": (
        {"tasks_page": "induction"},
        ["run `make pages`, so that docs/tasks.md shows `induction`"],
    ),
    "a task not on the page, without twins": (
        {"tasks_page": "compression", "twins": "compression", "unseen": "compression"},
        [
            "add a NumPy twin of (`compression`, `guess the row's most frequent token`) to GUESSES in "
            "tests/experiments/tasks/sequences/shortcuts.py",
            "run `make pages`, so that docs/tasks.md shows `compression`",
            "add the answers that `compression` leaves open to UNSEEN in "
            "tests/experiments/tasks/sequences/shortcuts.py",
        ],
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_omission_is_named(here: Repository, planted: str) -> None:
    removed, expected = PLANTED[planted]
    assert without(here, **removed) == expected


def test_an_unregistered_class_needs_all_its_steps_under_the_name_that_it_suggests(here: Repository) -> None:
    fields = ("variants", "cases", "drawn", "variants_page", "pictures", "catalogue")
    assert without(here, **dict.fromkeys(fields, "sink_window")) == [
        "add `sink_window`, the class SinkWindowAttention, to VARIANTS in attention_variants/registry.py",
        f"add a row for `sink_window` to {CASES}",
        f"draw a `picture` in the row of `sink_window` in {CASES}",
        "run `make pages`, so that docs/variants.md shows `sink_window`",
        "run `make pages`, so that the catalogue in README.md names `sink_window`",
    ]


def test_a_row_without_a_digest_is_named(here: Repository) -> None:
    spec = next(iter(here.task_cases))
    planted = dataclasses.replace(here, task_cases={**here.task_cases, spec: ""})
    assert checklist.missing(planted) == [
        f"add the digest of `{spec}` to {ROWS}; `pytest tests/experiments/tasks -k same_seed` prints it"
    ]


@pytest.mark.parametrize("index", range(5))
def test_a_component_that_no_spec_can_name_is_named(here: Repository, index: int) -> None:
    component = here.components[index]
    name, kind = next(item for item in component.entries.items())
    entries = {key: value for key, value in component.entries.items() if key != name}
    components = tuple(component._replace(entries=entries) if part is component else part for part in here.components)
    (step,) = checklist.missing(dataclasses.replace(here, components=components))
    assert f"the class {kind.__name__}, to {component.dict_name} in {component.file}" in step


def test_a_figure_that_no_report_draws_is_named(here: Repository) -> None:
    lost = "experiments.reporting.figures.cost"
    reached = [name for name in here.reached if name != lost]
    figures = [draw for draw in here.figures if getattr(draw, "__module__", "") != lost]
    where = "FIGURES in experiments/reporting/figures/registry.py"
    assert checklist.missing(dataclasses.replace(here, reached=reached, figures=figures)) == [
        f"use experiments/reporting/figures/cost.py in {where}, or remove it",
        f"add `cost.accuracy_against_flops` to {where}",
        f"add `cost.accuracy_against_state` to {where}",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("DelayedWindowAttention", "delayed_window"), ("MQAR", "mqar"), ("SignSgd", "sign_sgd"), ("AdamW", "adam_w")],
)
def test_the_name_of_a_class_is_in_small_letters(here: Repository, name: str, expected: str) -> None:
    registry = here.tasks if name == "MQAR" else here.variants
    assert registry.name_of(type(name, (), {})) == expected


def test_every_registry_sees_its_classes(here: Repository) -> None:
    for registry in (here.variants, here.tasks, *here.components):
        assert set(registry.defined) >= set(registry.entries.values()), registry.dict_name
    assert AdamW in here.components[0].defined and Task not in here.tasks.defined
