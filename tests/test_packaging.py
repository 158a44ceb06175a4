"""What `pip install .` gives: the library alone, which needs no more than it declares."""

import fnmatch
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import test_imports

ROOT = pathlib.Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LIBRARY, EXPERIMENTS = "attention_variants", "experiments"


def declared(*extras: str) -> set[str]:
    """Returns the names of the library's dependencies and those of extras, as they are imported."""
    project = PYPROJECT["project"]
    lines = sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])
    names = {canonicalize_name(Requirement(line).name).replace("-", "_") for line in lines}
    return {{"absl_py": "absl"}.get(name, name) for name in names}


def undeclared(sources: dict[str, str], package: str, known: set[str]) -> list[str]:
    """Returns a line for each import of a package that is neither known nor in the standard library."""
    known = known | set(sys.stdlib_module_names)
    return [
        f"{name} imports {target}"
        for name, source in sources.items()
        if name.split(".")[0] == package
        for target in sorted(test_imports.imports(source, set(sources)))
        if target.split(".")[0] not in known
    ]


def test_the_library_imports_what_it_declares() -> None:
    assert undeclared(test_imports.read_sources(), LIBRARY, declared() | {LIBRARY}) == []


def test_the_experiments_import_what_their_extra_declares() -> None:
    known = declared("experiments", "slurm") | {LIBRARY, EXPERIMENTS}
    known |= {"pandas"}  # of whoever has it, see `LoadedStudy.to_pandas`
    known |= {"torch"}  # of whoever has it, see `experiments.benchmark --peers`
    assert undeclared(test_imports.read_sources(), EXPERIMENTS, known) == []


@pytest.mark.parametrize("line", ["import optax", "from scipy import special", "from experiments import cli"])
def test_a_planted_import_is_caught(line: str) -> None:
    for name in ("attention_variants.conformance.planted", "attention_variants.planted"):
        sources = test_imports.read_sources() | {name: f"def f():\n    {line}\n"}
        (found,) = undeclared(sources, LIBRARY, declared() | {LIBRARY})
        assert found.startswith(f"{name} imports")


def test_every_dependency_is_imported() -> None:
    sources = test_imports.read_sources()
    for package, names in ((LIBRARY, declared()), (EXPERIMENTS, declared("experiments", "slurm") - declared())):
        texts = "\n".join(source for name, source in sources.items() if name.startswith(package))
        assert {name for name in names if not re.search(rf"^\s*(?:from|import) {name}\b", texts, re.MULTILINE)} <= set()


def test_the_library_alone_is_installed() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))]
    installed = [name for name in folders if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    assert installed == [LIBRARY] and {"experiments", "configs", "tests", "docs"} <= set(folders)
    inner = [path for path in (ROOT / LIBRARY).rglob("*") if path.is_dir() and any(path.glob("*.py"))]
    assert all((path / "__init__.py").exists() for path in inner)


@pytest.mark.slow
def test_the_library_works_where_nothing_else_is(tmp_path: pathlib.Path) -> None:
    """As .ci/run checks it, without the installation."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    for folder in (site, empty):
        folder.mkdir()
    (site / LIBRARY).symlink_to(ROOT / LIBRARY)
    (site / "library_alone.py").write_text((ROOT / ".ci" / "library_alone.py").read_text())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, str(site / "library_alone.py")]
    run = subprocess.run(
        command, cwd=empty, env=environment | {"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "variants built and called" in run.stdout and "all hold" in run.stdout
