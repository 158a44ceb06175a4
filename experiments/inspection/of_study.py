"""One row of a study's table, the folders of its runs, and the table of what their heads look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from attention_variants.specs import SpecError
from experiments.inspection import tables
from experiments.inspection.over_seeds import open_with_rows, score_runs, sum_up
from experiments.reporting import selection
from experiments.reporting.text import plural
from experiments.studies.archive import open_runs
from experiments.studies.intervals import mean_accuracy
from experiments.studies.results import read_study
from experiments.studies.run_folder import CONFIG
from experiments.studies.trained import trained_model

_MOST = 6  # rows in a message


class Chosen(NamedTuple):
    """A row of a study."""

    model: str
    task: str  # its spec
    folders: list[Path]  # of its runs, by seed


def is_study(folder: str | Path) -> bool:
    """Whether a folder has runs in it, and is none itself."""
    folder = Path(folder)
    return folder.is_dir() and not (folder / CONFIG).exists() and bool(open_runs(folder))


def choose(path: str | Path, attention: str | None, where: Sequence[str]) -> Chosen:
    """Returns the one row of a study that a user names.

    Args:
      path: of the study.
      attention: a model, by name or glob; None: any.
      where: conditions on the row, as those of experiments.table.

    Raises:
      ValueError: no row is named so, or several are; one line.
    """
    study = read_study(path)
    found = selection.select(study, attention, where, flag="--attention")[0].rows
    rows = [row for row in study.rows if any(row.results == other.results for other in found)]  # with all that varies
    if len(rows) > 1:
        names = [f"{study.model(row)} on {row.config['task']}" for row in rows]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        raise SpecError(
            f"choose one of {len(names)} rows with --attention and --where: {'; '.join(names[:_MOST])}{more}."
        )
    runs = sorted(zip(rows[0].seeds, (result["run_id"] for result in rows[0].results), strict=True))
    return Chosen(study.model(rows[0]), rows[0].config["task"], [Path(path) / name for _, name in runs])


def text(chosen: Chosen, num_rows: int) -> str:
    """Returns the tables of a row: scores of its layers over seeds, and accuracies without one of them.

    Raises:
      ValueError: a run has no checkpoint; one line.
    """
    scored = score_runs(chosen.folders, num_rows)
    kind = mean_accuracy([each.accuracy for each in scored]).kind
    ends = {"interval": "; behind means their 95 % intervals", "range": "; behind means the range of seeds"}.get(
        kind, ""
    )
    lines = [f"{chosen.model} on {chosen.task}, {plural(len(scored), 'seed')}: {num_rows} rows each{ends}"]
    if found := sum_up(scored):
        lines.append(tables.over_seeds_text(found))
    lines.append(tables.ablations_over_seeds_text([_ablated(folder, num_rows) for folder in chosen.folders]))
    return "\n\n".join(lines)


def _ablated(folder: Path, num_rows: int) -> list[tables.Ablated]:
    run, rows = open_with_rows(folder, num_rows)
    return tables.ablate(trained_model(folder, run), run.task, rows, [])
