"""The table of the page: a line for each row of the study, with what its script sorts and filters by."""

import math
from typing import Any

from experiments.reporting import tables
from experiments.reporting.column import Cell, Column
from experiments.reporting.columns import columns, naming
from experiments.reporting.figures import layout
from experiments.reporting.page.markup import colour_class, spec, text
from experiments.studies.results import Study
from experiments.studies.rows import Row, TestScore

_BAR = 76  # pixels, of accuracy 1


def results_table(study: Study, anchors: dict[str, Row]) -> str:
    """Returns the table of a study; the first cell of each row leads to the runs at its anchor."""
    first, *others = [column for column in columns(study) if column.shown]
    fields = {column.key for column in naming(study)}
    bar = '<th scope="col" data-fixed><span class="nowrap">0 to 1</span></th>'
    heads = _head(first, fields) + bar + "".join(_head(column, fields) for column in others)
    colours, lines = row_colours(study), []
    for anchor, row in anchors.items():
        name = f'<a class="open" href="#{anchor}">{_marked(first.cell(row))}</a>'
        head = f'<th scope="row" data-v="{text(first.value(row))}">{name}</th><td>{_bar(row.tests[0])}</td>'
        cells = "".join(_cell(column, row) for column in others)
        lines.append(f'<tr class="{colours[study.model(row)]}" data-row="{anchor}">{head}{cells}</tr>')
    caption = f"<caption>Accuracy and cost of {text(study.name)}, a line for each model</caption>"
    return f'<table id="results">{caption}<thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def row_colours(study: Study) -> dict[str, str]:
    """Returns the class of the colour in which pictures show each model."""
    looks = layout.looks(layout.shown(study))
    return {model: colour_class(looks[model].colour if model in looks else None) for model in study.models}


def _head(column: Column, fields: set[str]) -> str:
    field = " data-field" if column.key in fields else ""
    return f'<th scope="col"{field}>{text(column.title)}</th>'


def _cell(column: Column, row: Row) -> str:
    cell = column.cell(row)
    detail = tables.interval_text(cell.detail)
    small = f"<small>{text(detail)}</small>" if detail else ""
    best = ' class="best"' if cell.best else ""
    return f'<td{best} data-v="{_sortable(column.value(row))}">{_marked(cell)}{small}</td>'


def _sortable(value: Any) -> str:
    """Returns what a cell is sorted by: a number, a text, or nothing, as for NaN and infinity."""
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return "" if value is None else text(value)


def _marked(cell: Cell) -> str:
    """Returns text and mark; a spec may be broken between its fields."""
    words = spec(cell.text) + (f"&nbsp;{text(cell.mark)}" if cell.mark else "")
    return f'<span class="spec">{words}</span>' if ":" in cell.text else words


def _bar(score: TestScore) -> str:
    """Returns a small picture of a score between its floor and its ceiling, in the colour of its row."""
    if score.accuracy is None:
        return ""
    mean, low, high, _ = score.accuracy
    floor, ceiling = score.floor or 0.0, 1.0 if score.ceiling is None else score.ceiling
    between = f'x="{floor * _BAR:.1f}" width="{max(0, ceiling - floor) * _BAR:.1f}"'
    parts = [
        f'<rect class="all" x="0" y="7" width="{_BAR}" height="2"/>',
        f'<rect class="reach" {between} y="7" height="2"/>',
        f'<rect class="end" x="{ceiling * _BAR - 0.75:.1f}" y="2" width="1.5" height="12"/>',
    ]
    if score.accuracy.kind:
        parts.append(f'<rect class="mark" x="{low * _BAR:.1f}" width="{(high - low) * _BAR:.1f}" y="6" height="4"/>')
    parts.append(f'<circle class="mark" cx="{mean * _BAR:.1f}" cy="8" r="4"/>')
    words = f"floor {floor:.3f}, accuracy {mean:.3f}, ceiling {ceiling:.3f}"
    return (
        f'<svg class="bar" viewBox="-4 0 84 16" width="84" height="16" role="img" aria-label="{words}">'
        f"{''.join(parts)}</svg>"
    )
