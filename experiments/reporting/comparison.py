"""The table of paired differences: each row of a study minus the row of one model on the same task."""

from collections.abc import Callable, Sequence
from typing import Any

from experiments.reporting import tables
from experiments.reporting.column import Column, number, spread, spread_record
from experiments.reporting.columns import naming
from experiments.reporting.names import find_model
from experiments.reporting.score_columns import score
from experiments.reporting.text import human, listed
from experiments.studies.intervals import LEAST, Estimate
from experiments.studies.paired import Difference
from experiments.studies.results import Study
from experiments.studies.rows import Row
from experiments.studies.scores import ACCURACY

_UNLIKE = "*"  # marks rows that ran with other versions or on another device


def comparison(study: Study, name: str, choose: tables.Choose = list) -> tables.Table:
    """Returns the table of each row minus that of a model on the same task; each task has its own correction.

    Args:
      study: of the rows.
      name: of the model.
      choose: returns which columns the table has, given all.

    Raises:
      ValueError: `name` matches no model or several, or the metric cannot be compared in pairs.
    """
    if study.metric.kind.difference is None:
        raise ValueError(
            f"--compare: {study.metric.name} is not compared in pairs of seeds; accuracies and losses are."
        )
    model = find_model(study, name)
    pairs = [pair for members in study.minus(model).values() for pair in members]
    found = {id(row): difference for row, difference in pairs}
    columns = choose([*naming(study), score(study), *_columns(study, model, lambda row: found[id(row)])])
    notes = [tables.explanations(columns), *tables.size_notes(study)]
    unlike = any(difference and not difference.alike for _, difference in pairs)
    missing = [task for task in study.by_task if task not in study.minus(model)]
    warnings = [*_unlike_note(unlike), *_missing_note(model, missing), *tables.warnings(study)]
    return tables.Table(f"{study.title}, minus {model}", columns, [row for row, _ in pairs], notes, warnings)


def _columns(study: Study, model: str, difference: Callable[[Row], Difference | None]) -> list[Column]:
    """Returns the columns of the differences from `model`."""
    unit, what = study.metric.kind.unit, "accuracy" if study.metric is ACCURACY else study.metric.label
    test = "the level at which the interval of the differences ends at 0" if unit else "of a paired t test"

    def estimate(row: Row) -> Estimate | None:
        found = difference(row)
        return found.estimate if found else None

    def text(row: Row) -> str:
        if difference(row) is None:
            return "reference"
        return _signed(found.mean, unit) if (found := estimate(row)) else "-"

    def of(row: Row, field: str) -> Any:
        return getattr(difference(row), field, None)

    return [
        Column(
            key="difference",
            heading=("", "difference"),
            value=lambda row: found.mean if (found := estimate(row)) else None,
            text=text,
            more=lambda row: spread_record("difference", estimate(row)) | {"alike": of(row, "alike")},
            detail=lambda row: spread(estimate(row), 3 if unit else None),
            mark=lambda row: _UNLIKE if of(row, "alike") is False else "",
            note=f"Difference: {what} minus that of {model} on the same task, mean over common seeds. Its interval "
            "is of pairs, wide enough that in 95 % of studies those of a task are right all at once (Bonferroni's "
            f"correction); with fewer than {LEAST} common seeds it is the range.",
        ),
        number("common_seeds", ("common", "seeds"), lambda row: found.n if (found := estimate(row)) else None, _dash),
        number(
            "p",
            ("", "p"),
            lambda row: of(row, "p"),
            _p_value,
            note=f"p: {test}, over at least {LEAST} common seeds, by Holm's correction for the number of rows of a "
            "task.",
        ),
        number(
            "separates",
            ("", "separates"),
            lambda row: of(row, "separates"),
            lambda value: "-" if value is None else "yes" if value else "no",
            note="Separates: p is at most 0.05; - where that cannot be told. Holm's correction is no stricter than "
            "Bonferroni's, so an interval may reach past 0 where a row separates.",
        ),
    ]


def _unlike_note(unlike: bool) -> Sequence[str]:
    if not unlike:
        return ()
    return (
        f"{_UNLIKE} ran with other versions or on another device than the row it is compared with: not told apart.",
    )


def _missing_note(model: str, tasks: Sequence[str]) -> Sequence[str]:
    return (f"Left out, for {model} is not there: {listed(tasks)}.",) if tasks else ()


def _signed(value: float, unit: bool) -> str:
    return f"{value:+.3f}" if unit else f"{'-' if value < 0 else '+'}{human(abs(value))}"


def _dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _p_value(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
