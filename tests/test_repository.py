"""The repository itself: nothing of the machine it was written on, nothing left undone, pins that match the ranges."""

import ast
import pathlib
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parent.parent
BINARY = {".msgpack", ".png", ".pdf", ".npz"}
LONGEST_FUNCTION = 50  # lines

FORBIDDEN = {
    "absolute machine path": r"(?<![\w.:/])/(?:home|root|Users|tmp|work|opt|mnt)/\w",
    "package registry": r"files\.pythonhosted|pypi\.(?:org|python)|--(?:extra-)?index-[u]rl|--find-[l]inks",
    "work left undone": r"\b(?:TOD[O]|FIXM[E]|XX[X])\b",
    "docstring that only points elsewhere": r'"""See [^"]{0,60}"""',
    "lambda with a name": r"noqa: E73[1]",
    "test that does not run": r"pytest\.(?:mark\.)?(?:skip|xfail)",
}


# A person's machine may lack a Chromium; CI's may not, see NEEDS_BROWSER there.
ALLOWED = {"tests/experiments/reporting/browser.py": ["test that does not run: 'pytest.sk" + "ip'"]}


def tracked() -> list[pathlib.Path]:
    """Returns the repository's text files: those that git knows or would take; without git, those of its folders."""
    if not (ROOT / ".git").exists():
        folders = ("attention_variants", "experiments", "configs", "tests", "docs", ".ci")
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
        return [path for path in [*paths, *ROOT.glob("*.*")] if path.is_file() and path.suffix not in BINARY]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    paths = [ROOT / name for name in names if name]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY]


def findings(text: str) -> list[str]:
    """Returns a line for each forbidden thing in `text`."""
    return [f"{what}: {match.group()!r}" for what, pattern in FORBIDDEN.items() for match in re.finditer(pattern, text)]


def test_files_hold_nothing_forbidden() -> None:
    found = {str(path.relative_to(ROOT)): findings(path.read_text()) for path in tracked()}
    assert {name: lines for name, lines in found.items() if lines} == ALLOWED


@pytest.mark.parametrize(
    "text",
    [
        "cd /ro" + "ot/x",
        'open("/tm' + 'p/a")',
        "pypi" + ".org",
        "# TO" + "DO later",
        '""' + '"See `X`."""',
        "# noqa: E7" + "31",
        "@pytest.mark.sk" + "ip",
    ],
)
def test_a_planted_finding_is_caught(text: str) -> None:
    assert len(findings(text)) == 1


def test_the_design_lists_every_part_of_both_packages() -> None:
    """The tree of docs/design.md names each module, but for those of which new ones are one file: mains, figures ..."""
    trees = (ROOT / "docs/design.md").read_text().partition("attention_variants/  ")[2].partition("configs/  ")[0]
    unlisted = []
    for package, tree in zip(("attention_variants", "experiments"), trees.split("experiments/  "), strict=True):
        for path in (ROOT / package).rglob("[!_]*.py"):
            *folders, name = path.relative_to(ROOT / package).with_suffix("").parts
            by_folder = folders in (["variants"], ["conformance"], ["reporting", "figures"]) or (
                len(folders) == 2 and folders[0] == "tasks"
            )
            is_main = not folders and '\nif __name__ == "__main__":' in path.read_text()
            named = folders if by_folder or is_main else [*folders, name]
            unlisted += [str(path) for part in named if not re.search(rf"\b{part}\b", tree)]
    assert unlisted == []


@pytest.mark.parametrize("folder", ["engines", "biases"])
def test_every_engine_and_bias_has_a_test_file(folder: str) -> None:
    names = {path.stem for path in (ROOT / "attention_variants" / folder).glob("[!_]*.py")}
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests/attention_variants" / folder).glob("test_*.py")}
    assert names == tests


def test_pins_lie_within_the_ranges() -> None:
    """For both Pythons every dependency of pyproject.toml is pinned, once, to a version its range admits."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [(ROOT / name).read_text().splitlines() for name in ("requirements.txt", "requirements-dev.txt")]
    pins = [Requirement(line) for line in sum(lines, []) if not line.startswith(("#", "-r"))]
    for python in ("3.11", "3.12", "3.13"):
        active = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": python})]
        versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in active}
        assert len(versions) == len(active), f"a package is pinned twice for Python {python}"
        for line in sum(project["optional-dependencies"].values(), project["dependencies"]):
            wanted = Requirement(line)
            assert versions[canonicalize_name(wanted.name)] in wanted.specifier, f"{line} on Python {python}"


def long_functions(source: str) -> list[str]:
    """Returns a line for each function that does not fit a screen; its docstring does not count."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            lines = node.end_lineno - node.lineno + 1 - docstring
            if lines > LONGEST_FUNCTION:
                found.append(f"{node.name} has {lines} lines; at most {LONGEST_FUNCTION} fit a screen")
    return found


SOURCES = sorted(path for package in ("attention_variants", "experiments") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_fit_a_screen(path: pathlib.Path) -> None:
    assert long_functions(path.read_text()) == []


@pytest.mark.parametrize(("lines", "found"), [(49, []), (50, ["f has 51 lines; at most 50 fit a screen"])])
def test_a_function_that_is_too_long_is_named(lines: int, found: list[str]) -> None:
    docstring = '    """One line.\n' + "\n    More.\n" * 20 + '    """\n'
    assert long_functions("def f():\n" + docstring + "    x = 1\n" * lines) == found
