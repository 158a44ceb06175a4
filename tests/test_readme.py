"""The README quotes what is committed under results/reference, and nothing else."""

import pathlib
import re

from attention_variants.positions import POSITIONS
from attention_variants.registry import VARIANTS
from experiments.components.registry import MIXERS
from tests import page_makers

ROOT = pathlib.Path(__file__).parent.parent


embed_tables = page_makers.load("embed_tables")


def test_tables_are_current() -> None:
    assert embed_tables.stale() == [], "run: make pages"


def test_a_changed_number_is_noticed() -> None:
    readme = (ROOT / "README.md").read_text()
    changed = re.sub(r"(\| `conv\+full` \| \*?\*?)\d\.\d{3}", r"\g<1>0.123", readme, count=1)
    assert changed != readme and embed_tables.embedded(changed) == readme


def test_the_catalogue_names_every_choice() -> None:
    readme = (ROOT / "README.md").read_text()
    catalogue = readme[readme.index("<!-- catalogue: begin -->") : readme.index("<!-- catalogue: end -->")]
    rows = {
        line.split("|")[1].strip(): re.findall(r"`(\w+)`", line) for line in catalogue.splitlines() if line[:1] == "|"
    }
    for name, kind in VARIANTS.items():
        (family,) = [family for family, names in rows.items() if name in names]
        assert family.removesuffix(", bidirectional") == kind.family
    assert all(f"`{name}`" in catalogue for name in {**MIXERS, **POSITIONS} if name != "none")


def test_pictures_and_links_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    missing = [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]
    assert links and not missing
