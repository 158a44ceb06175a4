"""Reads the recipes of CONTRIBUTING.md and does in a copy of the repository what they say.

A recipe is a section. Its steps begin with **1. The ...**, name a file first, and then show what goes there: a block of
Python, or a line between backticks that begins with a quotation mark. A step "in `NAME`" adds an entry to a dict of
that name, "in the list of `name`" one to the list that a function returns, "above `NAME`" a class; otherwise the block
is the whole file. A line that begins with `from ` is an import that the file needs.
"""

import ast
import pathlib
import re
import shlex
from typing import NamedTuple

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Step(NamedTuple):
    """One edit."""

    file: str
    place: str  # "NAME", "name()" or "above NAME"; empty: the whole file
    text: str
    imports: str  # one line, or empty

    def apply(self, root: pathlib.Path) -> None:
        """Edits the file below `root`; raises ValueError where it cannot be done."""
        path = root / self.file
        if not self.place:
            if path.exists():
                raise ValueError(f"{self.file} exists already.")
            path.write_text(self.text)
            return
        source = insert(path.read_text(), self.place, self.text)
        path.write_text(_import(source, self.imports) if self.imports else source)


class Recipe(NamedTuple):
    """One section."""

    steps: list[Step]
    commands: list[list[str]]  # words of each line of its shell blocks


def read(text: str) -> dict[str, Recipe]:
    """Returns the recipes by the title of their section."""
    recipes = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        parts = re.split(r"^\*\*\d+\. The ", body, flags=re.MULTILINE)[1:]
        lines = [line for language, block in _BLOCK.findall(body) if language == "sh" for line in block.splitlines()]
        recipes[title] = Recipe([_step(part) for part in parts], [shlex.split(line) for line in lines])
    return recipes


def _step(text: str) -> Step:
    prose = re.sub(r"\s+", " ", _BLOCK.sub("", text))
    quoted = re.findall(r"`([^`]+)`", prose)
    file = next(word for word in quoted if re.fullmatch(r"[\w/.]+\.py", word))
    blocks = [block for language, block in _BLOCK.findall(text) if language == "python"]
    lines = [f"    {word}\n" for word in quoted if word.startswith('"')]
    imports = next((word for word in quoted if word.startswith("from ")), "")
    return Step(file, _place(prose.partition(f"`{file}`")[2]), (blocks or lines)[0], imports)


def _place(prose: str) -> str:
    """Returns where a step puts its text, from the words after the file."""
    for pattern, place in (
        (r"^, above `(\w+)`", "above {}"),
        (r"^, in the list of `(\w+)`", "{}()"),
        (r"^[^.]*?, in `([A-Z_]+)`", "{}"),
        (r"^.*? and, in `([A-Z_]+)`", "{}"),
    ):
        if found := re.search(pattern, prose):
            return place.format(found[1])
    return ""


def insert(source: str, place: str, text: str) -> str:
    """Returns `source` with `text` at the end of a dict or list, or above the statement that makes a dict."""
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            (target,) = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            name = ast.unparse(target)
            if place == f"above {name}":
                return "".join([*lines[: node.lineno - 1], f"{text}\n\n", *lines[node.lineno - 1 :]])
            if place == name and isinstance(node.value, ast.Dict):
                return _before_the_end(lines, node.value, text)
        if isinstance(node, ast.FunctionDef) and place == f"{node.name}()":
            (returned,) = [part.value for part in node.body if isinstance(part, ast.Return)]
            return _before_the_end(lines, returned, text)
    raise ValueError(f"there is no {place}.")


def _before_the_end(lines: list[str], value: ast.expr | None, text: str) -> str:
    if not isinstance(value, ast.Dict | ast.List) or value.end_lineno is None:
        raise ValueError("there is no dict and no list.")
    entry = f"{text.rstrip().removesuffix(',')},\n"
    return "".join([*lines[: value.end_lineno - 1], entry, *lines[value.end_lineno - 1 :]])


def _import(source: str, line: str) -> str:
    """Returns `source` with an import after its last one."""
    lines = source.splitlines(keepends=True)
    last = max(node.end_lineno or 0 for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom))
    return "".join([*lines[:last], f"{line}\n", *lines[last:]])
