"""Which rows and columns of a study a table shows, and in which order, as a command line asks.

Rows are selected from those in the table: what a study chooses by validation accuracy was chosen before.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from attention_variants import specs
from experiments.reporting.column import Column, number
from experiments.reporting.columns import columns
from experiments.reporting.names import find, find_models, known
from experiments.reporting.tables import Table
from experiments.reporting.text import human, plural, setting
from experiments.studies.cells import STUDY
from experiments.studies.results import Study, natural
from experiments.studies.rows import Row

_OPERATORS = re.compile("<=|>=|!=|=|<|>")
_FORM = "expected FIELD=VALUE, or != < <= > >= in place of =, such as 'task=mqar*' or 'train.learning_rate>=0.003'"
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
}


class Field(NamedTuple):
    """Something that every row has a value for."""

    value: Callable[[Row], Any]
    others: tuple[str, ...] = ()  # further names


class _Condition(NamedTuple):
    text: str
    name: str
    operator: str
    wanted: str


def select(
    study: Study, models: str | None = None, where: Sequence[str] = (), flag: str = "--rows"
) -> tuple[Study, list[str]]:
    """Returns the study with some of its rows, and a note that says so; with all of them and no note by default.

    Args:
      study: whose rows are selected.
      models: names or globs of models with `|` between them.
      where: conditions on fields, all of which must hold.
      flag: which gave `models`, for messages.

    Raises:
      SpecError: a name or value is invalid, nearest valid choices first; or no row is left.
    """
    rows = list(study.rows)
    if models is not None:
        wanted = find_models(study, models, flag)
        rows = [row for row in rows if study.model(row) in wanted]
    every = fields(columns(study), rows)
    for condition in (_read(text, every) for text in where):
        kept = [row for row in rows if _holds(every[condition.name].value(row), condition)]
        if not kept:
            raise specs.SpecError(f"--where={condition.text} leaves no row; {_values(rows, every, condition)}.")
        rows = kept
    if not models and not where:
        return study, []
    part = _restrict(study, rows)
    return part, [
        _note(study, part, [*([f"{flag}={models}"] if models else []), *(f"--where={text}" for text in where)])
    ]


def choose(study: Study, wanted: str, parts: Sequence[Column]) -> list[Column]:
    """Returns those of `parts` that name a row, then the columns in the comma-separated `wanted`, in its order.

    Whatever CSV has a name for can be a column; a glob stands for all columns of the table that match.

    Raises:
      SpecError: there is no such column; the nearest ones first.
    """
    every: dict[str, Column] = {}
    for column in [*parts, *columns(study)]:  # a comparison may show what its study has
        every.setdefault(column.key, column)
        for name in column.more(study.rows[0]):
            every.setdefault(name, _more(column, name))
    found = {column.key: column for column in parts if column.names_row}
    for word in words(wanted, every):
        matching = [name for name, column in every.items() if column.shown and fnmatchcase(name, word)]
        names = matching or [find("--columns", "column", word, {n: (c.title,) for n, c in every.items()})]
        for name in names:
            found.setdefault(name, dataclasses.replace(every[name], shown=True, more=lambda row: {}))
    return list(found.values())


def sort(study: Study, table: Table, wanted: str) -> Table:
    """Returns the table with its rows sorted by comma-separated fields; with `-` before a field, largest first.

    Rows without a value come last, and equal ones keep their order.

    Raises:
      SpecError: there is no such field; the nearest ones first.
    """
    rows = list(table.rows)
    every = fields([*table.columns, *columns(study)], rows)
    for word in words(wanted, every)[::-1]:
        down = word.startswith("-")
        value = every[find("--sort", "field", word.removeprefix("-"), _others(every))].value
        found = [(value(row), row) for row in rows]
        present = sorted((pair for pair in found if pair[0] is not None), key=_sortable, reverse=down)
        rows = [row for _, row in present] + [row for known_value, row in found if known_value is None]
    return table._replace(rows=rows)


def fields(parts: Sequence[Column], rows: Sequence[Row]) -> dict[str, Field]:
    """Returns by name what `rows` have a value for: what is in CSV, the fields of the config, and those of the task."""
    records = {id(row): {n: v for c in reversed(parts) for n, v in c.record(row).items()} for row in rows}
    titles = {column.key: column.title for column in parts}
    names = dict.fromkeys(name for column in parts for name in column.record(rows[0]))
    found = {name: Field(_of_record(records, name), (titles.get(name, name), _last(name))) for name in names}
    pretrained = any(row.config.get("pretrain.task") for row in rows)
    for key in dict.fromkeys(key for row in rows for key in row.config):
        # Without a pretraining `learning_rate` is that of the training.
        short = () if key.startswith("pretrain.") and not pretrained else (_last(key),)
        found.setdefault(key, Field(_of_config(key), short))
    for key in dict.fromkeys(key for row in rows for key in row.task.fields):
        found.setdefault(f"task.{key}", Field(_of_task(key), (key,)))
    return found


def words(text: str, names: Collection[str]) -> list[str]:
    """Returns what is between the commas of `text`; a comma may also be part of one of `names`, after `-`, too."""
    found, rest = [], text.split(",")
    while rest:
        sizes = range(len(rest), 1, -1)
        size = next((n for n in sizes if ",".join(rest[:n]).strip().removeprefix("-") in names), 1)
        found.append(",".join(rest[:size]).strip())
        rest = rest[size:]
    return [word for word in found if word]


def _of_record(records: Mapping[int, Mapping[str, Any]], name: str) -> Callable[[Row], Any]:
    return lambda row: records[id(row)].get(name)


def _of_config(key: str) -> Callable[[Row], Any]:
    return lambda row: row.config.get(key)


def _of_task(key: str) -> Callable[[Row], Any]:
    return lambda row: row.task.fields.get(key)


def _others(every: Mapping[str, Field]) -> dict[str, tuple[str, ...]]:
    return {name: field.others for name, field in every.items()}


def _last(key: str) -> str:
    """Returns the last part of a dotted key; other names are unchanged."""
    return key.rpartition(".")[2] if re.fullmatch(r"[\w.]+", key) else key


def _more(column: Column, name: str) -> Column:
    """Returns the column of a value that only CSV has."""
    return number(name, ("", name.replace("_", " ")), lambda row: column.more(row).get(name), _show)


def _show(value: Any) -> str:
    return human(value) if isinstance(value, float) else "-" if value is None else setting(value)


def _read(text: str, every: Mapping[str, Field]) -> _Condition:
    """Returns the condition that `text` spells; a name may contain an operator."""
    places = [place for place in _OPERATORS.finditer(text) if text[: place.start()].strip()]
    if not places:
        raise specs.SpecError(f"--where={text}: {_FORM}.")
    names = _others(every)
    exact = [place for place in places if known(text[: place.start()], names) is not None]
    place = (exact or places)[0]
    name = find("--where", "field", text[: place.start()].strip(), names)
    condition = _Condition(text, name, place.group(), text[place.end() :].strip())
    if condition.wanted[:1] in tuple("=<>"):
        raise specs.SpecError(f"--where={text}: {condition.operator}{condition.wanted[0]} is no operator; {_FORM}.")
    if condition.operator in _COMPARE and _number(condition.wanted) is None:
        raise specs.SpecError(
            f"--where={text}: after {condition.operator} must stand a number; got {condition.wanted!r}."
        )
    return condition


def _holds(value: Any, condition: _Condition) -> bool:
    if condition.operator in _COMPARE:
        actual, wanted = _number(value), _number(condition.wanted)
        return actual is not None and wanted is not None and _COMPARE[condition.operator](actual, wanted)
    equal = any(_equal(value, pattern.strip()) for pattern in condition.wanted.split("|"))
    return equal == (condition.operator == "=")


def _equal(value: Any, pattern: str) -> bool:
    """Returns whether a value is the number that `pattern` spells, or a text that it matches as a glob."""
    actual, wanted = _number(value), _number(pattern)
    if actual is not None and wanted is not None:
        return actual == wanted
    return fnmatchcase(_text(value), pattern.lower() if value is None or isinstance(value, bool) else pattern)


def _number(value: Any) -> float | None:
    """Returns a number, or the one that a text spells; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _values(rows: Sequence[Row], every: Mapping[str, Field], condition: _Condition) -> str:
    """Says which values a field has in these rows, those nearest to the wanted one first."""
    values = sorted({_text(every[condition.name].value(row)) for row in rows}, key=natural)
    wanted, found = _number(condition.wanted), {value: _number(value) for value in values}
    if wanted is not None:
        values.sort(key=lambda value: math.inf if (one := found[value]) is None else abs(one - wanted))
    elif None in found.values():
        values = specs.nearest_first(condition.wanted, values)
    return f"{condition.name} is {specs.listed(values, 8)} in the rows before it"


def _sortable(pair: tuple[Any, Row]) -> tuple[int, Any]:
    value = pair[0]
    return (0, float(value)) if isinstance(value, int | float) else (1, natural(str(value)))


def _restrict(study: Study, rows: Sequence[Row]) -> Study:
    """Returns the study of these rows alone, which differ in fewer keys and ran in fewer environments."""
    varied = tuple(key for key in study.varied if key == STUDY or len({str(row.varied[key]) for row in rows}) > 1)
    used = sorted({index for row in rows for index in row.environments})
    kept = [
        dataclasses.replace(
            row,
            varied={key: row.varied[key] for key in varied},
            environments=tuple(used.index(index) for index in row.environments),
        )
        for row in rows
    ]
    environments = tuple(study.environments[index] for index in used)
    return dataclasses.replace(study, rows=tuple(kept), varied=varied, environments=environments)


def _note(study: Study, part: Study, flags: Sequence[str]) -> str:
    """Says how many rows are shown, what they share, and what follows for the statistics."""
    same = [f"{key}={part.rows[0].config.get(key)}" for key in study.varied if key not in part.varied]
    chosen = (
        ", after what is chosen by validation accuracy was chosen" if any(row.choices for row in study.rows) else ""
    )
    shared = f" All have {', '.join(same)}." if same else ""
    return (
        f"Shown: {len(part.rows)} of {plural(len(study.rows), 'row')} ({' '.join(flags)}){chosen}.{shared} Bold, and "
        "corrections for the number of rows, are of these alone."
    )
