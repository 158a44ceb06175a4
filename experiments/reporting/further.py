"""Scores of a row beside its accuracy: at further lengths, on shifted tasks, and the loss where answers are numbers."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.studies.results import Row, Study, task_differences
from experiments.tasks.base import Task
from experiments.tasks.registry import make_task

Heading = tuple[str, str]  # on two lines


def headings(study: Study) -> list[Heading]:
    """Returns the headings under which any row of a study has such a score: losses, lengths, shifts."""
    found = {heading: _rank(heading) for row in study.rows for heading in scores(row)}
    return sorted(found, key=lambda heading: found[heading])


def scores(row: Row) -> dict[Heading, float]:
    """Returns the mean over a row's seeds under each heading."""
    values: dict[Heading, list[float]] = {}
    for heading, value in _all_scores(row):
        values.setdefault(heading, []).append(value)
    return {heading: statistics.fmean(each) for heading, each in values.items()}


def bounds(row: Row) -> dict[Heading, tuple[float, float]]:
    """Returns floor and ceiling, means over a row's seeds, under each heading of an accuracy."""
    found: dict[Heading, list[tuple[float, float]]] = {}
    for heading, score in _tests(row):
        found.setdefault(heading, []).append((score["floor"], score["ceiling"]))
    return {heading: _means(each) for heading, each in found.items()}


def is_loss(heading: Heading) -> bool:
    """Whether a score is a mean squared error; others are accuracies."""
    return heading in (_LOSS, _LOSS_FLOOR)


def shift_label(task: str, shifted: str) -> str:
    """Returns in what a shifted task differs from a row's own, such as "distractors=8", or else its spec."""
    differences = task_differences([task, shifted])
    if differences is None:
        return shifted
    return ", ".join(f"{name}={value}" for name, value in differences[1].items()) or "as trained"


def middle(lengths: str) -> float:
    """Returns the middle of a range of lengths such as "41-80", or the length itself."""
    ends = [float(end) for end in lengths.split("-")]
    return sum(ends) / len(ends)


_LOSS, _LOSS_FLOOR = ("mean sq.", "error"), ("floor of", "error")


def _all_scores(row: Row) -> Iterator[tuple[Heading, float]]:
    task = _task(row)
    for result in row.results:
        if task is not None and task.tolerance is not None and result.get("test_loss") is not None:
            yield _LOSS, result["test_loss"]
            yield _LOSS_FLOOR, min(task.loss_floors().values(), default=float("inf"))
    for heading, score in _tests(row):
        yield heading, score["accuracy"]


def _tests(row: Row) -> Iterator[tuple[Heading, Mapping[str, Any]]]:
    for result in row.results:
        for length, score in result.get("lengths", {}).items():
            yield ("accuracy", f"at {length}"), score
        for spec, score in result.get("shifted", {}).items():
            yield ("shifted:", shift_label(row.config["task"], spec)), score


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    floors, ceilings = zip(*pairs, strict=True)
    return statistics.fmean(floors), statistics.fmean(ceilings)


def _task(row: Row) -> Task | None:
    try:
        return make_task(row.config["task"])
    except ValueError:  # the results of a version that had what this one has not
        return None


def _rank(heading: Heading) -> tuple[int, float]:
    """Orders headings; shifts stay as they are met."""
    if heading[0] == "accuracy":
        return 1, middle(heading[1].removeprefix("at "))
    return (0 if is_loss(heading) else 2), 0
