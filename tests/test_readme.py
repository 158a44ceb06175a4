"""The README quotes what is committed under results/reference, and nothing else."""

import importlib.util
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def embedded(text: str) -> str:
    """Runs docs/embed_tables.py on a text."""
    spec = importlib.util.spec_from_file_location("embed_tables", ROOT / "docs" / "embed_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.embedded(text))


def test_tables_are_current() -> None:
    readme = (ROOT / "README.md").read_text()
    assert embedded(readme) == readme, "run: python docs/embed_tables.py"


def test_a_changed_number_is_noticed() -> None:
    readme = (ROOT / "README.md").read_text()
    changed = re.sub(r"(\| `conv\+full` \| \*?\*?)1\.000", r"\g<1>0.123", readme, count=1)
    assert changed != readme and embedded(changed) == readme


def test_pictures_and_links_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    missing = [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
    assert links and not missing
