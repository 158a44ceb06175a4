"""Scores by which rows can be ordered, compared and drawn, in place of the test accuracy.

A metric takes one number from the result of each run; its kind says how the numbers of a row are summarised and whether
those of two rows can be compared in pairs.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.studies import intervals, legacy
from experiments.studies.intervals import Estimate

Result = Mapping[str, Any]
Bounds = tuple[float | None, float | None]  # floor and ceiling of one run


class Kind(NamedTuple):
    """How the numbers of the runs of a row are summarised, and those of two rows compared."""

    estimate: Callable[[Sequence[float]], Estimate | None]
    difference: Callable[..., Estimate] | None  # of pairs; also takes the number of comparisons; None: not done
    p: Callable[..., Any] | None  # that pairs have equal means
    words: str  # what stands around a score of 5 runs and more
    unit: bool  # whether scores are from 0 to 1


SHARE = Kind(
    intervals.mean_accuracy,
    intervals.mean_difference,
    intervals.paired_p,
    "a 95 % interval by Student's t of its log-odds",
    unit=True,
)
NUMBER = Kind(
    intervals.mean_number, intervals.number_difference, intervals.number_p, "a 95 % interval by Student's t", unit=False
)
RATE = Kind(intervals.solve_rate, None, None, "a 95 % Wilson interval", unit=True)
STEPS = Kind(intervals.median_and_range, None, None, "the range of the seeds", unit=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """One score of a run."""

    name: str  # as in CSV
    label: str  # of an axis
    of_run: Callable[[Result], float | None]  # None where a run has none
    bounds: Callable[[Result], Bounds] = lambda result: (None, None)
    kind: Kind = SHARE
    higher: bool = True  # whether a higher one is better

    def rank(self, estimate: Estimate | None) -> float:
        """Returns a number that is smaller for a better score, and infinite without one."""
        return math.inf if estimate is None else -estimate.mean if self.higher else estimate.mean


def _field(name: str, label: str, **more: Any) -> Metric:
    """Returns the metric of a field of results, leaving out values that are not finite."""

    def of_run(result: Result) -> float | None:
        value = result.get(name)
        return value if value is not None and math.isfinite(value) else None

    return Metric(name=name, label=label, of_run=of_run, **more)


def _own_bounds(result: Result) -> Bounds:
    return result.get("floor"), result.get("ceiling")


ACCURACY = dataclasses.replace(_field("test_accuracy", "test accuracy", bounds=_own_bounds), name="accuracy")
_FIELDS = (
    ACCURACY,
    _field("validation_accuracy", "validation accuracy", bounds=_own_bounds),
    _field("unseen_accuracy", "accuracy on unseen rows", bounds=_own_bounds),
    dataclasses.replace(_field("test_loss", "test loss", kind=NUMBER, higher=False), name="loss"),
    _field("validation_loss", "validation loss", kind=NUMBER, higher=False),
    _field("row_accuracy", "share of rows with all answers right"),
    Metric(
        name="solve_rate",
        label="share of runs that solve",
        of_run=lambda result: float(result["steps_to_solve"] is not None),
        kind=RATE,
    ),
    Metric(
        name="steps_to_solve_median",
        label="steps to solve, median",
        of_run=lambda result: math.inf if result["steps_to_solve"] is None else float(result["steps_to_solve"]),
        kind=STEPS,
        higher=False,
    ),
)


def available(results: Sequence[tuple[Result, str]]) -> dict[str, Metric]:
    """Returns the metrics that some run has, by name.

    Args:
      results: each with the spec of its run's task; the labels of shifted tasks say how they differ from it.
    """
    found = [metric for metric in _FIELDS if any(metric.of_run(result) is not None for result, _ in results)]
    tests = [test for result, task in results for test in legacy.tests_of_today(result, task)]
    with_rows = {(test["kind"], test["value"]) for test in tests if test.get("row_accuracy") is not None}
    for key, name in names_of_tests(tests).items():
        accuracy = _test_metric(*key, " ".join(name))
        found += [accuracy, _of_rows(accuracy, _test(*key))] if key in with_rows else [accuracy]
    slices = [(name, item) for result, _ in results for name, item in result["slices"].items()]
    bins = {(name, first, label) for name, item in slices for first, label, _ in _bins(item)}
    whole = {name for name, item in slices if "row_accuracy" in item}
    for name, first, label in sorted(bins):
        accuracy = _slice_metric(name, first, label)
        found += [accuracy, _of_rows(accuracy, _bin(name, first))] if name in whole else [accuracy]
    return {metric.name: metric for metric in found}


def names_of_tests(tests: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[str, str]]:
    """Returns what tests on other rows are called, as {(kind, value): two parts}.

    Lengths come from short to long, then shifted tasks in order of appearance. A test that has several names, or shares
    its name with another, is called by its value.
    """
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for test in tests:
        found.setdefault((test["kind"], test["value"]), []).append(test)
    labels = {key: {test["label"] for test in same} for key, same in found.items()}
    lengths = sorted((k for k in found if k[0] == "length"), key=lambda k: (found[k][0]["length"] or 0.0, k[1]))
    names = {}
    for key in [*lengths, *(key for key in found if key[0] != "length")]:
        shared = len(labels[key]) == 1 and list(labels.values()).count(labels[key]) == 1
        first = "accuracy" if key[0] == "length" else f"{key[0]}:"
        names[key] = first, next(iter(labels[key])) if shared else key[1]
    return names


def _of_rows(accuracy: Metric, scores: Callable[[Result], Mapping[str, Any]]) -> Metric:
    """Returns the metric of whole rows that goes with an accuracy; it has no known shortcut or ceiling."""
    return Metric(
        name=f"row accuracy, {accuracy.name.removeprefix('accuracy ')}",
        label=accuracy.label.replace("test accuracy", "share of rows all right", 1),
        of_run=lambda result: scores(result).get("row_accuracy"),
    )


def _test(kind: str, value: str) -> Callable[[Result], Mapping[str, Any]]:
    """Returns a function that finds the scores of a test on other rows."""

    def test(result: Result) -> Mapping[str, Any]:
        tests = legacy.tests_of_today(result, "")  # whose labels are not needed
        return next((test for test in tests if (test["kind"], test["value"]) == (kind, value)), {})

    return test


def _test_metric(kind: str, value: str, name: str) -> Metric:
    """Returns the metric of a test on other rows."""
    test = _test(kind, value)
    return Metric(
        name=name,
        label=f"test {name}" if kind == "length" else f"test accuracy, {name}",
        of_run=lambda result: test(result).get("accuracy"),
        bounds=lambda result: (test(result).get("floor"), test(result).get("ceiling")),
    )


def _bin(name: str, start: int) -> Callable[[Result], Mapping[str, Any]]:
    """Returns a function that finds the scores of one bin of a slice."""

    def scores(result: Result) -> Mapping[str, Any]:
        item = result["slices"].get(name, {})
        place = next((place for first, _, place in _bins(item) if first == start), None)
        fields = ("accuracy", "ceiling", "row_accuracy")
        return {} if place is None else {field: item[field][place] for field in fields if field in item}

    return scores


def _slice_metric(name: str, start: int, label: str) -> Metric:
    """Returns the metric of one bin of a slice, which has no floor of its own."""
    scores = _bin(name, start)
    return Metric(
        name=f"{name}={label}",
        label=f"test accuracy at {name.replace('_', ' ')} {label}",
        of_run=lambda result: scores(result).get("accuracy"),
        bounds=lambda result: (None, scores(result).get("ceiling")),
    )


def _bins(item: Mapping[str, Any]) -> list[tuple[int, str, int]]:
    """Returns the first value, label and place of every bin of a slice that contains targets, if there are several."""
    if "edges" in item:
        ends = zip(item["edges"][:-1], item["edges"][1:], strict=True)
        labels = {first: f"{first}-{end - 1}" if end - first > 1 else str(first) for first, end in ends}
    else:
        labels = {value: str(value) for value in item.get("values", ())}
    found = zip(labels.items(), item.get("count", ()), strict=True)
    bins = [(first, label, place) for place, ((first, label), count) in enumerate(found) if count]
    return bins if len(bins) > 1 else []
