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


def main() -> int:
    """Runs the command line; returns the exit code."""
    return max([script.main() for script in (variants_page, tasks_page, embed_tables)])


if __name__ == "__main__":
    sys.exit(main())
