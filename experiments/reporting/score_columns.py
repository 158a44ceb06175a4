"""The columns of the score by which rows are ordered, and of what was chosen by validation accuracy."""

import dataclasses
from collections.abc import Callable
from typing import Any

from experiments.reporting.column import Column, number, spread, spread_record
from experiments.reporting.text import human, plural, rate, setting
from experiments.studies.intervals import LEAST
from experiments.studies.results import Study
from experiments.studies.rows import FLAT, Choice, Row
from experiments.studies.scores import ACCURACY, Metric

_EDGES = {-1: "<", 0: "", 1: ">"}  # of what was tried
_RISING = "^"


def chosen(study: Study) -> list[Column]:
    """Returns a column for each field that was chosen by validation accuracy."""

    def choice(row: Row, key: str) -> Choice | None:
        return next((choice for choice in row.choices if choice.key == key), None)

    def column(key: str) -> Column:
        name = key.split(".")[-1].replace("_", " ")
        return number(
            key,
            ("chosen", name),
            lambda row: found.value if (found := choice(row, key)) else None,
            lambda value: "-" if value is None else setting(value),
            more=lambda row: _choice_record(key, choice(row, key)),
            mark=lambda row: _EDGES[found.edge] if (found := choice(row, key)) else "",
            note=f"Chosen {name}: by best mean validation accuracy of the row; < or >: the smallest or largest tried, "
            "so that a better one may lie beyond.",
        )

    return [column(key) for key in dict.fromkeys(choice.key for row in study.rows for choice in row.choices)]


def _choice_record(key: str, choice: Choice | None) -> dict[str, Any]:
    """Returns what was chosen and from which values, for CSV: the whole curve and what summarises it."""
    curve = "; ".join(f"{setting(value)}: {score}" for value, score in choice.curve) if choice else None
    names = ("edge", "best", "median", "window")
    return {f"{key}, curve": curve, **{f"{key}, {name}": getattr(choice, name, None) for name in names}}


def score(study: Study) -> Column:
    """Returns the column of the score by which rows are ordered, with its interval or range."""
    metric, accuracy = study.metric, study.metric is ACCURACY
    around = {
        "interval": metric.kind.words,
        "range": "the range of the seeds" + (f" where they are fewer than {LEAST}" if metric.kind.difference else ""),
    }
    kinds = {row.score.accuracy.kind for row in study.rows if row.score.accuracy}
    words = " or ".join(around[kind] for kind in around if kind in kinds)
    name = "Accuracy" if accuracy else f"{metric.label[0].upper()}{metric.label[1:]}"
    mean = "" if metric.label.endswith("median") else "mean "
    where = " on test rows that are drawn once" if accuracy else ", in place of the test accuracy"

    def others(row: Row) -> dict[str, Any]:
        means = {"accuracy": row.accuracy and row.accuracy.mean, "validation_accuracy": row.mean("validation_accuracy")}
        gain = {"late_gain": row.late_gain, "still_improving": row.still_improving}
        return {name: value for name, value in means.items() if name != metric.name} | gain

    return number(
        metric.name,
        _heading(metric),
        lambda row: row.score.accuracy.mean if row.score.accuracy else None,
        rate if metric.kind.unit else human,
        more=lambda row: spread_record(metric.name, row.score.accuracy) | others(row),
        detail=lambda row: spread(row.score.accuracy, 3 if metric.kind.unit else None),
        mark=lambda row: _RISING if row.still_improving else "",
        best=study.best,
        note=f"{name}: {mean}over n seeds{where}{words and ', with '}{words}.",
    )


def rising_notes(study: Study) -> list[str]:
    """Returns what the mark of rows that were still improving means, and for how many rows this is not known."""
    notes = []
    if any(row.still_improving for row in study.rows):
        notes.append(
            f"{_RISING} validation accuracy rose by more than {FLAT}, and than twice its noise, over the last fifth "
            "of the steps: more of them may raise it."
        )
    if unknown := sum(row.late_gain is None for row in study.rows):
        rows = "any row" if unknown == len(study.rows) else plural(unknown, "row")
        notes.append(f"It is not known for {rows} whether accuracy was still rising: too few evaluations were late.")
    return notes


def search_flops(study: Study) -> list[Column]:
    """Returns the column of what it cost to choose, if anything was chosen."""
    if not any(row.others for row in study.rows):
        return []
    return [
        number(
            "search_flops",
            ("search", "FLOPs"),
            lambda row: row.search_flops,
            more=lambda row: {"search_runs": len(row.others)},
            note="Search FLOPs: training FLOPs, executed, of all runs among which was chosen and that do not count in "
            "the row.",
        )
    ]


def _heading(metric: Metric) -> tuple[str, str]:
    """Returns the name of a metric in two lines."""
    words = metric.name.replace("_", " ").split(" ")
    return ("", words[0]) if len(words) == 1 else (" ".join(words[:-1]), words[-1])


def beside(first: Column, others: list[Column], row: Row) -> list[Column]:
    """Returns the columns beside that of the score, without the values that it has already."""

    def without(more: Callable[[Row], dict[str, Any]]) -> Callable[[Row], dict[str, Any]]:
        return lambda row: {name: value for name, value in more(row).items() if name not in known}

    known = first.record(row)
    kept = [column for column in others if column.key not in known]
    return [dataclasses.replace(column, more=without(column.more)) for column in kept]
