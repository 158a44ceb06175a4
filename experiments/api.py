"""A study in Python, for notebooks: `experiments.load("results/mine")`. See docs/results.md."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from experiments.config import schema
from experiments.model.transformer import Model
from experiments.reporting import columns, tables
from experiments.studies import legacy, results, trained
from experiments.studies.record import Record
from experiments.studies.run_folder import RunFolder
from experiments.tasks.base import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndedRun:
    """One run that is done or has diverged."""

    id: str  # the name of its folder
    config: dict[str, Any]  # flat: {"model.attention": "full", ...}; fields younger than the run at their defaults
    result: dict[str, Any]  # what `result.json` says
    metrics: list[dict[str, Any]]  # one dict per evaluation while training
    folder: Path  # an archived study has none

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.config["seed"]

    def model(self, step: int | None = None) -> Model:
        """Returns the trained model.

        It maps inputs, positions to read out and, where the task has one, a context to outputs (see `Model`); `task()`
        gives rows for it.

        Args:
          step: the step whose parameters to take, one of `checkpoints()`; None: the best by validation accuracy.

        Raises:
          ValueError: the folder of the run has no whole checkpoint, as in an archive, or none of this step, or the run
            comes from a version that computed something else; one line.
        """
        return trained.trained_model(self.folder, trained.read_run(self.id, self.config), step)

    def checkpoints(self) -> list[int]:
        """Returns the steps whose parameters are kept, from 0: none unless `train.keep_checkpoints` was every."""
        return RunFolder(self.folder).kept_steps()

    def task(self) -> Task:
        """Returns the task: `task().sample(jax.random.key(0), 8)` draws 8 rows. Raises ValueError as `model` does."""
        return trained.read_run(self.id, self.config).task


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedStudy:
    """A study as plain values."""

    name: str
    rows: list[dict[str, Any]]  # those of the table, with the names of its CSV; "task", and "run_ids" of its runs
    runs: list[EndedRun]  # by attention, task and seed
    notes: list[str]  # those below the table

    def run(self, id: str) -> EndedRun:
        """Returns the run with an id; raises KeyError."""
        return {run.id: run for run in self.runs}[id]

    def to_pandas(self) -> Any:
        """Returns the rows as a `pandas.DataFrame`; raises ImportError where pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas, which is not installed: pip install pandas.") from error
        return pandas.DataFrame(self.rows)


def load(path: str | os.PathLike[str]) -> LoadedStudy:
    """Reads a study: its folder, or the folder of its archive `runs.jsonl`. Nothing is written.

    Raises:
      ValueError: there is no such folder, or no run in it has ended; one line.
    """
    folder = Path(path)
    records, problems = results.read_runs(folder)
    study = results.sum_up([folder.name], records, problems)
    parts = columns.columns(study)
    return LoadedStudy(
        name=study.name,
        rows=[_record(row, parts) for row in study.rows],
        runs=sorted((_ended(record, folder) for record in records if record.ended), key=_order),
        notes=tables.notes(study),
    )


def _record(row: results.Row, parts: list[columns.Column]) -> dict[str, Any]:
    values = {name: value for column in parts for name, value in column.record(row).items()}
    return {"task": row.config["task"]} | values | {"run_ids": [result["run_id"] for result in row.results]}


def _ended(record: Record, study: Path) -> EndedRun:
    result = record.result or {}
    config = schema.default_fields() | schema.flatten(legacy.config_of_today(record.config))
    return EndedRun(
        id=result["run_id"], config=config, result=result, metrics=record.metrics, folder=study / result["run_id"]
    )


def _order(run: EndedRun) -> tuple[Any, ...]:
    return results.natural(run.config["model.attention"]), results.natural(run.config["task"]), run.seed, run.id
