"""From run folders to the rows of a table: one row per cell of a study, which sums up the cell's seeds.

Several studies can be read as one: a run that is in two of them counts once, and choices by validation accuracy are
made in each study separately.
"""

import collections
import dataclasses
import functools
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from experiments.config.schema import varied_keys
from experiments.studies import cells, paired, plans, scores
from experiments.studies.archive import open_runs
from experiments.studies.cells import Chosen
from experiments.studies.finding import check_study, studies_near
from experiments.studies.legacy import tests_of_today
from experiments.studies.paired import Difference
from experiments.studies.record import Record, place_text, timing
from experiments.studies.records import read_records
from experiments.studies.rows import Choice, ModelSize, Row, Setup
from experiments.studies.scores import Metric

_SIZES = ("num_layers", "model_dim", "mlp_dim")  # fields of `model` that decide the size of a model


class SizeDifference(NamedTuple):
    """One respect in which the model of a row differs from the usual one of its study."""

    field: str  # of `ModelSize`
    own: int
    usual: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """The rows of a study, best first within a task, and what a reader must know in addition to them."""

    name: str
    rows: tuple[Row, ...]
    varied: tuple[str, ...]  # keys in which the rows differ, apart from `model.attention`
    environments: tuple[dict[str, Any], ...]  # of the runs of rows, as far as they differ in what times depend on
    commands: tuple[str, ...]
    dates: tuple[str, ...]  # first and last
    failed: int  # runs, in all cells, that ended in an exception
    unfinished: int  # runs, in all cells, that were started or planned and have not ended
    problems: tuple[str, ...] = ()  # a line for whatever is damaged, missing or foreign in the folder
    members: tuple[str, ...] = ()  # the names of several studies that are read as one; empty for one study
    selects: tuple[tuple[str, ...], ...] = ()  # what its runs were trained to select: several if commands differed

    @property
    def title(self) -> str:
        """The name with its noun."""
        return f"{'Studies' if self.members else 'Study'} {self.name}"

    def label(self, row: Row, *, without: Sequence[str] = ()) -> str:
        """Returns what a plot or a note calls `row`, leaving out some varied keys; a flag is named where it is set."""
        varied = {key: value for key, value in row.varied.items() if key not in without and value is not False}
        named = [(key.split(".")[-1], value) for key, value in varied.items()]
        return ", ".join([row.attention, *(key if value is True else f"{key}={value}" for key, value in named)])

    @functools.cached_property
    def by_task(self) -> dict[str, list[Row]]:
        """Spec of each task -> its rows."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.config["task"], []).append(row)
        return groups

    def model(self, row: Row, *, without: Sequence[str] = ()) -> str:
        """Returns the label without what belongs to the task: rows of one model differ only in their task."""
        return self.label(row, without=[*self._of_tasks, *without])

    @property
    def of_models(self) -> list[str]:
        """The keys of `varied` in which models differ, and not just their tasks."""
        return [key for key in self.varied if key not in self._of_tasks]

    @functools.cached_property
    def _of_tasks(self) -> list[str]:
        """The keys of `varied` in which rows of one task do not differ."""
        groups = self.by_task.values()
        return [key for key in self.varied if all(len({str(r.varied[key]) for r in group}) == 1 for group in groups)]

    @functools.cached_property
    def models(self) -> list[str]:
        """The models, best mean score over their tasks first; those without a score in some task last."""
        ranks: dict[str, list[float]] = {}
        for row in self.rows:
            ranks.setdefault(self.model(row), []).append(row.metric.rank(row.score.accuracy))

        def place(model: str) -> tuple[Any, ...]:
            known = [rank for rank in ranks[model] if math.isfinite(rank)]
            return len(ranks[model]) - len(known), statistics.fmean(known) if known else 0.0, natural(model)

        return sorted(ranks, key=place)

    @property
    def metric(self) -> Metric:
        """The score by which rows are ordered and compared."""
        return self.rows[0].metric

    @functools.cached_property
    def metrics(self) -> dict[str, Metric]:
        """All metrics that some run has, by name."""
        return scores.available([(result, row.config["task"]) for row in self.rows for result in row.results])

    @functools.cached_property
    def names_of_tests(self) -> dict[tuple[str, str], tuple[str, str]]:
        """What tests on other rows are called, in two parts, by kind and value."""
        return scores.names_of_tests(
            [test for row in self.rows for r in row.results for test in tests_of_today(r, row.config["task"])]
        )

    def by_metric(self, metric: Metric) -> Self:
        """Returns the study ordered and compared by another of its `metrics`."""
        rows = [dataclasses.replace(row, metric=metric) for row in self.rows]
        return dataclasses.replace(self, rows=tuple(sorted(rows, key=lambda row: _order(row, self.varied))))

    def best(self, row: Row) -> bool:
        """Returns whether `row` is distinguishably better than every other row of its task, see `paired.best`."""
        return self._best[row.config["task"]] is row

    @functools.cached_property
    def _best(self) -> dict[str, Row | None]:
        return {task: paired.best(rows) for task, rows in self.by_task.items()}

    def minus(self, model: str) -> dict[str, list[tuple[Row, Difference | None]]]:
        """Returns the rows of each task that has `model`, with their differences from that model's row, itself None."""
        found = {}
        for task, rows in self.by_task.items():
            reference = next((row for row in rows if self.model(row) == model), None)
            if reference is not None:
                others = [row for row in rows if row is not reference]
                differences = dict(zip(map(id, others), paired.differences(others, reference), strict=True))
                found[task] = [(row, differences.get(id(row))) for row in rows]
        return found

    @property
    def searched_in(self) -> list[dict[str, Any]]:
        """What times depend on for runs that only chose, unless a run of a row has the same."""
        found = _different(timing(result.get("environment", {})) for row in self.rows for result in row.others)
        return [each for each in found if each not in self.environments]

    @functools.cached_property
    def mixed_setups(self) -> list[Setup]:
        """The set-ups of tasks whose runs do not all share one: versions or devices differ."""
        found = [list(dict.fromkeys(s for row in rows for s in row.setups)) for rows in self.by_task.values()]
        return list(dict.fromkeys(setup for setups in found if len(setups) > 1 for setup in setups))

    @functools.cached_property
    def other_sizes(self) -> list[tuple[SizeDifference, ...]]:
        """Every way in which rows differ in size from most of the study."""
        return list(dict.fromkeys(other for row in self.rows if (other := self.other_size(row))))

    def other_size(self, row: Row) -> tuple[SizeDifference, ...]:
        """Returns how the size of `row` differs from the most common one of the study; empty where it does not.

        A size that the study varies on purpose does not count: its column shows it.
        """
        usual = self._usual_sizes[_set_sizes(row)]
        sizes = zip(ModelSize._fields, row.size, usual, strict=True)
        return tuple(SizeDifference(field, own, other) for field, own, other in sizes if own != other)

    @functools.cached_property
    def _usual_sizes(self) -> dict[tuple[Any, ...], ModelSize]:
        """The most common size, or the smallest such, among the rows for which the study sets the same sizes."""
        counts: dict[tuple[Any, ...], collections.Counter[ModelSize]] = {}
        for row in self.rows:
            counts.setdefault(_set_sizes(row), collections.Counter())[row.size] += 1
        return {key: _most_common(sizes) for key, sizes in counts.items()}


def _most_common(sizes: Mapping[ModelSize, int]) -> ModelSize:
    return min(sizes, key=lambda size: (-sizes[size], size))


def _set_sizes(row: Row) -> tuple[Any, ...]:
    """Returns the sizes that the study varies on purpose, as `row` has them."""
    return tuple(row.varied.get(f"model.{field}") for field in _SIZES)


def read_study(path: str | Path, *others: str | Path) -> Study:
    """Summarises the run folders in `path`, and in the folders of `others`, as if all were one study.

    Raises:
      ValueError: there is no such folder, or no run in it has ended.
    """
    folders: dict[Path, Path] = {}
    for each in map(Path, (path, *others)):
        folders.setdefault(each.resolve(), each)
    paths = list(folders.values())
    names = [each.name or each.resolve().name for each in paths]
    names = [str(each) if names.count(name) > 1 else name for each, name in zip(paths, names, strict=True)]
    studies, problems = {}, []
    for name, each in zip(names, paths, strict=True):
        studies[name], found = read_runs(each)
        problems += [f"{name}: {problem}" for problem in found] if others else found
    records, differing = cells.pooled(studies) if len(studies) > 1 else (studies[names[0]], 0)
    if differing:
        what = "run differs" if differing == 1 else "runs differ"
        problems.insert(0, f"{differing} {what} between two studies that have it; the study named first counts.")
    study = sum_up(names, records, problems)
    return dataclasses.replace(study, unfinished=study.unfinished + sum(map(_waiting, paths)))


def sum_up(names: Sequence[str], records: Sequence[Record], problems: Sequence[str]) -> Study:
    """Returns the study of some runs, with the lines about its folder."""
    return dataclasses.replace(_summarise(names, records), problems=tuple(problems))


def read_runs(path: Path) -> tuple[list[Record], list[str]]:
    """Returns the runs of a study and what is wrong with its folder; raises ValueError as `read_study` does."""
    check_study(path)
    records, problems = read_records(path)
    if not any(record.ended for record in records):
        also = next((f"; {problem}" for problem in problems if problem.startswith("Run ")), ".")
        raise ValueError(f"no run in {str(path)!r} has ended{studies_near(path)}{also}")
    return records, problems


def _waiting(path: Path) -> int:
    """Returns how many runs of a study's plan have no folder yet."""
    planned = plans.read(path)
    return len(planned.keys() - {run.path.name for run in open_runs(path)}) if planned else 0


def natural(text: str) -> tuple[Any, ...]:
    """Returns a sorting key that puts the numbers in texts in order of size: length=64 before length=128."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)", text)
    return tuple(float(part) if index % 2 else part for index, part in enumerate(parts)), text


def _summarise(names: Sequence[str], records: Sequence[Record]) -> Study:
    """Groups the runs of these studies into cells, chooses by validation where a study says so, and sorts.

    What is chosen in one study is chosen in all of them, each by itself.
    """
    asked = {tuple(record.config.get("study", {}).get("select", ())) for record in records}
    selects = sorted({key for select in asked for key in select})
    chosen = cells.select_in_each(names, cells.group([record for record in records if record.ended]), selects)
    varied = [key for key in varied_keys([cell.flat for cell in chosen]) if key not in ("model.attention", *selects)]
    if len(names) > 1 and cells.STUDY not in varied:
        varied.append(cells.STUDY)
    keys = [key for key in selects if key in varied_keys([record.flat for record in records])]
    shown = [record for cell in chosen for record in cell.cell]
    environments = _different(record.environment for record in shown)
    rows = sorted((_row(cell, varied, environments, keys) for cell in chosen), key=lambda row: _order(row, varied))
    dates = sorted(record.manifest["date"] for record in records if "date" in record.manifest)
    return Study(
        name=", ".join(names),
        rows=tuple(rows),
        varied=tuple(varied),
        environments=tuple(environments),
        commands=tuple(dict.fromkeys(r.manifest["command"] for r in records if "command" in r.manifest)),
        dates=tuple(dict.fromkeys((dates[0], dates[-1]))) if dates else (),
        failed=sum(record.result is not None and not record.ended for record in records),
        unfinished=sum(record.result is None for record in records),
        members=tuple(names) if len(names) > 1 else (),
        selects=tuple(sorted(asked)),
    )


def _different(environments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for environment in environments:
        if environment not in found:
            found.append(environment)
    return found


def _choices(cell: list[Record], tried: list[list[Record]], keys: Sequence[str]) -> tuple[Choice, ...]:
    return tuple(
        Choice(key, cell[0].flat.get(key), _curve(tried, key), cell[0].flat["train.solved_at"]) for key in keys
    )


def _curve(tried: list[list[Record]], key: str) -> tuple[tuple[Any, float], ...]:
    """Returns every tried value of `key` with its validation accuracy: the best one, where other keys vary as well."""
    scores: dict[Any, float] = {}
    for cell in tried:
        value, (accuracy, _) = cell[0].flat.get(key), cells.validation(cell)
        scores[value] = max(accuracy, scores.get(value, accuracy))
    return tuple(sorted(scores.items(), key=lambda point: _sortable(point[0])))


def _row(chosen: Chosen, varied: Sequence[str], environments: list[dict[str, Any]], keys: Sequence[str]) -> Row:
    cell, flat = chosen.cell, chosen.flat
    return Row(
        config=flat,
        varied={key: flat.get(key) for key in varied},
        results=tuple(record.result for record in cell if record.result),
        metrics=tuple(record.metrics for record in cell),
        seeds=tuple(record.config["seed"] for record in cell),
        environments=tuple(environments.index(record.environment) for record in cell),
        setups=tuple(_setup(record, flat["version"]) for record in cell),
        choices=_choices(cell, chosen.tried, keys),
        provisional=all(record.searches for record in cell),
        passed_over=not chosen.studies and _passed_over(chosen),
        others=tuple(
            r.result for tried in chosen.tried for r in tried if r.result and all(r is not own for own in cell)
        ),
    )


def _passed_over(chosen: Chosen) -> bool:
    """Whether seeds that only choose have chosen this cell but another one has reported runs: a grid has changed."""
    runs = [record for cell in chosen.tried for record in cell]
    own = {id(record) for record in chosen.cell}
    reported = any(not record.searches and id(record) not in own for record in runs)
    return reported and any(record.searches for record in runs)


def _setup(record: Record, version: str | None) -> Setup:
    return Setup(version, record.environment.get("jax"), place_text(record.environment))


def _order(row: Row, varied: Sequence[str]) -> tuple[Any, ...]:
    """Sorts by the other varied keys except the study, then best first, then cheapest first."""
    keys = [_sortable(row.varied[key]) for key in varied if key != cells.STUDY]
    return (
        keys,
        row.metric.rank(row.score.accuracy),
        row.mean("train_flops_executed") or 0.0,
        natural(row.attention),
        _sortable(row.varied.get(cells.STUDY)),
    )


def _sortable(value: Any) -> tuple[int, Any]:
    """Returns a sorting key for config values: a missing field first, then numbers, then texts."""
    if value is None:
        return 0, 0
    return (1, value) if isinstance(value, int | float) else (2, natural(str(value)))
