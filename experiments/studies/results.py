"""From run folders to the rows of a table: one row per cell of a study, its seeds summarised."""

import contextlib
import dataclasses
import functools
import json
import re
import statistics as stdlib_statistics
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.studies import grid as study
from experiments.studies import intervals as statistics
from experiments.studies import run_folder as store
from experiments.tasks.registry import make_task

# Times are compared only between runs that agree in these.
_TIMING = ("device", "devices", "cores", "backend", "jax", "jaxlib", "python", "platform", "flags")
CHOOSES_BACKEND = "JAX_PLATFORMS"  # a flag without effect beyond the backend that it chooses, which is recorded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of a study. `ended` runs are done or diverged; unsolved and diverged ones stay in the denominator."""

    config: dict[str, Any]  # flat, of the cell's first run
    varied: dict[str, Any]  # what distinguishes the cell, `model.attention` apart
    results: tuple[dict[str, Any], ...]  # of the ended runs, by seed
    metrics: tuple[list[dict[str, Any]], ...]  # lines of metrics.jsonl of the ended runs
    environments: tuple[int, ...]  # indices into Study.environments

    @property
    def attention(self) -> str:
        """The spec of the cell's attention."""
        return self.config["model.attention"]

    @property
    def ended(self) -> int:
        """Number of runs that are done or diverged."""
        return len(self.results)

    @property
    def diverged(self) -> int:
        """Number of runs that met NaN or infinity."""
        return sum(result["status"] == "diverged" for result in self.results)

    @property
    def accuracies(self) -> list[float]:
        """Test accuracy of every run that has one."""
        return self.values("test_accuracy")

    @property
    def accuracy(self) -> tuple[float, float, float] | None:
        """Mean test accuracy and its 95 % interval, within [0, 1], all of it for a single run; None without a run."""
        if not self.accuracies:
            return None
        mean, low, high = statistics.mean_interval(self.accuracies)
        return mean, max(0.0, low), min(1.0, high)

    @property
    def solved(self) -> int:
        """Number of runs that reached `train.solved_at`."""
        return sum(result["steps_to_solve"] is not None for result in self.results)

    @property
    def solve_interval(self) -> tuple[float, float]:
        """Wilson interval of the solve rate."""
        return statistics.wilson(self.solved, self.ended)

    @property
    def steps_to_solve(self) -> float | None:
        """Median over all ended runs, unsolved ones counting as later than any; None where the median is unsolved."""
        return statistics.median_steps([result["steps_to_solve"] for result in self.results])

    def values(self, name: str) -> list[float]:
        """Returns a field of the results, or of their `compute`, leaving out runs that lack it."""
        found = [result.get(name, result.get("compute", {}).get(name)) for result in self.results]
        return [value for value in found if value is not None]

    def mean(self, name: str) -> float | None:
        """Returns the mean of `values(name)`, None without any."""
        values = self.values(name)
        return stdlib_statistics.fmean(values) if values else None

    def median(self, name: str) -> float | None:
        """Returns the median of `values(name)`, None without any."""
        values = self.values(name)
        return stdlib_statistics.median(values) if values else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """The rows of a study, best first within a task, and what a reader must know beside them."""

    name: str
    rows: tuple[Row, ...]
    varied: tuple[str, ...]  # keys in which the rows differ, `model.attention` apart
    environments: tuple[dict[str, Any], ...]  # that differ in what times depend on
    commands: tuple[str, ...]
    dates: tuple[str, ...]  # first and last
    selected: dict[str, dict[str, Any]]  # label of a row -> what was chosen by validation accuracy
    failed: int  # runs, in all cells, that ended in an exception
    unfinished: int  # runs, in all cells, that were started and have not ended

    def label(self, row: Row) -> str:
        """Returns what a plot or a note calls `row`; a flag is named where it is set."""
        varied = {key.split(".")[-1]: value for key, value in row.varied.items() if value is not False}
        return ", ".join(
            [row.attention, *(key if value is True else f"{key}={value}" for key, value in varied.items())]
        )

    @functools.cached_property
    def by_task(self) -> dict[str, list[Row]]:
        """Spec of each task -> its rows."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.config["task"], []).append(row)
        return groups

    def model(self, row: Row) -> str:
        """Returns the label without what belongs to the task: rows of one model differ in their task alone."""
        return self.label(dataclasses.replace(row, varied={key: row.varied[key] for key in self._of_models}))

    @functools.cached_property
    def _of_models(self) -> list[str]:
        """The keys of `varied` in which rows of one task differ."""
        groups = self.by_task.values()
        return [key for key in self.varied if any(len({str(r.varied[key]) for r in group}) > 1 for group in groups)]

    @functools.cached_property
    def models(self) -> list[str]:
        """The models, those of the best mean accuracy over their tasks first."""
        scores: dict[str, list[float]] = {}
        for row in self.rows:
            scores.setdefault(self.model(row), []).append(row.accuracy[0] if row.accuracy else -1.0)
        return sorted(scores, key=lambda model: (-stdlib_statistics.fmean(scores[model]), natural(model)))

    def best(self, row: Row) -> bool:
        """Returns whether the interval of `row` lies above that of every other row of its task."""
        rivals = [other for other in self.rows if other is not row and other.config["task"] == row.config["task"]]
        others = [rival.accuracy for rival in rivals if rival.accuracy]
        if row.accuracy is None or len(row.accuracies) < 2 or not others:
            return False
        return all(row.accuracy[1] > other[2] for other in others)

    def mark(self, row: Row) -> str:
        """Returns the letters of the footnotes on times of `row`; "" where all rows may be compared."""
        return ",".join(string.ascii_lowercase[i % 26] for i in row.environments) if len(self.environments) > 1 else ""


def read_study(path: str | Path) -> Study:
    """Summarises the run folders in `path`.

    Raises:
      ValueError: there is no such folder, or no run in it has ended.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"there is no folder {str(path)!r}{_studies_near(path)}.")
    folders = store.open_study(path)
    records = [_Record(f.config() or {}, f.manifest() or {}, f.result(), f.metrics()) for f in folders]
    if not any(record.ended for record in records):
        raise ValueError(f"no run in {str(path)!r} has ended{_studies_near(path)}.")
    return summarise(path.name, records)


@dataclasses.dataclass(frozen=True)
class _Record:
    """What one run folder holds."""

    config: dict[str, Any]
    manifest: dict[str, Any]
    result: dict[str, Any] | None
    metrics: list[dict[str, Any]]

    @property
    def ended(self) -> bool:
        return self.result is not None and self.result["status"] in ("done", "diverged")

    @property
    def environment(self) -> dict[str, Any]:
        whole = (self.result or {}).get("environment") or self.manifest.get("environment") or {}
        flags = {name: value for name, value in whole.get("flags", {}).items() if name != CHOOSES_BACKEND}
        return {key: (whole | {"flags": flags})[key] for key in _TIMING if key in whole}


def summarise(name: str, records: Sequence[_Record]) -> Study:
    """Groups runs into cells, chooses by validation where the study says so, and sorts."""
    environments: list[dict[str, Any]] = []
    for record in records:
        if record.ended and record.environment not in environments:
            environments.append(record.environment)
    cells: dict[str, list[_Record]] = {}
    for record in sorted(records, key=lambda record: record.config["seed"]):
        cells.setdefault(_identity(record), []).append(record)
    selects = {key for record in records for key in record.config["study"]["select"]}
    chosen = _select([cell for cell in cells.values() if any(r.ended for r in cell)], selects)
    flat = [_flat(cell[0]) for cell in chosen]
    varied = [key for key in study.varied_keys(flat) if key != "model.attention" and key not in selects]
    rows = [_row(cell, varied, environments) for cell in chosen]
    rows.sort(key=lambda row: _order(row, varied))
    dates = sorted(record.manifest["date"] for record in records if "date" in record.manifest)
    summary = Study(
        name=name,
        rows=tuple(rows),
        varied=tuple(varied),
        environments=tuple(environments),
        commands=tuple(dict.fromkeys(r.manifest["command"] for r in records if "command" in r.manifest)),
        dates=tuple(dict.fromkeys((dates[0], dates[-1]))) if dates else (),
        selected={},
        failed=sum(record.result is not None and not record.ended for record in records),
        unfinished=sum(record.result is None for record in records),
    )
    keys = sorted(key for key in selects if len({json.dumps(_flat(cell[0])[key]) for cell in cells.values()}) > 1)
    return dataclasses.replace(
        summary, selected={summary.label(row): {key: row.config[key] for key in keys} for row in rows if keys}
    )


def _identity(record: _Record) -> str:
    """Returns what the seeds of one cell share; two spellings of one spec are the same cell."""
    config = record.config
    with contextlib.suppress(ValueError):  # a spec that this version no longer knows is taken as written
        config = store.canonical(config)
    return json.dumps([study.cell(config), record.manifest.get("version")], sort_keys=True)


def _flat(record: _Record) -> dict[str, Any]:
    """Returns the flat config with its version, and the defaults of fields that are younger than the run."""
    return study.cell(study.defaults()) | study.cell(record.config) | {"version": record.manifest.get("version")}


def _select(cells: list[list[_Record]], selects: set[str]) -> list[list[_Record]]:
    """Returns, of cells that differ only in `selects`, the one with the best mean validation accuracy."""
    best: dict[str, tuple[float, list[_Record]]] = {}
    for cell in cells:
        group = json.dumps({key: value for key, value in _flat(cell[0]).items() if key not in selects}, sort_keys=True)
        scores = [record.result["validation_accuracy"] or 0.0 for record in cell if record.result and record.ended]
        score = stdlib_statistics.fmean(scores)
        if group not in best or score > best[group][0]:
            best[group] = score, cell
    return [cell for _, cell in best.values()]


def _row(cell: list[_Record], varied: Sequence[str], environments: list[dict[str, Any]]) -> Row:
    flat = _flat(cell[0])
    ended = [record for record in cell if record.ended]
    return Row(
        config=flat,
        varied={key: flat[key] for key in varied},
        results=tuple(record.result for record in ended if record.result),
        metrics=tuple(record.metrics for record in ended),
        environments=tuple(sorted({environments.index(record.environment) for record in ended})),
    )


def _order(row: Row, varied: Sequence[str]) -> tuple[Any, ...]:
    """Sorts by the other varied keys, then best first, then cheapest first."""
    keys = [(True, natural(value)) if isinstance(value := row.varied[key], str) else (False, value) for key in varied]
    return keys, -(row.accuracy or (-1.0,))[0], row.mean("train_flops_executed") or 0.0, natural(row.attention)


def natural(text: str) -> tuple[Any, ...]:
    """Returns a sorting key by which the numbers in texts stand in order of size: length=64 before length=128."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)", text)
    return tuple(float(part) if index % 2 else part for index, part in enumerate(parts)), text


def task_differences(tasks: Sequence[str]) -> list[dict[str, Any]] | None:
    """Returns for each spec the fields in which `tasks` differ; None for tasks of several names, or unknown ones."""
    try:
        built = [make_task(task) for task in tasks]
    except ValueError:  # the results of a version that had what this one has not
        return None
    if len({type(task) for task in built}) > 1:
        return None
    fields = [dataclasses.asdict(task) for task in built]
    names = [name for name in fields[0] if len({str(values[name]) for values in fields}) > 1]
    return [{name: values[name] for name in names} for values in fields]


def _studies_near(path: Path) -> str:
    """Names the studies beside `path`, or inside it where it holds studies rather than runs."""
    for folder in (path, path.parent):
        if folder.is_dir():
            inside = [sub for sub in sorted(folder.iterdir()) if sub.is_dir() and sub != path]
            found = [str(sub) for sub in inside if store.open_study(sub)]
            if found:
                return f"; studies near: {', '.join(found[:5])}"
    return ""
