"""One row of a study's table: the runs of one cell, and how they do on their own task and on other rows."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from attention_variants import specs
from experiments.studies import intervals, legacy
from experiments.studies.intervals import Estimate
from experiments.studies.scores import ACCURACY, Metric

ABOVE = 0.02  # of accuracy, by which a mean over a test set does not exceed its ceiling by chance
FLAT = 0.01  # of validation accuracy, over the last part of training: what rises by more has not flattened
_LATE = 0.2  # that part of the steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What a result records about its task, so that it can be shown without building the task."""

    name: str
    fields: Mapping[str, Any]
    train_length: float | None = None  # of the rows of training; None where unknown
    tolerance: float | None = None  # None where answers are not numbers
    distributions: bool = False  # whether answers are distributions
    loss_floor: float | None = None  # mean loss of the best shortcut, where answers are numbers or distributions
    slice_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what each slice means


class ModelSize(NamedTuple):
    """Depth and width of a model."""

    layers: int
    model_dim: int
    mlp_dim: int


class Setup(NamedTuple):
    """What a run was made with; scores of different set-ups differ in more than what a study varies."""

    version: str | None  # of training; None where unknown, as below
    jax: str | None
    device: str | None

    def __str__(self) -> str:
        return f"version {self.version or '?'} with jax {self.jax or '?'} on {self.device or 'an unknown device'}"


class Choice(NamedTuple):
    """What was chosen for a row by validation accuracy, among which values, and how well each of them did."""

    key: str  # of the config
    value: Any
    curve: tuple[tuple[Any, float], ...]  # (value, mean validation accuracy over seeds) of all tried, in order of size
    solved_at: float  # validation accuracy that counts as solved

    @property
    def edge(self) -> int:
        """-1 if the smallest of several values was chosen, 1 for the largest, else 0: a better one may lie beyond."""
        tried = [value for value, _ in self.curve]
        return {tried[0]: -1, tried[-1]: 1}.get(self.value, 0) if len(tried) > 1 else 0

    @property
    def best(self) -> float:
        """The highest validation accuracy of all values."""
        return max(score for _, score in self.curve)

    @property
    def median(self) -> float:
        """The median validation accuracy over the values."""
        return statistics.median(score for _, score in self.curve)

    @property
    def window(self) -> float | None:
        """The largest value that solves over the smallest, 1 for a single one; None without one, or without a ratio."""
        solving = [value for value, score in self.curve if score >= self.solved_at]
        if not solving or not all(isinstance(value, int | float) and value > 0 for value in solving):
            return None
        return solving[-1] / solving[0]


class ScoreKey(NamedTuple):
    """Which rows a test was on: its identity within a study."""

    kind: str  # "own", "length" or "shifted"; "score" of another metric
    value: str  # of a length such as "128" or "41-80", the spec of the shifted task, or the name of the metric


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestScore:
    """How the runs of a row do on one kind of test rows: those of their own task, or other rows."""

    key: ScoreKey
    label: str
    length: float | None  # of the test rows, the middle of a range; None where unknown
    accuracies: tuple[float, ...]  # of the runs that have one
    floor: float | None = None  # means over runs
    ceiling: float | None = None
    loss: float | None = None
    estimate: Callable[[Sequence[float]], Estimate | None] = intervals.mean_accuracy  # of another metric its own

    @functools.cached_property
    def accuracy(self) -> Estimate | None:
        """Mean accuracy with its interval or range, or what `estimate` makes of a metric; None without a run."""
        return self.estimate(self.accuracies) if self.accuracies else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of a study. `ended` runs are done or diverged; unsolved and diverged ones stay in the denominator."""

    config: dict[str, Any]  # flat, of the cell's first run
    varied: dict[str, Any]  # what distinguishes the cell, apart from `model.attention`
    results: tuple[dict[str, Any], ...]  # of the ended runs, by seed
    metrics: tuple[list[dict[str, Any]], ...]  # lines of metrics.jsonl of the ended runs
    seeds: tuple[int, ...]  # of the ended runs, as below
    environments: tuple[int, ...]  # indices into Study.environments
    setups: tuple[Setup, ...]
    choices: tuple[Choice, ...] = ()
    others: tuple[dict[str, Any], ...] = ()  # results of the runs that were used to choose and are not reported
    provisional: bool = False  # whether runs that only choose stand in for the reported ones, none of which has ended
    passed_over: bool = False  # whether some seeds only choose, and a value that is not chosen has been reported
    metric: Metric = ACCURACY  # by which rows are ordered and compared

    @property
    def attention(self) -> str:
        """The spec of the cell's attention."""
        return self.config["model.attention"]

    @functools.cached_property
    def task(self) -> TaskFacts:
        """What the results record about the task; for results without such facts, what the spec spells out."""
        facts = next((result["task"] for result in self.results if "task" in result), None)
        if facts is not None:
            return TaskFacts(**{f.name: facts[f.name] for f in dataclasses.fields(TaskFacts) if f.name in facts})
        name, fields = specs.parse_spec(self.config["task"])
        return TaskFacts(name=name, fields={field: _literal(text) for field, text in fields.items()})

    @functools.cached_property
    def size(self) -> ModelSize:
        """Depth and width: as recorded, or else from the config."""
        model = next((result["model"] for result in self.results if "model" in result), None)
        if model is not None:
            return ModelSize(model["layers"], model["model_dim"], model["mlp_dim"])
        layers = self.config["model.num_layers"] or len(specs.split_layers(self.attention))
        return ModelSize(layers, self.config["model.model_dim"], self.config["model.mlp_dim"])

    @functools.cached_property
    def tests(self) -> tuple[TestScore, ...]:
        """The test on rows of the own task, then the tests on other rows in the order in which they were made."""
        return (self._own_test(), *_other_tests(self.results, self.config["task"]))

    @property
    def other_rows(self) -> tuple[TestScore, ...]:
        """The tests on rows other than those of training."""
        return self.tests[1:]

    def test(self, key: ScoreKey) -> TestScore | None:
        """Returns the test with this key, None where there is none."""
        return next((test for test in self.tests if test.key == key), None)

    @property
    def ended(self) -> int:
        """Number of runs that are done or diverged."""
        return len(self.results)

    @property
    def diverged(self) -> int:
        """Number of runs that met NaN or infinity."""
        return sum(result["status"] == "diverged" for result in self.results)

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Test accuracy of every run that has one."""
        return self.tests[0].accuracies

    @property
    def accuracy(self) -> Estimate | None:
        """Mean test accuracy with its interval or range, see `TestScore.accuracy`."""
        return self.tests[0].accuracy

    @functools.cached_property
    def score(self) -> TestScore:
        """How the row does by its metric: its test accuracy, or another score."""
        if self.metric is ACCURACY:
            return self.tests[0]
        floors, ceilings = zip(*map(self.metric.bounds, self.results), strict=True)
        return TestScore(
            key=ScoreKey("score", self.metric.name),
            label=self.metric.label,
            length=None,
            accuracies=tuple(self.score_by_seed.values()),
            floor=_mean(floors),
            ceiling=_mean(ceilings),
            estimate=self.metric.kind.estimate,
        )

    @functools.cached_property
    def score_by_seed(self) -> dict[int, float]:
        """The metric of every run that has it."""
        scores = {seed: self.metric.of_run(result) for seed, result in zip(self.seeds, self.results, strict=True)}
        return {seed: score for seed, score in scores.items() if score is not None}

    @property
    def above_ceiling(self) -> bool:
        """Whether all runs beat a ceiling on some rows, and their mean does so by more than `ABOVE`."""
        return any(
            test.accuracies
            and test.ceiling is not None
            and min(test.accuracies) > test.ceiling
            and statistics.fmean(test.accuracies) > test.ceiling + ABOVE
            for test in self.tests
        )

    @property
    def solved(self) -> int:
        """Number of runs that reached `train.solved_at`."""
        return sum(result["steps_to_solve"] is not None for result in self.results)

    @property
    def solve_interval(self) -> tuple[float, float]:
        """Wilson interval of the solve rate."""
        return intervals.wilson(self.solved, self.ended)

    @property
    def steps_to_solve(self) -> float | None:
        """Median over all ended runs, unsolved ones counting as later than any; None where the median is unsolved."""
        return intervals.median_steps([result["steps_to_solve"] for result in self.results])

    @functools.cached_property
    def late_gain(self) -> float | None:
        """By how much validation accuracy rose over the last fifth of the steps: its slope, mean over runs.

        A run that has stopped because it solves its task, or diverged, gains nothing. None if too few evaluations
        fell into that time to tell.
        """
        gains = [_late_gain(rows, self.config["train.steps"]) for rows in self.metrics]
        known = [gain for gain in gains if gain is not None]
        return statistics.fmean(known) if known and len(known) == len(gains) else None

    @property
    def still_improving(self) -> bool:
        """Whether accuracy rose late by more than `FLAT`, and by more than twice the chance error of a difference.

        That is the error of a difference of two accuracies over as many rows as validation has, mean over runs.
        """
        if self.late_gain is None:
            return False
        last = statistics.fmean(rows[-1]["validation_accuracy"] for rows in self.metrics)
        error = math.sqrt(2 * last * (1 - last) / (self.config["eval.validation_rows"] * len(self.metrics)))
        return self.late_gain > max(FLAT, 2 * error)

    @property
    def search_flops(self) -> float:
        """Training FLOPs of all runs that were made to choose and are not reported; pretraining has its own row."""
        costs = [result.get("compute", {}) for result in self.others]
        return float(sum(cost.get("train_flops_executed", 0) - cost.get("pretrain_flops", 0) for cost in costs))

    def slices(self, name: str) -> list[dict[str, Any]]:
        """Returns the slice of that name from every run that has it."""
        return [result["slices"][name] for result in self.results if name in result["slices"]]

    def values(self, name: str) -> list[float]:
        """Returns a field of the results, or of their `compute`, leaving out runs that lack it."""
        found = [result.get(name, result.get("compute", {}).get(name)) for result in self.results]
        return [value for value in found if value is not None]

    def mean(self, name: str) -> float | None:
        """Returns the mean of `values(name)`, None without any."""
        return _mean(self.values(name))

    def median(self, name: str) -> float | None:
        """Returns the median of `values(name)`, None without any."""
        values = self.values(name)
        return statistics.median(values) if values else None

    def _own_test(self) -> TestScore:
        return TestScore(
            key=ScoreKey("own", ""),
            label="as trained",
            length=self.task.train_length,
            accuracies=tuple(self.values("test_accuracy")),
            floor=self.mean("floor"),
            ceiling=self.mean("ceiling"),
            loss=self.mean("test_loss"),
        )


def _late_gain(rows: Sequence[Mapping[str, Any]], steps: int) -> float | None:
    """Returns the rise of validation accuracy over the last part of a run of so many steps, see `Row.late_gain`."""
    if not rows:
        return None
    if rows[-1]["step"] < steps:
        return 0.0
    late = [row for row in rows if row["step"] >= (1 - _LATE) * steps and row.get("validation_accuracy") is not None]
    if len(late) < 2:
        return None
    slope = statistics.linear_regression([row["step"] for row in late], [row["validation_accuracy"] for row in late])
    return slope.slope * _LATE * steps


def task_differences(tasks: Sequence[TaskFacts]) -> list[dict[str, Any]] | None:
    """Returns for each task the fields in which `tasks` differ; None where they differ in name, or fields are unknown.

    Fields are unknown where a result has no facts and its spec leaves them to their defaults.
    """
    names = list(dict.fromkeys(name for task in tasks for name in task.fields))
    if len({task.name for task in tasks}) > 1 or any(name not in task.fields for task in tasks for name in names):
        return None
    varied = [name for name in names if len({str(task.fields[name]) for task in tasks}) > 1]
    return [{name: task.fields[name] for name in varied} for task in tasks]


def _other_tests(results: Sequence[Mapping[str, Any]], task: str) -> list[TestScore]:
    """Returns the tests on other rows, each averaged over the runs that have it."""
    groups: dict[ScoreKey, list[Mapping[str, Any]]] = {}
    for result in results:
        for test in legacy.tests_of_today(result, task):
            groups.setdefault(ScoreKey(test["kind"], test["value"]), []).append(test)
    return [
        TestScore(
            key=key,
            label=tests[0]["label"],
            length=tests[0]["length"],
            accuracies=tuple(test["accuracy"] for test in tests if test["accuracy"] is not None),
            floor=_mean([test["floor"] for test in tests]),
            ceiling=_mean([test["ceiling"] for test in tests]),
            loss=_mean([test["loss"] for test in tests]),
        )
        for key, tests in groups.items()
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _literal(text: str) -> Any:
    """Returns the number that a field of a spec spells, or else its text."""
    for kind in (int, float):
        try:
            return specs.coerce(text, kind, "field")
        except specs.SpecError:
            continue
    return text
