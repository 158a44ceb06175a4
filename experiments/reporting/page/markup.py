"""Pieces of HTML that every part of the page is made of; whatever comes from a config passes through `text`."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.reporting.figures.style import COLOURS

Point = tuple[float, float]
_WIDTH, _HEIGHT = 320, 120  # of a small chart, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 24.0, 312.0, 8.0, 100.0  # of its axes


def text(value: Any) -> str:
    """Returns a value as HTML text in which no character acts as markup, even within quotes."""
    return html.escape(str(value))


def spec(value: str) -> str:
    """Returns a spec that may be broken between its fields."""
    return "<wbr>".join(text(piece) for piece in re.split("(?<=[+:,])", value))


def colour_class(colour: str | None) -> str:
    """Returns the class that gives an element one of the colours of the pictures; None is what no picture shows."""
    return f"c{COLOURS.index(colour)}" if colour else "cx"


def definitions(cells: Mapping[str, str]) -> str:
    """Returns a table of two columns: names, and what is said about each, which is already HTML."""
    lines = "".join(f'<tr><th scope="row">{text(key)}</th><td>{cell}</td></tr>' for key, cell in cells.items())
    return f'<table class="plain">{lines}</table>'


def chart(words: str, ticks: Mapping[float, str], parts: Iterable[str]) -> str:
    """Returns a small chart of accuracies from 0 to 1.

    Args:
      words: what the chart says, for those who do not see it.
      ticks: labels below the chart, by place from 0 at its left end to 1.
      parts: `line`s, `mark`s and `level`s.
    """
    levels = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{_y(y)}" y2="{_y(y)}"/>'
        f'<text x="{_LEFT - 5}" y="{_y(y) + 3.5}" text-anchor="end">{y:g}</text>'
        for y in (0, 0.5, 1)
    )
    ends = {0.0: "start", 1.0: "end"}
    labels = "".join(
        f'<text x="{_x(x)}" y="{_HEIGHT - 6}" text-anchor="{ends.get(x, "middle")}">{text(label)}</text>'
        for x, label in ticks.items()
    )
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg class="chart" {size} role="img" aria-label="{text(words)}">{levels}{labels}{"".join(parts)}</svg>'


def line(points: Sequence[Point], attributes: str) -> str:
    """Returns a line through points (place from 0 to 1, accuracy)."""
    return f'<path {attributes} d="M{"L".join(f"{_x(x):g} {_y(y):g}" for x, y in points)}"/>'


def mark(point: Point, radius: float) -> str:
    """Returns a dot."""
    return f'<circle class="mark" cx="{_x(point[0])}" cy="{_y(point[1])}" r="{radius}"/>'


def level(accuracy: float, name: str) -> str:
    """Returns a horizontal line, whose look is that of the class `name`."""
    return line([(0, accuracy), (1, accuracy)], f'class="{name}"')


def _x(place: float) -> float:
    return round(_LEFT + place * (_RIGHT - _LEFT), 1)


def _y(accuracy: float) -> float:
    return round(_BOTTOM - accuracy * (_BOTTOM - _TOP), 1)
