"""Pictures of how trained models do on other rows than those of training: longer ones, or of a shifted task."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting import further
from experiments.reporting.figures import labels, lines
from experiments.reporting.figures import layout as canvas
from experiments.reporting.figures.layout import Look
from experiments.reporting.figures.lines import Line
from experiments.studies.results import Row, Study, natural
from experiments.tasks.registry import make_task

_AS_TRAINED = "as trained"
_LABEL = "length of the test rows; the vertical line: as trained"
_MOST_PANELS = 9


class _Tested(NamedTuple):
    """Where a model was tested."""

    trained: float | None  # None for a task that this version does not know
    line: Line  # over lengths, ascending


class _Facets(NamedTuple):
    """The rows of one task apart by one of the keys that vary."""

    key: str
    rows: dict[str, list[Row]]  # value -> rows


def accuracy_by_length(study: Study) -> Figure | None:
    """Test accuracy against the length of the test rows; None where no row was tested at further lengths.

    A panel per task with a line per model; where those are many, a panel per value of what varies beside the attention,
    or strips.
    """
    tasks = [(title, [row for row in rows if _has(row, "lengths")]) for title, rows in canvas.tasks(study)]
    tasks = [(title, rows) for title, rows in tasks if rows]
    if not tasks:
        return None
    if len(study.models) > lines.MOST:
        facets = _facets(study, tasks[0][1]) if len(study.by_task) == 1 else None
        return _length_facets(study, facets) if facets else _length_strips(study, tasks)
    figure, panels = canvas.panels(study, tasks)
    looks, drawn = canvas.looks(study), []
    for axes, rows in panels:
        drawn.append((axes, _length_panel(axes, {study.model(row): row for row in rows}, looks)))
    if len(study.by_task) == 1:
        panels[0][0].set_title("dotted: ceilings", color=canvas.FAINT)
    labels.name_marks(figure, study, drawn, _LABEL, lines.dotted_ceiling())
    return figure


def _length_facets(study: Study, facets: _Facets) -> Figure:
    """Draws a panel per value of the key; in all of them a model is called, and looks, by what else varies."""

    def name(row: Row) -> str:
        return study.label(dataclasses.replace(row, varied={k: v for k, v in row.varied.items() if k != facets.key}))

    figure, grid = canvas.panel_grid([f"{facets.key.split('.')[-1]}={value}" for value in facets.rows])
    looks = canvas.looks_of({name(row) for rows in facets.rows.values() for row in rows})
    for axes, rows in zip(grid, facets.rows.values(), strict=True):
        _length_panel(axes, {name(row): row for row in rows}, looks)
    labels.name_axis(grid, _LABEL)
    styles = {name: canvas.mark_style(study, look, 7.5) for name, look in looks.items()}
    labels.legend_below(figure, styles, lines.dotted_ceiling())
    return figure


def _facets(study: Study, rows: Iterable[Row]) -> _Facets | None:
    """Returns the rows apart by the varied key that needs the fewest panels without crowding one."""
    found = []
    for key in study.varied:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(str(row.varied[key]), []).append(row)
        if len(groups) <= _MOST_PANELS and max(map(len, groups.values())) <= lines.MOST:
            found.append(_Facets(key, {value: groups[value] for value in sorted(groups, key=natural)}))
    return min(found, key=lambda facets: len(facets.rows), default=None)


def _length_panel(axes: Axes, rows: Mapping[str, Row], looks: Mapping[str, Look]) -> list[labels.Mark]:
    tested = {name: _over_lengths(row) for name, row in rows.items()}
    lines.value_axis(axes, sorted({x for each in tested.values() for x, _ in each.line}), log=True)
    for trained in {each.trained for each in tested.values() if each.trained}:
        axes.axvline(trained, color=canvas.FAINT, linewidth=1, zorder=1)
    return lines.panel(axes, {name: each.line for name, each in tested.items()}, looks)


def _length_strips(study: Study, tasks: Iterable[tuple[str, list[Row]]]) -> Figure:
    cells = {title: {study.model(row): _over_lengths(row) for row in rows} for title, rows in tasks}

    def strip(axes: Axes, tested: _Tested, look: Look) -> None:
        lines.strip(axes, tested.line, look)
        if tested.trained:
            axes.axvline(tested.trained, color=canvas.FAINT, linewidth=1, zorder=1)
        floors = [row.mean("floor") or 0.0 for _, row in tested.line]
        axes.plot(
            [x for x, _ in tested.line], floors, color=canvas.FAINT, linewidth=0.7, linestyle=canvas.DASHES, zorder=1
        )

    figure = canvas.strips(study, cells, strip, _LABEL)
    lengths = {x for column in cells.values() for tested in column.values() for x, _ in tested.line}
    lines.value_axis(figure.axes[0], sorted(lengths), log=True)  # all strips share it
    return figure


def accuracy_shifted(study: Study) -> Figure | None:
    """Test accuracy as trained and, each in a column beside it, on the shifted tasks; None without any."""
    blocks = []
    for title, rows in canvas.tasks(study):
        columns: dict[str, dict[str, Row]] = {}
        trained = f"{title}: {_AS_TRAINED}" if len(study.by_task) > 1 else _AS_TRAINED
        for row in (row for row in rows if _has(row, "shifted")):
            columns.setdefault(trained, {})[study.model(row)] = row
            for spec in dict.fromkeys(spec for result in row.results for spec in result.get("shifted", {})):
                name = f"shifted: {further.shift_label(row.config['task'], spec)}"
                columns.setdefault(name, {})[study.model(row)] = _tested(row, "shifted", spec)
        blocks += [columns] if columns else []
    if not blocks:
        return None
    label = canvas.accuracy_label(study.rows, "test accuracy").replace("\n", " ")
    return canvas.stacked_strips(study, blocks, lines.bar, label)


def _has(row: Row, group: str) -> bool:
    return any(result.get(group) for result in row.results)


def _over_lengths(row: Row) -> _Tested:
    """Returns `row` at the length of training and at every further one."""
    names = {name for result in row.results for name in result.get("lengths", {})}
    line = {further.middle(name): _tested(row, "lengths", name) for name in names}
    trained = _trained_length(row.config["task"])
    line |= {trained: row} if trained else {}
    return _Tested(trained, sorted(line.items()))


def _trained_length(spec: str) -> float | None:
    try:
        task = make_task(spec)
    except ValueError:  # the results of a version that had what this one has not
        return None
    return float(getattr(task, "length", getattr(task, "max_length", task.input_length)))


def _tested(row: Row, group: str, name: str) -> Row:
    """Returns `row` with the scores of another test in place of its own."""
    scores = [(result, result.get(group, {}).get(name)) for result in row.results]
    results = [
        result | {"test_accuracy": score["accuracy"], "floor": score["floor"], "ceiling": score["ceiling"]}
        for result, score in scores
        if score
    ]
    return dataclasses.replace(row, results=tuple(results))
