"""Reads and checks the runs of a study. Whatever is damaged, missing or of another form is named."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.studies import archive, forms, run_folder
from experiments.studies.archive import PackedRun
from experiments.studies.record import Record
from experiments.studies.run_folder import CONFIG, MANIFEST, METRICS, RESULT, DamagedError, RunFolder


def read_records(study: str | Path) -> tuple[list[Record], list[str]]:
    """Returns the runs of a study, and a line for everything that is wrong."""
    records, problems = [], []
    for run in archive.open_runs(study):
        found: list[str] = []
        record = _read(run, found)
        records += [record] if record is not None else []
        problems += [f"Run {run.path.name}: {problem}." for problem in dict.fromkeys(found)]  # an archive's line is one
    return records, problems + [f"Folder {name}: there is no run in it." for name in run_folder.other_folders(study)]


def _read(run: RunFolder | PackedRun, problems: list[str]) -> Record | None:
    """Returns what can be read, None if that is not a run; adds to `problems`."""
    result, config, manifest = (read_checked(run, name, problems) for name in (RESULT, CONFIG, MANIFEST))
    if config is None and result is not None and "config" in result:
        problems.append(f"{CONFIG} is missing or damaged; its copy in {RESULT} is used")
        config = result["config"]
    if config is None:
        problems.append("it is left out, for its config is not known")
        return None
    if not run_folder.has_ended(result):
        return Record(config, manifest or {}, result, [])
    if manifest is None:
        problems.append(f"without {MANIFEST} its command and date are not known")
    return Record(config, manifest or {}, result, _metrics(run, result or {}, problems))


def read_checked(run: RunFolder | PackedRun, name: str, problems: list[str]) -> dict[str, Any] | None:
    """Returns the content of a JSON file, None if it is missing or wrong; what is wrong is added to `problems`."""
    try:
        value = run.read(name)
    except DamagedError as error:
        problems.append(str(error))
        return None
    try:
        if value is not None:
            _CHECKS[name](value)
    except ValueError as error:
        problems.append(f"{name} is not what this program writes: {error}".rstrip("."))
        return None
    return value


def _check_result(result: Mapping[str, Any]) -> None:
    if run_folder.has_ended(result):
        forms.check_result(result)
    elif result.get("status") != "failed":
        raise ValueError(f"status must be done, diverged or failed; got {result.get('status')!r}")


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    RESULT: _check_result,
    CONFIG: forms.check_config,
    MANIFEST: forms.check_manifest,
}


def _metrics(run: RunFolder | PackedRun, result: Mapping[str, Any], problems: list[str]) -> list[dict[str, Any]]:
    """Returns the rows of metrics of an ended run, none where they are damaged."""
    rows = run.metrics()
    try:
        run.check_metrics(result)
        for row in rows:
            forms.check_row(row)
    except ValueError as error:
        problems.append(f"{error}; its learning curve is left out".replace(".;", ";"))
        return []
    if not rows and result["status"] != "diverged":  # which may happen before the first evaluation
        problems.append(f"{METRICS} is missing or empty; its learning curve is left out")
    return rows
