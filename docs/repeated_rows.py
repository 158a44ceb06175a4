"""Measures, for every task at its defaults, what share of test rows is also among the rows of training.

python docs/repeated_rows.py            writes results/reference/repeated_rows/shares.json, which docs/tasks.md shows

Rows are those of a run with seed 0: 1,000 steps of 64 rows, and 2,048 test rows. Rows are equal if they have the same
input and context, whatever is asked.
"""

import json
import pathlib
import sys

import jax

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
OUTPUT = ROOT / "results" / "reference" / "repeated_rows" / "shares.json"


def share(task, steps: int = 1000, batch_size: int = 64, test_rows: int = 2048) -> float:  # type: ignore[no-untyped-def]
    """Returns the share of test rows that training has shown."""
    from experiments.training.unseen_rows import shown_rows

    return float(shown_rows(task, jax.random.key(0), steps, batch_size, test_rows, test_rows).mean())


def main() -> int:
    """Measures all tasks and writes the file."""
    from experiments.tasks.registry import TASKS, make_task

    shares = {}
    for name in TASKS:
        shares[name] = share(make_task(name))
        print(f"{name}: {shares[name]:.1%}", flush=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"jax": jax.__version__, "shares": shares}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
