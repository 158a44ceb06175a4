"""The table of paired differences: each row of a study minus the row of one model on the same task."""

from collections.abc import Callable, Sequence
from typing import Any

from attention_variants import specs
from experiments.reporting import tables
from experiments.reporting.column import Column, number, spread, spread_record
from experiments.reporting.columns import accuracy, naming
from experiments.reporting.text import listed
from experiments.studies import paired
from experiments.studies.intervals import LEAST, Estimate
from experiments.studies.paired import Difference
from experiments.studies.results import Study
from experiments.studies.rows import Row

_UNLIKE = "*"  # marks rows that ran with other versions or on another device
_PREFIX = "conv+"  # most models begin with a convolution, and names may leave it out


def comparison(study: Study, name: str) -> tables.Table:
    """Returns the table of each row minus that of a model on the same task; the task's correction is its own.

    Raises:
      ValueError: `name` is that of no model or of several.
    """
    model = find_model(study, name)
    found: dict[int, Difference | None] = {}  # by the identity of rows; None of the reference
    rows: list[Row] = []
    for members in study.by_task.values():
        reference = next((row for row in members if study.model(row) == model), None)
        if reference is not None:
            others = [row for row in members if row is not reference]
            found |= dict(zip(map(id, others), paired.differences(others, reference), strict=True))
            found[id(reference)] = None
            rows += members
    columns = [*naming(study), accuracy(study), *_columns(model, lambda row: found[id(row)])]
    notes = [tables.explanations(columns), *tables.size_notes(study)]
    unlike = any(difference and not difference.alike for difference in found.values())
    missing = [task for task, members in study.by_task.items() if members[0] not in rows]
    warnings = [*_unlike_note(unlike), *_missing_note(model, missing), *tables.warnings(study)]
    return tables.Table(f"{study.title}, minus {model}", columns, rows, notes, warnings)


def find_model(study: Study, name: str) -> str:
    """Returns the model of a study that `name` names: by its label or attention, with or without `conv+` and fields.

    Raises:
      ValueError: there is none, nearest ones first, or there are several.
    """
    spelled = {model: _spellings(model, study) for model in study.models}
    for place in range(len(next(iter(spelled.values())))):
        found = [model for model, spellings in spelled.items() if spellings[place] == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"--compare={name} names {len(found)} models; write one of {', '.join(map(repr, found))}.")
    raise specs.SpecError(
        f"--compare: {specs.unknown('model', name, [spellings[1] for spellings in spelled.values()])}"
    )


def _spellings(model: str, study: Study) -> list[str]:
    """Returns what may name a model, the most exact first."""
    attention = next(row.attention for row in study.rows if study.model(row) == model)
    plain = "+".join(part.partition(":")[0] for part in specs.split_layers(attention))
    return [text for whole in (model, attention, plain) for text in (whole, whole.removeprefix(_PREFIX))]


def _columns(model: str, difference: Callable[[Row], Difference | None]) -> list[Column]:
    """Returns the columns of the differences from `model`."""

    def estimate(row: Row) -> Estimate | None:
        found = difference(row)
        return found.estimate if found else None

    def text(row: Row) -> str:
        if difference(row) is None:
            return "reference"
        return f"{found.mean:+.3f}" if (found := estimate(row)) else "-"

    def of(row: Row, field: str) -> Any:
        return getattr(difference(row), field, None)

    return [
        Column(
            key="difference",
            heading=("", "difference"),
            value=lambda row: found.mean if (found := estimate(row)) else None,
            text=text,
            more=lambda row: spread_record("difference", estimate(row)) | {"alike": of(row, "alike")},
            detail=lambda row: spread(estimate(row)),
            mark=lambda row: _UNLIKE if of(row, "alike") is False else "",
            note=f"Difference: accuracy minus that of {model} on the same task, mean over common seeds. Its interval "
            "is of pairs, wide enough that in 95 % of studies those of a task are right all at once (Bonferroni's "
            f"correction); with fewer than {LEAST} common seeds it is the range.",
        ),
        number("common_seeds", ("common", "seeds"), lambda row: found.n if (found := estimate(row)) else None, _dash),
        number(
            "p",
            ("", "p"),
            lambda row: of(row, "p"),
            _p_value,
            note="p: the larger of those of paired t tests of the differences and of the log-odds, over at least "
            f"{LEAST} common seeds, by Holm's correction for the number of rows of a task.",
        ),
        number(
            "separates",
            ("", "separates"),
            lambda row: of(row, "separates"),
            lambda value: "-" if value is None else "yes" if value else "no",
            note="Separates: p is at most 0.05; - where that cannot be told. Holm's correction is no stricter than "
            "Bonferroni's, so an interval may just reach 0 where a row separates.",
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


def _dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _p_value(value: float | None) -> str:
    return "-" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
