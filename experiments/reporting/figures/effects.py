"""Paired differences from a reference, task by task: a forest plot."""

import functools
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attention_variants import specs
from experiments.reporting.figures import layout
from experiments.reporting.figures.style import FAINT, INK, Look
from experiments.studies.paired import Difference
from experiments.studies.results import Study

_ROOM = 0.06  # of the range of all intervals, beside them
_FULL = ("conv+full", "full")  # what others are compared with, where the study has it


class _Effect(NamedTuple):
    """What a strip shows: a difference, None for the reference itself."""

    difference: Difference | None


def reference_of(study: Study) -> str:
    """Returns the model that others are compared with: full attention, or else the best model."""
    full = {study.model(row) for row in study.rows if _plain(row.attention) in _FULL}
    return next((model for model in study.models if model in full), study.models[0])


def paired_differences(study: Study) -> Figure | None:
    """Draws the differences in score from the reference, over common seeds; None if there are none."""
    reference = reference_of(study)
    found = study.minus(reference)
    columns = [
        (title, {study.model(row): _Effect(difference) for row, difference in found[rows[0].config["task"]]})
        for title, rows in layout.tasks(study)
        if rows[0].config["task"] in found
    ]
    effects = [effect.difference for _, cells in columns for effect in cells.values() if effect.difference]
    ends = [end for each in effects if each.estimate for end in each.estimate[:3]]
    if not ends:
        return None
    better = "" if study.metric.higher else " (lower is better)"
    label = f"{study.metric.label} minus that of {reference}{better}"
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = _ROOM * (high - low) or 1.0
    return layout.strips(
        study, layout.abreast(columns), functools.partial(_draw, limits=(low - room, high + room)), label
    )


def _plain(attention: str) -> str:
    """Returns a spec without its fields."""
    return "+".join(part.partition(":")[0] for part in specs.split_layers(attention))


def _draw(axes: Axes, effect: _Effect, look: Look, *, limits: tuple[float, float]) -> None:
    """Draws a difference with its interval; filled if it is distinguished from 0."""
    layout.strip_limits(axes, *limits)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=1)
    difference = effect.difference
    text = "ref."
    if difference is not None and difference.estimate is not None:
        mean, low, high, _ = difference.estimate
        if difference.estimate.kind:
            axes.plot([low, high], [0.52, 0.52], color=look.colour, linewidth=2.0, solid_capstyle="butt", zorder=2)
        axes.plot([mean], [0.52], zorder=3, **_mark(look, told=bool(difference.separates)))
        text = _signed(mean)
    elif difference is not None:
        text = "-"
    axes.text(1.015, 0.45, text, color=INK, fontsize=8, va="center", transform=axes.transAxes)


def _signed(value: float) -> str:
    """Returns a difference in a few characters, without a sign if it rounds to 0."""
    text = f"{value:+.2f}" if abs(value) < 10 else f"{value:+.0f}"
    return text if float(text) else "0.00"


def _mark(look: Look, *, told: bool) -> dict[str, Any]:
    """Returns how the mark of a difference is drawn."""
    face = look.colour if told else "white"
    return {
        "marker": look.marker,
        "markersize": 6,
        "color": look.colour,
        "markerfacecolor": face,
        "markeredgewidth": 1.2,
    }
