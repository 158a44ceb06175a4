"""The numbers of a study at full precision, one record per row, for further analysis."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from experiments.reporting import further
from experiments.studies.results import Row, Study


def as_csv(study: Study) -> str:
    """Returns one line per cell at full precision, for further analysis."""
    beyond = further.headings(study)
    records = [record(row) | _further(row, beyond) for row in study.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip()


def _further(row: Row, headings: Sequence[further.Heading]) -> dict[str, float | None]:
    scores, bounds = further.scores(row), further.bounds(row)
    values: dict[str, float | None] = {}
    for heading in headings:
        name = " ".join(heading)
        values[name] = scores.get(heading)
        if not further.is_loss(heading):
            values[f"{name}, floor"], values[f"{name}, ceiling"] = bounds.get(heading, (None, None))
    return values


def record(row: Row) -> dict[str, Any]:
    """Returns the numbers of one row by name."""
    mean, low, high = row.accuracy or (None, None, None)
    solve_low, solve_high = row.solve_interval
    means = ("params", "control_params", "train_flops_executed", "train_flops_ideal", "forward_flops_per_token")
    return {
        "model.attention": row.attention,
        **row.varied,
        "accuracy": mean,
        "accuracy_low": low,
        "accuracy_high": high,
        "n": len(row.accuracies),
        "floor": row.mean("floor"),
        "ceiling": row.mean("ceiling"),
        "validation_accuracy": row.mean("validation_accuracy"),
        "runs": row.ended,
        "diverged": row.diverged,
        "solved": row.solved,
        "solve_rate_low": solve_low,
        "solve_rate_high": solve_high,
        "steps_to_solve_median": row.steps_to_solve,
        "steps_mean": row.mean("steps"),
        **{name: row.mean(name) for name in means},
        **{f"{name}_median": row.median(name) for name in ("peak_bytes", "step_ms", "tokens_per_second")},
        "cache_bytes": row.mean("cache_bytes"),
        "task_bits": row.mean("task_bits"),
    }
