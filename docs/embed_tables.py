"""Writes the generated blocks of README.md and docs/: the catalogue, and tables of results/reference.

python docs/embed_tables.py            writes
python docs/embed_tables.py --check    exit code 1 if a document is not current
"""

import pathlib
import re
import sys
from collections.abc import Iterable

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
REFERENCE = ROOT / "results" / "reference"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "decoding.md")


def embedded(text: str) -> str:
    """Returns a document with every block between markers regenerated."""
    blocks = {
        "quickstart": lambda: study("quickstart"),
        "catalogue": catalogue,
        "benchmark": lambda: benchmark("attention"),
        "decoding": lambda: benchmark("decoding"),
        "longest": lambda: benchmark("longest"),
        "profile": lambda: benchmark("profile"),
        "peers": lambda: benchmark("peers"),
        "training": lambda: f"```\n{benchmark('training')}\n```",
    }
    for name in (name for name in blocks if f"<!-- {name}: begin -->" in text):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        block = f"{begin}\n{blocks[name]()}\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


def catalogue() -> str:
    """Returns how many variants there are, the table of them by family, and the position encodings."""
    from attention_variants.interface import FAMILIES
    from attention_variants.positions import POSITIONS
    from attention_variants.registry import VARIANTS
    from experiments.components.registry import MIXERS

    rows: dict[str, list[str]] = {}
    for family in FAMILIES:
        members = {name: kind for name, kind in VARIANTS.items() if kind.family == family}
        causal = any(kind.supports_causal for kind in members.values())
        rows[family if causal else f"{family}, bidirectional"] = list(members)
    rows["layers that are not attention"] = list(MIXERS)
    encodings = _listed(name for name in POSITIONS if name != "none")
    return "\n".join(
        [
            f"{len(VARIANTS)} variants, [each with its pattern, cost, state and paper](docs/variants.md):",
            "",
            "| family | variants |",
            "| --- | --- |",
            *(f"| {family} | {_listed(names)} |" for family, names in rows.items() if names),
            "",
            f"Position encodings: {encodings}, or none.",
        ]
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def study(name: str) -> str:
    """Returns the Markdown table of a study, what its marks mean, and where it ran."""
    from experiments.reporting import tables
    from experiments.reporting.score_columns import rising_notes
    from experiments.reporting.text import describe_environment
    from experiments.studies.results import read_study

    runs = read_study(REFERENCE / name)
    rows = [line for line in tables.render(runs, "markdown").splitlines() if line.startswith("|")]
    where = describe_environment(runs.environments[0])
    origin = f"`configs/{name}.py`, by the commands in [results/reference](results/reference/README.md)"
    notes = [*tables.size_notes(runs), *rising_notes(runs), f"{origin}, on {where}, {runs.dates[0][:10]}."]
    return "\n".join([*rows, "", " ".join(notes)])


def benchmark(name: str) -> str:
    """Returns the table of a benchmark and where it ran."""
    return (REFERENCE / "benchmark_cpu" / f"{name}.md").read_text().strip()


def stale() -> list[pathlib.Path]:
    """Returns the documents that are not current."""
    return [path for path in DOCUMENTS if embedded(path.read_text()) != path.read_text()]


def main() -> int:
    """Runs the command line; returns the exit code."""
    if "--check" in sys.argv[1:]:
        return 1 if stale() else 0
    for path in DOCUMENTS:
        path.write_text(embedded(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
