"""Accuracy on rows other than those of training: rows of other lengths, and rows of shifted tasks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.figures import labels, layout, series
from experiments.reporting.figures.layout import Tasks
from experiments.reporting.figures.series import Line
from experiments.reporting.figures.style import CEILING_TITLE, FAINT, Look, Mark, looks_of
from experiments.studies.results import Study, natural
from experiments.studies.rows import Row, ScoreKey, TestScore

_LABEL = "length of the test rows; vertical line: as trained"
_MOST_PANELS = 9


class _Facets(NamedTuple):
    """The rows of one task, grouped by one of the keys that vary."""

    key: str
    rows: dict[str, list[Row]]  # value -> rows


def accuracy_by_length(study: Study) -> Figure | None:
    """Test accuracy against the length of the test rows; None where no row was tested at other lengths.

    A panel for each task with a line for each model; for many models and one task, a panel for each value of a key
    that varies in addition to the attention; else strips.
    """
    tasks = layout.tasks(study, lambda row: any(test.key.kind == "length" for test in row.other_rows))
    if not tasks:
        return None
    if layout.crowded(study):
        facets = _facets(study, tasks[0][1]) if len(study.by_task) == 1 else None
        return _length_facets(study, facets) if facets else _lengths_alone(study, tasks)
    figure, panels = layout.panels(study, tasks)
    looks = layout.looks(study)
    drawn = [(axes, _length_panel(axes, {study.model(row): row for row in rows}, looks)) for axes, rows in panels]
    if len(study.by_task) == 1:
        panels[0][0].set_title(CEILING_TITLE, color=FAINT)
    labels.name_marks(figure, study, drawn, _LABEL, series.ceiling_handle())
    return figure


def accuracy_shifted(study: Study) -> Figure | None:
    """Test accuracy on rows as in training and, each in a column next to it, on the shifted tasks; None without any."""
    tasks = layout.tasks(study, lambda row: any(test.key.kind == "shifted" for test in row.other_rows))
    blocks = [_shifted_columns(study, title, rows) for title, rows in tasks]
    label = layout.accuracy_label(study.rows, layout.with_spread("test accuracy", study.rows)).replace("\n", " ")
    return layout.strips(study, blocks, series.draw_bar, label) if blocks else None


def _shifted_columns(study: Study, title: str, rows: Sequence[Row]) -> layout.Columns[TestScore]:
    """Returns the columns of one task: rows as those of training, then each shifted task."""
    cells: dict[ScoreKey, dict[str, TestScore]] = {}
    for row in rows:
        for test in (test for test in row.tests if test.key.kind != "length"):
            cells.setdefault(test.key, {})[study.model(row)] = test
    trained = f"{title}: " if len(study.by_task) > 1 else ""
    prefix = {"own": trained, "shifted": "shifted: "}
    return [(f"{prefix[key.kind]}{next(iter(tests.values())).label}", tests) for key, tests in cells.items()]


def _length_facets(study: Study, facets: _Facets) -> Figure:
    """Draws a panel for each value of the key; in all of them names and looks stand for what else varies."""

    def name(row: Row) -> str:
        return study.label(row, without=[facets.key])

    figure, grid = layout.panel_grid([f"{facets.key.split('.')[-1]}={value}" for value in facets.rows])
    looks = looks_of({name(row) for rows in facets.rows.values() for row in rows})
    for axes, rows in zip(grid, facets.rows.values(), strict=True):
        _length_panel(axes, {name(row): row for row in rows}, looks)
    labels.name_axis(grid, _LABEL)
    styles = {name: layout.mark_style(study, look, 7.5) for name, look in looks.items()}
    labels.legend_below(figure, styles, series.ceiling_handle())
    return figure


def _facets(study: Study, rows: Sequence[Row]) -> _Facets | None:
    """Returns the rows grouped by the varied key that needs the fewest panels, none of them with too many lines."""
    found = []
    for key in study.varied:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(str(row.varied[key]), []).append(row)
        if len(groups) <= _MOST_PANELS and max(map(len, groups.values())) <= layout.MOST_LINES:
            found.append(_Facets(key, {value: groups[value] for value in sorted(groups, key=natural)}))
    return min(found, key=lambda facets: len(facets.rows), default=None)


def _length_panel(axes: Axes, rows: Mapping[str, Row], looks: Mapping[str, Look]) -> list[Mark]:
    lines = {name: _over_lengths(row) for name, row in rows.items()}
    _length_axis(axes, lines.values())
    for trained in {row.task.train_length for row in rows.values()}:
        _draw_trained_length(axes, trained)
    label = layout.accuracy_label(rows.values(), layout.with_spread("test accuracy", rows.values()))
    return series.draw_lines(axes, lines, looks, label)


def _lengths_alone(study: Study, tasks: Tasks) -> Figure:
    def draw(axes: Axes, row: Row, look: Look) -> None:
        series.draw_line_alone(axes, _over_lengths(row), look)
        _draw_trained_length(axes, row.task.train_length)

    figure = layout.strips(study, [layout.by_model(study, tasks)], draw, _LABEL)
    _length_axis(figure.axes[0], [_over_lengths(row) for _, rows in tasks for row in rows])  # all strips share it
    return figure


def _length_axis(axes: Axes, lines: Iterable[Line]) -> None:
    """Shows the lengths of all lines; a range is placed at its middle, under its own name."""
    tests = {length: test for line in lines for length, test in line}
    names = {length: test.key.value for length, test in tests.items() if test.key.kind == "length"}
    series.number_axis(axes, sorted(tests), log=True, names=names)


def _draw_trained_length(axes: Axes, length: float | None) -> None:
    if length is not None:
        axes.axvline(length, color=FAINT, linewidth=1, zorder=1)


def _over_lengths(row: Row) -> Line:
    """Returns the scores of `row` at the length of training and at the others, ascending."""
    tests = [test for test in row.tests[::-1] if test.key.kind in ("own", "length")]
    return sorted({test.length: test for test in tests if test.length is not None}.items())
