"""What adding a variant, a task or another component takes, and which of these steps are not done yet."""

import dataclasses
import importlib
import inspect
import pathlib
import pkgutil
import re
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple, Self

from matplotlib.figure import Figure

import attention_variants.variants
import experiments.reporting.figures
import experiments.tasks
from attention_variants import positions
from attention_variants.conformance.cases import CASES
from attention_variants.interface import AttentionVariant
from attention_variants.registry import VARIANTS
from experiments.components import norms, optimizers, registry, schedules
from experiments.components.mixers import Mixer
from experiments.reporting.figures.registry import FIGURES
from experiments.tasks.base import Task
from experiments.tasks.registry import TASKS
from tests import test_imports
from tests.experiments.model.test_weight_decay import CONTROLS
from tests.experiments.tasks import all_shortcuts, task_cases

ROOT = pathlib.Path(__file__).parent.parent
STATIC = "softmax, static pattern"


class Registry(NamedTuple):
    """Classes that have to be found by name."""

    file: str  # where the dict stands
    dict_name: str
    entries: Mapping[str, type]
    defined: Collection[type]  # concrete classes in the files where such classes belong
    suffix: str = ""  # of class names

    def named(self) -> dict[str, type]:
        """Returns every class by its name, those not registered by the name that they should have."""
        return {self.name_of(kind): kind for kind in self.defined if self.is_missing(kind)} | dict(self.entries)

    def is_missing(self, kind: type) -> bool:
        """Whether a class is not registered."""
        return kind not in self.entries.values()

    def name_of(self, kind: type) -> str:
        """Returns `delayed_window` for DelayedWindowAttention."""
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*", kind.__name__.removesuffix(self.suffix))
        return "_".join(words).lower()

    def steps(self) -> Iterator[str]:
        """Yields an instruction for each class that is not registered."""
        for kind in filter(self.is_missing, self.defined):
            yield f"add `{self.name_of(kind)}`, the class {kind.__name__}, to {self.dict_name} in {self.file}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repository:
    """All that the steps look at. Tests take something away from it."""

    variants: Registry
    cases: Collection[str]  # specs of the sharp cases
    drawn: Collection[str]  # specs of the sharp cases that have a picture
    decaying: Collection[str]  # variants of whose controls a table says which decay
    variants_page: str
    pictures: Collection[str]  # names of the files of that page
    catalogue: str  # the block of README.md
    tasks: Registry
    task_cases: Mapping[str, str]  # spec -> digest
    twins: Collection[tuple[str, str]]  # (task, shortcut)
    unseen: Collection[str]  # tasks that have a twin of their open answers
    tasks_page: str
    components: tuple[Registry, ...]
    figure_files: Collection[str]
    reached: Collection[str]  # modules that the registry of figures imports
    drawings: Mapping[str, Any]  # functions that draw a whole figure
    figures: Collection[Any]  # those that the registry names

    @classmethod
    def here(cls) -> Self:
        """Reads this repository."""
        readme = (ROOT / "README.md").read_text()
        figures = [f"experiments.reporting.figures.{path.stem}" for path in _files(experiments.reporting.figures)]
        return cls(
            variants=Registry(
                "attention_variants/registry.py",
                "VARIANTS",
                VARIANTS,
                _defined(_modules(attention_variants.variants), AttentionVariant),
                "Attention",
            ),
            cases=list(CASES),
            drawn=[spec for spec, case in CASES.items() if case.picture is not None],
            decaying=list(CONTROLS),
            variants_page=(ROOT / "docs" / "variants.md").read_text(),
            pictures={path.stem for path in (ROOT / "docs" / "variants").glob("*.svg")},
            catalogue=readme.partition("<!-- catalogue: begin -->")[2].partition("<!-- catalogue: end -->")[0],
            tasks=Registry(
                "experiments/tasks/registry.py", "TASKS", TASKS, _defined(_modules(experiments.tasks), Task)
            ),
            task_cases=task_cases.CASES,
            twins=list(all_shortcuts.GUESSES),
            unseen=list(all_shortcuts.UNSEEN),
            tasks_page=(ROOT / "docs" / "tasks.md").read_text(),
            components=tuple(_components()),
            figure_files=figures,
            reached=_reached("experiments.reporting.figures.registry"),
            drawings={
                f"{name.rpartition('.')[2]}.{function.__name__}": function
                for name in figures
                for function in _drawings(importlib.import_module(name))
            },
            figures=[picture.draw for picture in FIGURES.values()],
        )


def missing(repository: Repository) -> list[str]:
    """Returns an instruction for each step that is not done."""
    found = [*_of_variants(repository), *_of_tasks(repository)]
    for component in repository.components:
        found += component.steps()
    return [*found, *_of_figures(repository)]


def _of_variants(here: Repository) -> Iterator[str]:
    yield from here.variants.steps()
    table = "CASES in attention_variants/conformance/cases.py"
    for name, kind in here.variants.named().items():
        if name not in _names(here.cases):
            yield f"add a row for `{name}` to {table}"
        if kind.family == STATIC and name not in _names(here.drawn):  # type: ignore[attr-defined]
            yield f"draw a `picture` in the row of `{name}` in {table}"
        if kind.controls_type is not None and name not in here.decaying:  # type: ignore[attr-defined]
            yield f"add `{name}` to CONTROLS in tests/experiments/model/test_weight_decay.py: which controls decay"
        if f"**`{name}`**" not in here.variants_page or name not in here.pictures:
            yield f"run `make pages`, so that docs/variants.md shows `{name}`"
        if f"`{name}`" not in here.catalogue:
            yield f"run `make pages`, so that the catalogue in README.md names `{name}`"


def _of_tasks(here: Repository) -> Iterator[str]:
    yield from here.tasks.steps()
    table = "CASES in tests/experiments/tasks/task_cases.py"
    for name, kind in here.tasks.named().items():
        if name not in _names(here.task_cases):
            yield f"add a row for `{name}` to {table}"
        folder = kind.__module__.split(".")[2]
        twins = f"tests/experiments/tasks/{folder}/shortcuts.py"
        page = _section(here.tasks_page, name)
        for shortcut in _floors_on(page) if page else [*kind().floors(), *kind().loss_floors()]:
            if shortcut not in all_shortcuts.COMMON and (name, shortcut) not in here.twins:
                yield f"add a NumPy twin of (`{name}`, `{shortcut}`) to GUESSES in {twins}"
        if not page:
            yield f"run `make pages`, so that docs/tasks.md shows `{name}`"
            if name not in here.unseen and not _bound_is_a_floor(kind):
                yield f"add the answers that `{name}` leaves open to UNSEEN in {twins}"
    for spec, digest in here.task_cases.items():
        if not digest:
            yield f"add the digest of `{spec}` to {table}; `pytest tests/experiments/tasks -k same_seed` prints it"


def _of_figures(here: Repository) -> Iterator[str]:
    registry_file = "experiments/reporting/figures/registry.py"
    for name in sorted(set(here.figure_files) - set(here.reached)):
        yield f"use {name.replace('.', '/')}.py in FIGURES in {registry_file}, or remove it"
    for name, function in here.drawings.items():
        if function not in here.figures:
            yield f"add `{name}` to FIGURES in {registry_file}"


def _names(specs: Collection[str]) -> set[str]:
    return {spec.partition(":")[0] for spec in specs}


def _section(page: str, name: str) -> str:
    return page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def _floors_on(section: str) -> list[str]:
    """Returns the names of the floors that a section of docs/tasks.md gives."""
    line = section.partition("\n- Floors: ")[2].partition("\n")[0]
    names = re.findall(r"(.+?) \d+\.\d{3}(?:, |$)", line)
    return [name.removesuffix(" (mean squared error)").removesuffix(" (KL divergence)") for name in names]


def _bound_is_a_floor(kind: Any) -> bool:
    """Whether a constant guess rate is that of the task's best shortcut, or claims no bound."""
    task = kind()
    return kind.guess_rate is not Task.guess_rate or 1 / task.open_answers in (1.0, max(task.floors().values()))


def _components() -> Iterator[Registry]:
    for module, dict_name, base in (
        (optimizers, "OPTIMIZERS", optimizers.Optimizer),
        (norms, "NORMS", norms.Norm),
        (schedules, "SCHEDULES", schedules.Schedule),
        (positions, "POSITIONS", positions.Position),
    ):
        file = f"{module.__name__.replace('.', '/')}.py"
        yield Registry(file, dict_name, getattr(module, dict_name), _defined([module], base))
    mixers = [kind for kind in _defined(_modules(experiments.components), Mixer) if kind is not registry.Attention]
    yield Registry("experiments/components/registry.py", "MIXERS", registry.MIXERS, mixers)


def _files(package: ModuleType) -> list[pathlib.Path]:
    return sorted(pathlib.Path(package.__path__[0]).glob("[!_]*.py"))


def _modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(module.name) for module in found]


def _defined(modules: Collection[ModuleType], base: type) -> list[type]:
    """Returns the concrete public classes that `modules` define below `base`."""
    return [
        kind
        for module in modules
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind.__module__ == module.__name__
        if not inspect.isabstract(kind) and not name.startswith("_") and kind is not base
    ]


def _reached(start: str) -> set[str]:
    """Returns the modules of the experiments that `start` imports, itself included."""
    sources = test_imports.read_sources()
    found, todo = set(), [start]
    while todo:
        name = todo.pop()
        if name not in found and name in sources:
            found.add(name)
            todo += test_imports.imports(sources[name], set(sources))
    return found


def _drawings(module: ModuleType) -> Iterator[Any]:
    """Yields the public functions of a module that make a figure of nothing but a study."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        signature = inspect.signature(function)
        own = function.__module__ == module.__name__ and not name.startswith("_")
        if own and list(signature.parameters) == ["study"] and signature.return_annotation in (Figure, Figure | None):
            yield function
