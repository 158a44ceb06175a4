"""Ended runs whose small files have since been damaged: what can be rewritten is, and all of it is reported."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from experiments.config.run import Run
from experiments.studies import run_folder
from experiments.studies.records import read_checked
from experiments.studies.run_folder import CONFIG, MANIFEST, METRICS, RESULT, DamagedError
from experiments.studies.training_folder import TrainingFolder


def mend(run: Run, folder: TrainingFolder, manifest: Callable[[], Mapping[str, Any]]) -> bool:
    """Returns whether the run has ended; if so, restores its other files.

    The sections of the config that are not part of a run, its name and `study`, become those of `run`: the table
    follows the last command.

    Args:
      run: what the folder should contain.
      folder: where.
      manifest: returns what to write, with the environment of the result, if the manifest is lost.
    """
    problems: list[str] = []
    result = read_checked(folder, RESULT, problems)
    if result is None or not run_folder.has_ended(result):
        if problems:
            folder.warn(f"{problems[0]}; it goes on from its last checkpoint.")
        return False
    config = json.loads(json.dumps(run.config.nested()))  # with lists in place of tuples
    if _read(folder, CONFIG) != config:
        folder.write(CONFIG, config)
    if _read(folder, MANIFEST) is None:
        folder.write(MANIFEST, {**manifest(), "environment": result.get("environment", {})})
    _mend_metrics(folder, result)
    return True


def _read(folder: TrainingFolder, name: str) -> dict[str, Any] | None:
    """Returns the content of a file; None, with a warning, if it is lost."""
    problems: list[str] = []
    value = read_checked(folder, name, problems)
    if value is None:
        folder.warn(f"{problems[0] if problems else f'{name} is missing'}; it is written again.")
    return value


def _mend_metrics(folder: TrainingFolder, result: Mapping[str, Any]) -> None:
    try:
        folder.check_metrics(result)
    except DamagedError as error:
        rows = folder.saved_rows()
        if rows is None:
            folder.warn(f"{error}, and no checkpoint holds them; its learning curve is lost.")
            return
        folder.replace_metrics(rows)
        folder.warn(f"{METRICS} was damaged; it is written again from the last checkpoint.")
