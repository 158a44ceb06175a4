"""Writes the tables of results/reference into README.md, between their markers.

python docs/embed_tables.py            writes
python docs/embed_tables.py --check    exit code 1 if README.md is not current
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
REFERENCE = ROOT / "results" / "reference"


def embedded(readme: str) -> str:
    """Returns `readme` with every block between markers made anew."""
    for name, block in {"quickstart": study("quickstart"), "benchmark": benchmark(), "mqar": study("mqar")}.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        readme = pattern.sub(lambda _, text=f"{begin}\n{block}\n{end}": text, readme)
    return readme


def study(name: str) -> str:
    """Returns the Markdown table of a study, what its marks mean, and where it ran."""
    from experiments.reporting import tables
    from experiments.reporting.text import describe_environment
    from experiments.studies.results import read_study

    runs = read_study(REFERENCE / name)
    rows = [line for line in tables.as_markdown(runs).splitlines() if line.startswith("|")]
    where = describe_environment(runs.environments[0])
    origin = f"`configs/{name}.py`, by the commands in [results/reference](results/reference/README.md)"
    return "\n".join([*rows, "", " ".join([*tables.size_notes(runs), f"{origin}, on {where}, {runs.dates[0][:10]}."])])


def benchmark() -> str:
    """Returns the benchmark's table and where it ran."""
    return (REFERENCE / "benchmark" / "attention.md").read_text().strip()


def main() -> int:
    """Runs the command line; returns the exit code."""
    path = ROOT / "README.md"
    new = embedded(path.read_text())
    if "--check" in sys.argv[1:]:
        return 0 if new == path.read_text() else 1
    path.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
