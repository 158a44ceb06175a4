"""The score across the tasks of a study, and against a size that it varies: a line for each model."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reporting.figures import labels, layout, series, sizes
from experiments.reporting.figures.sizes import Size
from experiments.reporting.figures.style import CEILING_TITLE, FAINT, looks_of
from experiments.studies.results import Study
from experiments.studies.rows import TestScore

_Lines = dict[str, list[tuple[float, TestScore]]]


def accuracy_across_tasks(study: Study) -> Figure | None:
    """The score against the one numeric field in which the tasks differ, or else task by task; None for one task."""
    field, _ = sizes.numeric_field([rows[0].task for rows in study.by_task.values()])
    over = score_over(study, sizes.of_task(study, field)) if field else None
    if over is not None:
        return over
    return _side_by_side(study) if len(study.by_task) > 1 and study.metric.kind.unit else None


def _side_by_side(study: Study) -> Figure:
    """Draws a bar for each model and task, a few tasks abreast."""
    columns = [
        (title, {model: row.score for model, row in rows.items()})
        for title, rows in layout.by_model(study, layout.tasks(study))
    ]
    return layout.strips(study, layout.abreast(columns), series.draw_bar, layout.score_label(study).replace("\n", " "))


def score_over(study: Study, size: Size) -> Figure | None:
    """Draws the score against `size`, a panel for each task that differs in more than `size`; None without a line."""
    panels = {
        title: {line: [(x, row.score) for x, row in points.items()] for line, points in group.items()}
        for title, group in sizes.lines(study, size).items()
    }
    names = _best_first(study, size, panels)
    panels = {title: {name: group[name] for name in names if name in group} for title, group in panels.items()}
    if not panels:
        return None
    if len(names) > layout.MOST_LINES:
        return _alone(study, size, panels, names) if study.metric.kind.unit else None
    return _together(study, size, panels, names)


def _best_first(study: Study, size: Size, panels: dict[str, _Lines]) -> list[str]:
    """Returns the names of all lines, in the order of the best model of each."""
    rows = sorted(study.rows, key=lambda row: study.models.index(study.model(row)))
    drawn = {name for group in panels.values() for name in group}
    return [name for name in dict.fromkeys(map(size.line, rows)) if name in drawn]


def _show_all(axes: Axes, groups: Iterable[_Lines]) -> None:
    """Shows the values of all lines of all panels, which share an axis; lines that are shifted set no limits."""
    lines = [line for group in groups for line in group.values()]
    ends = [end for line in lines for _, score in line if score.accuracy for end in score.accuracy.seen]
    room = 0.05 * (max(ends) - min(ends)) or 1.0
    axes.set_ylim(min(ends) - room, max(ends) + room)


def _together(study: Study, size: Size, panels: dict[str, _Lines], names: list[str]) -> Figure:
    looks = layout.looks(study) if set(names) <= set(study.models) else looks_of(names)
    label, unit = layout.score_label(study), study.metric.kind.unit
    if len(panels) == 1:
        (group,) = panels.values()
        figure, axes = layout.labelled_axes(len(group))
        _number_axis(axes, size, [group])
        marks = series.draw_lines(axes, group, looks, label, unit=unit)
        if not unit:
            _show_all(axes, panels.values())
        axes.set_title(CEILING_TITLE if _has_ceilings([group]) else "", color=FAINT)
        axes.set_xlabel(size.label)
        labels.margin_labels(axes, marks)
        return figure
    figure, grid = layout.panel_grid(list(panels))
    for axes, group in zip(grid, panels.values(), strict=True):
        _number_axis(axes, size, [group])
        series.draw_lines(axes, group, looks, label, unit=unit)
    if not unit:
        _show_all(grid[0], panels.values())
    labels.name_axis(grid, size.label)
    styles = {name: layout.mark_style(study, looks[name], 7.5) for name in names}
    labels.legend_below(figure, styles, *([series.ceiling_handle()] if _has_ceilings(panels.values()) else []))
    return figure


def _alone(study: Study, size: Size, panels: dict[str, _Lines], names: list[str]) -> Figure:
    label = layout.score_label(study).replace("\n", " ")
    columns = [(title if len(panels) > 1 else label, group) for title, group in panels.items()]
    models = layout.names(study) if set(names) <= set(study.models) else {name: name for name in names}
    shown = {name: models[name] for name in names}
    figure = layout.strips(study, [columns], series.draw_line_alone, size.label, shown)
    _number_axis(figure.axes[0], size, panels.values())  # all strips share it
    return figure


def _number_axis(axes: Axes, size: Size, groups: Iterable[_Lines]) -> None:
    values = sorted({x for group in groups for line in group.values() for x, _ in line})
    series.number_axis(axes, values, names={value: size.show(value) for value in values})


def _has_ceilings(groups: Iterable[_Lines]) -> bool:
    return any(score.ceiling is not None for group in groups for line in group.values() for _, score in line)
