"""Imports run one way: who may import whom, read off the source."""

import ast
import functools
import graphlib
import pathlib
import subprocess
import sys
from collections.abc import Collection

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Each part of the library and the parts it may import.
LIBRARY = {
    "arrays": set(),
    "checks": set(),
    "specs": set(),
    "cost": set(),
    "parameters": set(),
    "patterns": {"patterns"},
    "layer_options": {"checks"},
    "surroundings": {"arrays", "engines", "parameters"},
    "interface": {"arrays", "checks", "layer_options"},
    "engines": {"arrays", "engines", "patterns"},
    "families": {"arrays", "checks", "engines", "families", "interface", "patterns"},
    "biases": {"interface", "parameters"},
    "variants": {
        "arrays",
        "biases",
        "checks",
        "engines",
        "families",
        "interface",
        "layer_options",
        "parameters",
        "patterns",
    },
    "registry": {"interface", "specs", "variants"},
    "sharded": {"engines", "families", "interface", "layer_options", "patterns", "sharded", "variants"},
    "positions": {"arrays", "biases", "checks", "specs"},
    "heads": {"checks", "interface", "layer_options"},
    "layer_values": {"interface", "surroundings"},
    "module": {"arrays", "heads", "interface", "layer_options", "layer_values", "positions", "surroundings"},
    "flax_adapter": {"interface"},
    "conformance": {
        *("arrays", "conformance", "cost", "interface", "layer_options", "module", "positions", "registry", "specs"),
    },
}
USES_FLAX = {"parameters", "biases", "variants", "positions", "module", "surroundings", "flax_adapter", "conformance"}

# Each folder of the experiments and the folders that it may import, in addition to itself. Files beside them are mains.
_RUN = {"tasks", "components", "config"}
EXPERIMENTS: dict[str, set[str]] = {
    "tasks": set(),
    "components": set(),
    "config": {"tasks", "components"},
    "model": _RUN,
    "analysis": _RUN | {"model"},
    "training": _RUN | {"model", "analysis"},
    "studies": _RUN | {"training", "analysis", "model", "cli", "runtime", "interrupts"},
    "reporting": _RUN | {"studies"},
    "inspection": _RUN | {"model", "analysis", "training", "studies", "reporting"},
    "certificates": _RUN | {"analysis", "studies", "reporting"},
    "decoding": _RUN | {"model", "studies", "reporting"},
    "benchmarks": _RUN | {"model", "analysis", "training", "studies", "reporting", "decoding"},
    "cli": {"interrupts", "streams"},
    "interrupts": set(),
    "streams": set(),
    "runtime": set(),
    "": {"runtime", "interrupts", "api"},  # the package sets the process up, and has one function
    "distributed": {"cli", "runtime", "training", "plain_errors"},
    "plain_errors": set(),
}
# Reading results, and drawing them, needs no task, no model and no compiler: exactly these may be imported.
_STUDIES = "experiments.studies"
LIGHT: dict[str, set[str]] = {
    "experiments.config.sections": set(),
    "experiments.config.schema": {"experiments.config.sections"},
    f"{_STUDIES}.whole_files": set(),
    f"{_STUDIES}.run_folder": {f"{_STUDIES}.whole_files"},
    f"{_STUDIES}.legacy": set(),
    f"{_STUDIES}.intervals": set(),
    f"{_STUDIES}.scores": {f"{_STUDIES}.intervals", f"{_STUDIES}.legacy"},
    f"{_STUDIES}.rows": {f"{_STUDIES}.intervals", f"{_STUDIES}.legacy", f"{_STUDIES}.scores"},
    f"{_STUDIES}.paired": {f"{_STUDIES}.intervals", f"{_STUDIES}.rows"},
    f"{_STUDIES}.forms": {"experiments.config.schema", f"{_STUDIES}.legacy"},
    f"{_STUDIES}.archive": {f"{_STUDIES}.run_folder", f"{_STUDIES}.whole_files"},
    f"{_STUDIES}.finding": {f"{_STUDIES}.archive", f"{_STUDIES}.run_folder"},
    f"{_STUDIES}.plans": {f"{_STUDIES}.run_folder", f"{_STUDIES}.whole_files"},
    f"{_STUDIES}.record": {
        "experiments.config.schema",
        *(f"{_STUDIES}.{n}" for n in ("legacy", "run_folder")),
    },
    f"{_STUDIES}.records": {f"{_STUDIES}.{n}" for n in ("archive", "forms", "record", "run_folder")},
    f"{_STUDIES}.cells": {f"{_STUDIES}.record"},
    f"{_STUDIES}.results": {
        "experiments.config.schema",
        *(
            f"{_STUDIES}.{n}"
            for n in (
                *("archive", "cells", "finding", "legacy", "paired", "plans", "record", "records", "rows"),
                "scores",
            )
        ),
    },
}
FOREIGN_TO_THE_LIBRARY = {"experiments", "configs", "tests", "absl", "optax", "ml_collections", "matplotlib", "rich"}


@functools.cache
def read_sources() -> dict[str, str]:
    """Returns module name -> source, for both packages."""
    paths = [path for package in ("attention_variants", "experiments") for path in (ROOT / package).rglob("*.py")]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return {name: path.read_text() for path, name in names.items()}


def imports(source: str, modules: Collection[str]) -> set[str]:
    """Returns what a module imports, wherever it does so, but for what only a type checker sees."""
    found = set()
    for origin, names in _statements(source):
        found |= {name for name in names if name in modules} or ({origin} if origin else set(names))
    return found


@functools.cache
def _statements(source: str) -> list[tuple[str, tuple[str, ...]]]:
    """Returns each import: the module that it is from, "" where it is of modules, and the whole names."""
    found, todo = [], [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            found += [("", (alias.name,)) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.append((str(node.module), tuple(f"{node.module}.{alias.name}" for alias in node.names)))
        todo += ast.iter_child_nodes(node)
    return found


def wrong_arrows(sources: dict[str, str]) -> list[str]:
    """Returns a line per import that runs the wrong way, and one per cycle."""
    graph = {name: imports(source, sources) for name, source in sources.items()}
    lines = [
        f"{name} imports {target}" for name, targets in graph.items() for target in targets if not allowed(name, target)
    ]
    try:
        graphlib.TopologicalSorter({name: targets - {name} for name, targets in graph.items()}).prepare()
    except graphlib.CycleError as error:
        lines.append(f"cycle: {' -> '.join(error.args[1])}")
    return sorted(lines)


def allowed(name: str, target: str) -> bool:
    """Says whether the module `name` may import `target`."""
    (package, part), (target_package, target_part) = ((*n.split("."), "")[:2] for n in (name, target))
    if package == "experiments":
        return target_package not in ("configs", "tests") and (
            target_package != "experiments" or _allowed_inside(name, part, target, target_part)
        )
    if target_package == "flax":
        return part in USES_FLAX
    if target_package != "attention_variants":
        return target_package not in FOREIGN_TO_THE_LIBRARY
    if not part:  # attention_variants/__init__.py gathers public names
        return True
    assert part in LIBRARY, f"say in LIBRARY what attention_variants.{part} may import"
    return target_part in LIBRARY[part] or not target_part


def _allowed_inside(name: str, part: str, target: str, target_part: str) -> bool:
    if name in LIGHT:
        return target in LIGHT[name]
    if part in EXPERIMENTS:
        return target_part in EXPERIMENTS[part] | {part}
    # A main, beside the folders: it imports any folder, and no other main. A folder must be in EXPERIMENTS.
    return name.count(".") == 1 and target_part in EXPERIMENTS


def test_imports_run_one_way() -> None:
    assert wrong_arrows(read_sources()) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("attention_variants.interface", "from attention_variants import registry"),
        ("attention_variants.interface", "from flax import nnx"),
        ("attention_variants.arrays", "from attention_variants.interface import Bias"),
        ("attention_variants.engines.planted", "from attention_variants.interface import AttentionVariant"),
        ("attention_variants.engines.planted", "from attention_variants.families import recurrent"),
        ("attention_variants.families.planted", "from attention_variants.variants.full import FullAttention"),
        ("attention_variants.patterns.planted", "from attention_variants.engines import blocks"),
        ("attention_variants.variants.planted", "from attention_variants.variants.full import FullAttention"),
        ("attention_variants.variants.planted", "from attention_variants.registry import make_variant"),
        ("attention_variants.module", "from attention_variants.registry import make_variant"),
        ("attention_variants.cost", "import experiments.analysis.compute"),
        ("attention_variants.specs", "def f():\n    import optax"),
        ("attention_variants.patterns", "from ml_collections import config_dict"),
        ("experiments.tasks.planted", "from experiments.model.transformer import Model"),
        ("experiments.model.planted", "from experiments.training import loop"),
        ("experiments.training.planted", "from experiments.studies.run_folder import RunFolder"),
        ("experiments.studies.planted", "from experiments import run"),
        ("experiments.studies.results", "from experiments.tasks.registry import make_task"),
        ("experiments.reporting.planted", "from experiments.training import loop"),
        ("experiments.config.schema", "from experiments.components.registry import make_mixers"),
        ("experiments.cli", "import experiments.tasks.base"),
        ("experiments.config.schema", "from configs import base"),
        ("experiments.model.planted", "from tests.experiments.tiny import tiny_run"),
        ("experiments.new_folder.planted", "from experiments.tasks.base import Task"),
        ("experiments.studies.results", "from experiments.studies import runner"),
        ("experiments.table", "from experiments import run"),
    ],
)
def test_a_planted_wrong_arrow_is_caught(name: str, line: str) -> None:
    sources = read_sources()
    assert any(found.startswith(f"{name} imports") for found in wrong_arrows(sources | {name: line}))


def test_a_planted_cycle_is_caught() -> None:
    planted = {"experiments.a": "import experiments.b", "experiments.b": "from experiments import a"}
    assert any("cycle" in line for line in wrong_arrows(read_sources() | planted))


def test_type_checking_imports_do_not_count() -> None:
    assert imports("if TYPE_CHECKING:\n    import optax\nelse:\n    import jax\n", ()) == {"jax"}


def test_commands_start_without_what_few_of_them_need() -> None:
    """Each of these takes as long to import as JAX."""
    late = ("scipy.stats", "scipy.signal", "matplotlib", "pandas")
    probe = f"import sys, experiments.run; print([name for name in {late} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
