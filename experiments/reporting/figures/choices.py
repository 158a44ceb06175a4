"""What was tried for a field that is chosen by validation accuracy, such as the learning rate, and what was chosen."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.figures import labels, layout, series
from experiments.reporting.figures.style import FAINT, INK, Look, Mark
from experiments.reporting.text import setting, wrap_spec
from experiments.studies.results import Study
from experiments.studies.rows import Choice, Row

_ROOM = 0.12  # of the axis, on either side of what was tried, for arrows
_NAME = 14  # characters in a line of the name of a value
_ARROW = 13  # points, from the chosen value at the edge of what was tried to where a better one may lie


def chosen_keys(study: Study) -> list[str]:
    """Returns the keys that some row chose among several values."""
    return list(dict.fromkeys(each.key for row in study.rows for each in row.choices if len(each.curve) > 1))


def validation_by(study: Study, key: str) -> Figure | None:
    """Draws the validation accuracy of every value that was tried for `key`, the chosen one larger; None without any.

    An arrow points outwards from a chosen value that is the smallest or largest tried.
    """
    tasks = layout.tasks(study, lambda row: _choice(row, key) is not None)
    if key not in chosen_keys(study):
        return None
    values = _values(study, key)
    name = key.split(".")[-1].replace("_", " ")
    if layout.crowded(study):

        def draw(axes: Axes, row: Row, look: Look) -> None:
            _draw_alone(axes, row, look, key, values)

        figure = layout.strips(study, [layout.by_model(study, tasks)], draw, name)
        _value_axis(figure.axes[0], values)  # all strips share it
        return figure
    figure, panels = layout.panels(study, tasks)
    looks, drawn = layout.looks(study), []
    for axes, rows in panels:
        layout.accuracy_axis(axes, rows, "validation accuracy")
        _value_axis(axes, values)
        _draw_solved(axes, rows, key)
        drawn.append((axes, [_draw(study, axes, row, looks[study.model(row)], key, values) for row in rows]))
    labels.name_marks(figure, study, drawn, name)
    return figure


def _choice(row: Row, key: str) -> Choice | None:
    return next((choice for choice in row.choices if choice.key == key), None)


def _values(study: Study, key: str) -> dict[Any, float]:
    """Returns the place of every tried value: the value itself or, unless all are positive numbers, its rank."""
    found = dict.fromkeys(
        value for row in study.rows for each in row.choices if each.key == key for value, _ in each.curve
    )
    numbers = [value for value in found if isinstance(value, int | float) and value > 0]
    if len(numbers) == len(found):
        return {value: float(value) for value in sorted(numbers)}
    return {value: float(place) for place, value in enumerate(found)}


def _value_axis(axes: Axes, values: dict[Any, float]) -> None:
    names = {place: "\n".join(wrap_spec(setting(value), _NAME)) for value, place in values.items()}
    numbers = all(isinstance(value, int | float) for value in values)
    series.number_axis(axes, sorted(names), log=numbers, names=names, room=_ROOM)


def _curve(row: Row, key: str, values: dict[Any, float]) -> tuple[list[float], list[float], int]:
    """Returns places and scores of what was tried, and the index of the chosen one."""
    choice = _choice(row, key)
    assert choice is not None, "rows without a choice are not drawn"
    tried = [value for value, _ in choice.curve]
    return [values[value] for value in tried], [score for _, score in choice.curve], tried.index(choice.value)


def _draw(study: Study, axes: Axes, row: Row, look: Look, key: str, values: dict[Any, float]) -> Mark:
    """Draws the curve of a row in a panel; returns the mark at what was chosen."""
    places, scores, chosen = _curve(row, key, values)
    axes.plot(places, scores, color=look.colour, linewidth=1.4, marker=look.marker, markersize=3, zorder=3)
    point = places[chosen], scores[chosen]
    axes.plot(*([x] for x in point), zorder=4, **layout.mark_style(study, look, 8))
    _draw_edge(axes, row, key, point)
    return Mark(point, study.model(row), look)


def _draw_alone(axes: Axes, row: Row, look: Look, key: str, values: dict[Any, float]) -> None:
    """Draws the curve of a row in axes of its own."""
    places, scores, chosen = _curve(row, key, values)
    axes.fill_between(places, scores, color=look.colour, alpha=0.25, linewidth=0)
    axes.plot(places, scores, color=look.colour, linewidth=1.2, marker=look.marker, markersize=2)
    point = places[chosen], scores[chosen]
    mark: dict[str, Any] = {"marker": look.marker, "markersize": 6, "markeredgecolor": "white", "clip_on": False}
    axes.plot(*([x] for x in point), color=look.colour, zorder=4, **mark)
    _draw_edge(axes, row, key, point)
    layout.beside_strip(axes, row.tests[0])


def _draw_edge(axes: Axes, row: Row, key: str, point: tuple[float, float]) -> None:
    choice = _choice(row, key)
    if choice is not None and choice.edge:
        arrow = {"arrowstyle": "<-", "color": INK, "lw": 1.1, "shrinkA": 0, "shrinkB": 5}
        there = (choice.edge * _ARROW, 0)
        axes.annotate("", point, there, textcoords="offset points", annotation_clip=False, arrowprops=arrow)


def _draw_solved(axes: Axes, rows: Sequence[Row], key: str) -> None:
    """Draws the validation accuracy from which a run counts as solved, if it is the same in all rows."""
    solved = {choice.solved_at for row in rows if (choice := _choice(row, key))}
    if len(solved) == 1:
        axes.axhline(solved.pop(), color=FAINT, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
