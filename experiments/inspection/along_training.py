"""A picture of what heads look at during training, beside the accuracy: where a line jumps, a head has formed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.inspection.head_scores import SPREADS
from experiments.inspection.over_seeds import BEST, ONLY, Scored, by_layer
from experiments.reporting.figures.style import COLOURS, DASHES, FAINT, MARKERS, blank

_PANEL = (2.6, 2.2)  # inches
_PER_LINE = 4
_LEGEND = 0.35  # inches, of a line of names
_Named = Mapping[tuple[str, str], tuple[float, float]]  # {(line, score): (value, baseline)}


def draw_along_training(scored: Sequence[Scored]) -> Figure:
    """Returns a panel of the accuracy, and one for each score that is a share of weight, by training step.

    For one run there is a line for each head. For several there is one for each layer, with the highest head of each
    run: every seed thin, their median thick. A dashed line shows what a head without preference would score.

    Args:
      scored: of one run or several, each at several steps.
    """
    seeds = list(dict.fromkeys(each.seed for each in scored))
    named = _by_head if len(seeds) == 1 else _by_best
    table = {(each.seed, each.step): named(each) for each in scored}
    first = next(iter(table.values()))
    names = [name for name in dict.fromkeys(name for _, name in first) if _is_drawn(name, table)]
    lines = list(dict.fromkeys(line for line, _ in first))
    panels = ["accuracy", *names]
    figure, axes = _panels(panels, len(lines))
    _draw(axes[0], {each.seed: [(e.step, e.accuracy) for e in scored if e.seed == each.seed] for each in scored}, FAINT)
    for ax, name in zip(axes[1:], names, strict=True):
        for number, line in enumerate(lines):
            if (line, name) in first:
                curves = {
                    seed: [(e.step, table[seed, e.step][line, name][0]) for e in scored if e.seed == seed]
                    for seed in seeds
                }
                _draw(ax, curves, COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)], line)
        for baseline in sorted({value[1] for (_, other), value in first.items() if other == name}):
            ax.axhline(baseline, color=FAINT, linewidth=1, linestyle=DASHES, zorder=1)
    axes[0].set_xlim(left=0)  # of all panels; after the lines, which set the other end
    figure.legend(*_legend(axes), loc="outside upper left", ncols=_PER_LINE, frameon=False, fontsize=9)
    return figure


def _by_head(each: Scored) -> _Named:
    return {(f"{s.site}, head {s.head + 1}", s.name): (s.value, s.baseline) for s in each.scores}


def _by_best(each: Scored) -> _Named:
    layers = by_layer(each.scores).items()
    return {(f"{site}, {which}", name): value for (site, which, name), value in layers if which in (BEST, ONLY)}


def _is_drawn(name: str, table: Mapping[tuple[int, int | None], _Named]) -> bool:
    """Whether a score is a share, and any of the rows has such keys."""
    values = (value for named in table.values() for (_, other), (value, _) in named.items() if other == name)
    return name not in SPREADS and not all(map(math.isnan, values))


def _panels(titles: Sequence[str], lines: int) -> tuple[Figure, list[Axes]]:
    columns = min(len(titles), _PER_LINE)
    height = math.ceil(len(titles) / columns)
    legend = _LEGEND * math.ceil(lines / _PER_LINE)
    figure = blank(_PANEL[0] * columns, _PANEL[1] * height + legend)
    grid = list(figure.subplots(height, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for place, (ax, title) in enumerate(zip(grid, titles, strict=False)):
        ax.set_title(title)
        ax.set_ylim(0, 1.04)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if place + columns >= len(titles):
            ax.set_xlabel("training step")
            ax.tick_params(labelbottom=True)
    for ax in grid[len(titles) :]:
        ax.set_axis_off()
    return figure, grid[: len(titles)]


def _draw(
    ax: Axes, curves: Mapping[int, Sequence[tuple[int | None, float]]], colour: str, marker: str = "", label: str = ""
) -> None:
    """Draws a line over the seeds; only the median is named."""
    arrays = [np.array(curve, float).T for curve in curves.values()]
    if len(arrays) > 1:
        for steps, values in arrays:
            ax.plot(steps, values, color=colour, linewidth=0.8, alpha=0.4)
    every = np.unique(np.concatenate([steps for steps, _ in arrays]))
    # A run that has stopped keeps its last value.
    median = np.median([np.interp(every, steps, values) for steps, values in arrays], axis=0)
    ax.plot(every, median, color=colour, linewidth=2, label=label or None, marker=marker, markevery=[-1], markersize=5)


def _legend(axes: Sequence[Axes]) -> tuple[list, list[str]]:
    """Returns handles and names of all lines, each once."""
    found: dict[str, object] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    return list(found.values()), list(found)
