"""One row of a study's table, the folders of its runs, and the table of what their heads look at."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from attention_variants.specs import SpecError
from experiments.inspection import causes, tables
from experiments.inspection.causes import Ablation
from experiments.inspection.over_seeds import MEAN, open_with_rows, score_runs, sum_up
from experiments.model.hooks import Site
from experiments.reporting import selection
from experiments.reporting.text import plural
from experiments.studies.archive import open_runs
from experiments.studies.intervals import mean_accuracy
from experiments.studies.results import read_study
from experiments.studies.run_folder import CONFIG
from experiments.studies.trained import trained_model

_MOST = 6  # rows in a message
_WORDS = ("model", "task")
_OVERVIEW = ("previous token", "before evidence", "induction", "evidence")


class Chosen(NamedTuple):
    """A row of a study."""

    model: str
    task: str  # its spec
    folders: list[Path]  # of its runs, by seed


def is_study(folder: str | Path) -> bool:
    """Whether a folder has runs in it and is not a run itself."""
    folder = Path(folder)
    return folder.is_dir() and not (folder / CONFIG).exists() and bool(open_runs(folder))


def choose(path: str | Path, attention: str | None, where: Sequence[str]) -> Chosen:
    """Returns the one row of a study that a user names.

    Args:
      path: of the study.
      attention: a model, by name or glob; None: any.
      where: conditions on the row, as in experiments.table.

    Raises:
      ValueError: no row fits, or several do; one line.
    """
    rows = choose_all(path, attention, where)
    if len(rows) > 1:
        names = [f"{row.model} on {row.task}" for row in rows]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        raise SpecError(
            f"choose one of {len(names)} rows with --attention and --where, or --all: {'; '.join(names[:_MOST])}{more}."
        )
    return rows[0]


def choose_all(path: str | Path, attention: str | None, where: Sequence[str]) -> list[Chosen]:
    """Returns all rows of a study that fit what a user names, see `choose`; raises ValueError where none does."""
    study = read_study(path)
    found = selection.select(study, attention, where, flag="--attention")[0].rows
    chosen = []
    for row in study.rows:
        if any(row.results == other.results for other in found):  # rows of `study` are separated by all that varies
            runs = sorted(zip(row.seeds, (result["run_id"] for result in row.results), strict=True))
            folders = [Path(path) / name for _, name in runs]
            chosen.append(Chosen(study.model(row), row.config["task"], folders))
    return chosen


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
    lines = [f"{chosen.model} on {chosen.task}, {plural(len(scored), 'seed')}: {plural(num_rows, 'row')} each{ends}"]
    if found := sum_up(scored):
        lines.append(tables.over_seeds_text(found))
    lines.append(tables.ablations_over_seeds_text([_ablated(folder, num_rows) for folder in chosen.folders]))
    return "\n\n".join(lines)


def overview(rows: Sequence[Chosen], num_rows: int) -> str:
    """Returns a Markdown table with a line for each row: each layer's best head, and the accuracy without the layer.

    Values are means over seeds.

    Raises:
      ValueError: a run has no checkpoint; one line.
    """
    lines = [_overview_line(row, num_rows) for row in rows]
    heading = list(dict.fromkeys(name for line in lines for name in line))
    cells = [[line.get(name, "-") for name in heading] for line in lines]
    rule = ["---" if name in _WORDS else "---:" for name in heading]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *cells))


def _overview_line(row: Chosen, num_rows: int) -> dict[str, str]:
    scored = score_runs(row.folders, num_rows)
    line = {"model": f"`{row.model}`", "task": f"`{row.task}`"}
    line["accuracy"] = f"{statistics.fmean(each.accuracy for each in scored):.3f}"
    for found in sum_up(scored):
        if found.name in _OVERVIEW and found.which != MEAN and found.estimate is not None:
            line[f"{found.name}, {found.site}"] = f"{found.estimate.mean:.2f}"
    opened = [open_with_rows(folder, num_rows) for folder in row.folders]
    models = [trained_model(folder, run) for folder, (run, _) in zip(row.folders, opened, strict=True)]
    for site in map(Site, range(len(models[0].layers))):
        parts = zip(models, opened, strict=True)
        without = [causes.score(model, run.task, rows, Ablation(site)).accuracy for model, (run, rows) in parts]
        line[f"without {site}"] = f"{statistics.fmean(without):.3f}"
    return line


def _ablated(folder: Path, num_rows: int) -> list[tables.Ablated]:
    run, rows = open_with_rows(folder, num_rows)
    return tables.ablate(trained_model(folder, run), run.task, rows, [])
