"""Writes every page that is generated: docs/variants.md with its pictures, docs/tasks.md, and the blocks of README.md.

python docs/pages.py            writes
python docs/pages.py --check    exit code 1 if anything is not current
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import embed_tables  # noqa: E402  (found beside this file)
import tasks_page  # noqa: E402
import variants_page  # noqa: E402

from attention_variants.conformance import side_by_side  # noqa: E402


def main() -> int:
    """Runs the command line; returns the exit code."""
    side_by_side.configure()  # the pictures compile much and compute little
    codes = []
    for script, pages in (
        (variants_page, "docs/variants.md"),
        (tasks_page, "docs/tasks.md"),
        (embed_tables, "README.md"),
    ):
        codes.append(script.main())
        print(f"{pages}: {'not current' if codes[-1] else 'current'}", flush=True)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
