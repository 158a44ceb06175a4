"""Which sizes a study varies: a number of the task, of the config or of the attention, and the decoding state."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from attention_variants import specs
from experiments.reporting.text import human
from experiments.studies.results import Study
from experiments.studies.rows import Row, TaskFacts, task_differences


class Size(NamedTuple):
    """A number in which rows differ, and what remains of a row when it is left out."""

    name: str  # part of a file name
    label: str  # of an axis
    value: Callable[[Row], float | None]  # None for a row that has no such number
    line: Callable[[Row], str]  # what rows of one line share: the model, without the size where that has it
    panel: Callable[[Row], str]  # what rows of one panel share: the task, without the size where that has it
    show: Callable[[float], str] = "{:g}".format  # writes a value


def numeric_field(tasks: Sequence[TaskFacts]) -> tuple[str, list[float]]:
    """Returns the one field in which `tasks` differ and its values; "" where there is no such number."""
    differences = task_differences(tasks) if len(tasks) > 1 else None
    if differences is None or len(differences[0]) != 1:
        return "", []
    (field,) = differences[0]
    values = [values[field] for values in differences]
    return (field, values) if all(map(_is_number, values)) else ("", [])


def of_task(study: Study, field: str) -> Size:
    """Returns the size that is a field of the task."""

    def panel(row: Row) -> str:
        others = ",".join(f"{name}={value}" for name, value in differing[row.config["task"]].items() if name != field)
        return f"{row.task.name} {others}".strip()

    differences = task_differences([rows[0].task for rows in study.by_task.values()]) or []
    differing = dict(zip(study.by_task, differences, strict=True))
    return Size(field, f"{field} of the task", lambda row: row.task.fields[field], study.model, panel)


def varied(study: Study) -> list[Size]:
    """Returns the sizes in which rows of a line differ, except the field that `numeric_field` finds."""
    found = [*_of_tasks(study), *of_config(study), *_of_attention(study), *_state(study)]
    return [size for size in {size.name: size for size in found[::-1]}.values() if lines(study, size)][::-1]


def lines(study: Study, size: Size) -> dict[str, dict[str, dict[float, Row]]]:
    """Returns {panel: {line: {value: row}}}, ascending, for lines with several values; for equal ones the best row."""
    found: dict[str, dict[str, dict[float, Row]]] = {}
    for row in sorted(study.rows, key=lambda row: row.metric.rank(row.score.accuracy)):  # the best first
        value = size.value(row)
        if value is not None and row.score.accuracy:
            found.setdefault(size.panel(row), {}).setdefault(size.line(row), {}).setdefault(value, row)
    several = {
        panel: {line: dict(sorted(points.items())) for line, points in group.items() if len(points) > 1}
        for panel, group in found.items()
    }
    return {panel: group for panel, group in several.items() if group}


def _of_tasks(study: Study) -> list[Size]:
    """Returns the numeric fields in which tasks differ, if they differ in several fields."""
    facts = [rows[0].task for rows in study.by_task.values()]
    differences = task_differences(facts)
    if not differences or len(differences[0]) < 2:
        return []
    numbers = [field for field in differences[0] if all(_is_number(values[field]) for values in differences)]
    return [of_task(study, field) for field in numbers]


def of_config(study: Study) -> list[Size]:
    """Returns the keys with numeric values that the study varies."""
    keys = [key for key in study.varied if all(_is_number(row.varied[key]) for row in study.rows)]
    return [
        Size(key.split(".")[-1], key.split(".")[-1], _of_key(key), _line_without(study, key), _task(study))
        for key in keys
    ]


def _of_key(key: str) -> Callable[[Row], float | None]:
    return lambda row: row.varied[key]


def _line_without(study: Study, *keys: str) -> Callable[[Row], str]:
    return lambda row: study.model(row, without=keys)


def _of_attention(study: Study) -> list[Size]:
    """Returns the numeric fields of the specs of attention."""
    names = dict.fromkeys(name for row in study.rows for name in _numbers(row.attention))
    return [Size(name, name, _of_spec(name), _line_of_spec(study, name), _task(study)) for name in names]


def _of_spec(name: str) -> Callable[[Row], float | None]:
    return lambda row: _numbers(row.attention).get(name)


def _line_of_spec(study: Study, name: str) -> Callable[[Row], str]:
    return lambda row: _without(row.attention, [name]) + study.model(row).removeprefix(row.attention)


def _state(study: Study) -> list[Size]:
    """Returns the decoding state, in which the models of a family differ if their sizes do."""
    keys = [size for size in study.varied if all(_is_number(row.varied[size]) for row in study.rows)]

    def line(row: Row) -> str:
        named = study.model(row, without=keys).removeprefix(row.attention)
        return _without(row.attention, list(_numbers(row.attention))) + named

    label = "decoding state per sequence, bytes"
    return [Size("state_bytes", label, lambda row: row.mean("cache_bytes") or None, line, _task(study), _bytes)]


def _bytes(value: float) -> str:
    return human(value, "B")


def _task(study: Study) -> Callable[[Row], str]:
    return lambda row: row.config["task"]


@functools.lru_cache(maxsize=1024)
def _numbers(attention: str) -> Mapping[str, float]:
    """Returns the numbers of a spec by field, without those that its layers set differently."""
    found: dict[str, set[float]] = {}
    for layer in specs.split_layers(attention):
        for name, text in specs.parse_spec(layer)[1].items():
            try:
                found.setdefault(name, set()).add(specs.coerce(text, float, name))
            except specs.SpecError:
                continue
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def _without(attention: str, names: Sequence[str]) -> str:
    """Returns a spec without the fields of these names."""
    for name in names:
        attention = re.sub(rf"(?<=[:,]){re.escape(name)}=[^,+]*,?", "", attention)
    return re.sub(r"[:,]+(?=\+|$)", "", attention)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
