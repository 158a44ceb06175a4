"""Accuracy along a property of the targets, such as their distance, and what of it the model could reach at all."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.analysis import receptive_field as reach
from experiments.config import schema as settings
from experiments.config.schema import ModelConfig
from experiments.reporting.figures import layout as canvas
from experiments.studies.results import Row
from experiments.tasks.base import Task

_ROWS = 1024  # of the task, to say what is within reach


class Curve(NamedTuple):
    """Accuracy of a row over bins of a property."""

    middles: list[float]  # of the bins
    seeds: list[list[float]]
    means: list[float]
    edges: list[float]  # one more than bins
    ceilings: list[float]  # from edge to edge, the last one twice; empty where unknown


def slices(row: Row, name: str) -> list[dict[str, Any]]:
    """Returns the slice of that name of every run that has it."""
    return [result["slices"][name] for result in row.results if name in result["slices"]]


def bins(item: Mapping[str, Any]) -> dict[int, tuple[int, float]]:
    """Returns {first value: (end, accuracy)} of the bins of one slice that hold targets."""
    if "edges" in item:
        bounds = list(zip(item["edges"][:-1], item["edges"][1:], strict=True))
    else:
        bounds = [(value, value + 1) for value in item["values"]]
    filled = zip(bounds, item["accuracy"], item["count"], strict=True)
    return {start: (end, accuracy) for (start, end), accuracy, count in filled if count}


def read(row: Row, name: str, *, log: bool) -> Curve:
    """Returns the curve of `row` over the slice `name`, for an axis that is logarithmic or not."""
    groups = [bins(item) for item in slices(row, name)]
    starts = sorted({start for group in groups for start in group})
    ends = {start: group[start][0] for group in groups for start in group}
    found = ceilings(row, name, [(start, ends[start]) for start in starts])
    if log:
        middles = [math.sqrt(max(start, 0.7) * max(ends[start] - 1, start, 0.7)) for start in starts]
        edges = [*(max(start, 0.7) for start in starts), max(ends[starts[-1]], 1)]
    else:
        middles = [(start + ends[start] - 1) / 2 for start in starts]
        edges = [*(start - 0.5 for start in starts), ends[starts[-1]] - 0.5]
    return Curve(
        middles=middles,
        seeds=[[group.get(start, (0, math.nan))[1] for start in starts] for group in groups],
        means=[float(np.mean([group[start][1] for group in groups if start in group])) for start in starts],
        edges=edges,
        ceilings=[*found, found[-1]] if found else [],
    )


def draw(axes: Axes, curve: Curve, mark: Mapping[str, Any], width: float = 1.8) -> None:
    """Draws every seed thin, their mean thick."""
    for seed in curve.seeds:
        axes.plot(curve.middles, seed, color=mark["color"], linewidth=0.8, alpha=0.35)
    axes.plot(curve.middles, curve.means, linewidth=width, **mark)


def draw_ceilings(axes: Axes, curve: Curve, colour: str, place: int) -> None:
    """Draws the ceilings dotted; of several in one place every one shows."""
    if curve.ceilings:
        dots = (place * 1.4, (1, 3))
        axes.step(curve.edges, curve.ceilings, where="post", color=colour, linewidth=1.4, linestyle=dots)


def draw_strip(axes: Axes, row: Row, curve: Curve, colour: str) -> None:
    """Draws a curve in a strip of its own."""
    shade(axes, curve)
    axes.fill_between(curve.middles, curve.means, color=colour, alpha=0.25, linewidth=0)
    draw(axes, curve, {"color": colour}, 1.3)
    canvas.score_strip(axes, row)


def shade(axes: Axes, curve: Curve) -> None:
    """Greys what the pattern cannot reach."""
    if curve.ceilings:
        axes.fill_between(curve.edges, curve.ceilings, 1.0, step="post", color=canvas.HIDDEN, linewidth=0, zorder=1)


def value_axis(axes: Axes, *, log: bool) -> None:
    """Shows whole numbers, or powers of two."""
    if log:
        axes.set_xscale("log", base=2)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def ceilings(row: Row, name: str, bounds: Sequence[tuple[int, int]]) -> list[float] | None:
    """Returns the highest accuracy that the row's pattern allows in each bin of a slice, from rows of the task.

    Args:
      row: of a study.
      name: of the slice.
      bounds: of each bin, first value and end.
    """
    try:
        run = settings.read(row.results[0]["config"])
        values, weights, best = _best(run.model, run.task, name)
    except (KeyError, ValueError, NotImplementedError):  # the results of a version that had what this one has not
        return None
    found = []
    for start, end in bounds:
        inside = weights * ((values >= start) & (values < end))
        found.append(float((best * inside).sum() / inside.sum()) if inside.sum() else 1.0)
    return found


def _best(model: ModelConfig, task: Task, name: str) -> tuple[np.ndarray, ...]:
    """Returns (value in the slice, weight, highest accuracy) of the targets of some rows."""
    values, weights, position, evidence, guess = _sampled(task)
    seen, counts = _reach(model, task)[position[..., None], evidence], evidence >= 0
    within = (seen & counts).any(axis=-1) if task.any_evidence_suffices else (seen | ~counts).all(axis=-1)
    return values[name], weights, np.where(within, 1.0, guess)


_reach = functools.lru_cache(maxsize=16)(reach.task_reach)


@functools.lru_cache(maxsize=16)
def _sampled(task: Task) -> tuple[Any, ...]:
    """Returns (slices, weight, position, evidence, guess rate) of the targets of some rows."""
    batch = jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(0), _ROWS))
    return batch.slices, batch.weights, batch.positions, batch.evidence, task.guess_rate(batch)
