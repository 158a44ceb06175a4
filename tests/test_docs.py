"""The documents name only what exists: files, classes, functions, config fields."""

import ast
import functools
import pathlib
import re

import pytest

from experiments.config.schema import declared
from tests import recipes

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/design.md",
    "docs/studies.md",
    "docs/performance.md",
    "docs/results.md",
    "docs/inspection.md",
    "docs/decoding.md",
    "docs/compute.md",
]
PACKAGES = ("attention_variants", "experiments", "configs", "tests")
# Classes and files that the reader of CONTRIBUTING.md adds.
_STEPS = [step for recipe in recipes.read((ROOT / "CONTRIBUTING.md").read_text()).values() for step in recipe.steps]
EXAMPLES = {step.file.split("/")[-1] for step in _STEPS if not step.place}
EXAMPLES |= {name for step in _STEPS for name in re.findall(r"^class (\w+)", step.text, re.MULTILINE)}
ELSEWHERE = {"FlagValues", "checkpoints/", "parameters/"}  # of absl, of a run folder
MODULES = {path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


@functools.cache
def defined() -> set[str]:
    """Returns the names of all classes, functions, methods and fields of the repository."""
    names = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef | ast.FunctionDef):
                    names.add(node.name)
                elif isinstance(node, ast.AnnAssign | ast.Assign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    names |= {target.id for target in targets if isinstance(target, ast.Name)}
                elif isinstance(node, ast.arg):
                    names.add(node.arg)
    return names


def unknown(text: str, names: set[str]) -> list[str]:
    """Returns what stands between backticks in `text`, looks like a class, file or config field, and does not exist."""
    found = []
    for word in re.findall(r"(?<!`)`([^`\s]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        plain = word.rstrip("(.)").partition("(")[0]
        if re.fullmatch(r"[A-Z][a-z]+(?:[A-Z][A-Za-z]*)+", plain):
            found += [] if plain in names | EXAMPLES | ELSEWHERE else [word]
        elif re.fullmatch(r"(?:[\w.]+/)+[\w.]*", plain):
            places = [ROOT / plain, *(ROOT / package / plain for package in PACKAGES)]
            known = plain.split("/")[-1] in EXAMPLES or plain in ELSEWHERE
            found += [] if known or any(place.exists() for place in places) else [word]
        elif re.fullmatch(r"(?:model|train|eval|study)\.\w+", plain):
            found += [] if plain in declared() else [word]
        elif re.fullmatch(r"\w+\.[a-z_]+", plain) and plain.split(".")[0] in MODULES:
            found += [] if plain.split(".")[1] in names | {"py"} else [word]
    return found


def docstrings(path: pathlib.Path) -> str:
    """Returns all docstrings and comments of a source file."""
    tree = ast.parse(path.read_text())
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n".join([*texts, *re.findall(r"# .*", path.read_text())])


def test_docstrings_name_what_exists() -> None:
    names = defined()
    paths = [path for package in PACKAGES[:3] for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): unknown(docstrings(path), names) for path in paths}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_what_exists(document: str) -> None:
    assert unknown((ROOT / document).read_text(), defined()) == []


@pytest.mark.parametrize(
    "word", ["DeltaAttentionRule", "tests/attention_variants/test_planted_bugs.py", "train.warmup"]
)
def test_a_planted_name_is_caught(word: str) -> None:
    assert unknown(f"See `{word}` and `AttentionVariant`.", defined()) == [word]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    assert [link for link in links if not link.startswith("http") and not (path.parent / link).exists()] == []
