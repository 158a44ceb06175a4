"""The front of models: those that no cheaper one equals or beats, and how a picture shows it."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from experiments.reporting.figures.style import INK

MEANING = "no cheaper model scores as well"
LINE: dict[str, Any] = {"color": INK, "linewidth": 1.1, "alpha": 0.45, "drawstyle": "steps-post", "zorder": 1.5}
EDGE = {"markeredgecolor": INK, "markeredgewidth": 1.5}  # of marks on the front


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the places of the (cost, rank) that no other equals or beats at the same or a lower cost, by cost.

    A smaller rank is better. Of equal points, the first one counts.
    """
    best: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: points[place]):
        if not best or points[place][1] < points[best[-1]][1]:
            best.append(place)
    return best


def draw(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draws the line along the front: what is reached at each cost."""
    if len(points) > 1:
        axes.plot(*zip(*points, strict=True), **LINE)


def handle() -> Line2D:
    """Returns the legend entry for the front."""
    return Line2D([], [], label=f"front: {MEANING}", **LINE)
