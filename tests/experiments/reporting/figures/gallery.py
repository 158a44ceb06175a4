"""Made-up studies and their pictures, each drawn when it is first asked for; and ways to look at a picture."""

import functools
import itertools
from pathlib import Path

import matplotlib.text
import pytest
from matplotlib.colors import to_hex

from experiments.reporting.figures import registry
from experiments.reporting.figures.style import style
from experiments.studies.results import read_study
from tests.experiments.fake_study import CATALOGUE, KINDS, TASK, config_of, write_run, write_study

LENGTHS = [f"mqar:length={length},num_pairs=8,vocab_size=512" for length in (512, 64, 256, 128)]
PAIRS = [f"mqar:num_pairs={pairs}" for pairs in (1, 2, 4, 8, 16)]
MIXED = [TASK, "induction", "selective_copying:length=128,num_tokens=8"]
STUDIES = {  # kinds, tasks
    "one task": (list(KINDS), [TASK]),
    "lengths": (list(KINDS)[:3], LENGTHS),
    "five tasks": (CATALOGUE[-2:], PAIRS),
    "mixed": (list(KINDS), MIXED),
    "catalogue": (CATALOGUE, MIXED[::2]),
    "crowded lengths": (CATALOGUE[:8], LENGTHS[1::2]),
}
SEVERAL = [name for name in STUDIES if name != "one task"]
CROWDED = ["catalogue", "crowded lengths"]
TESTED = {  # on other rows, too: kinds, tasks, positions
    "two": (list(KINDS)[:2], LENGTHS[1:2], ["none"]),
    "encodings": (list(KINDS)[:4], LENGTHS[1:2], ["none", "rope", "alibi", "sinusoidal"]),
    "eight": (CATALOGUE[:8], LENGTHS[1:2], ["none"]),
    "three lengths": (list(KINDS)[:4], LENGTHS[1:], ["none"]),
    "eight of lengths": (list(KINDS)[:4], LENGTHS[1::2], ["none", "rope"]),
}
SIZED = {  # of several sizes, or with a chosen rate: kinds, tasks, rates
    "windows": (CATALOGUE[:6], MIXED[:2], []),
    "grid": (list(KINDS)[:3], [f"mqar:length={length},num_pairs={n}" for length in (64, 128) for n in (2, 4)], []),
    "rates": (list(KINDS)[:4], MIXED[:1], [0.001, 0.003, 0.01]),
    "rates of many": (CATALOGUE[:8], MIXED[:2], [0.001, 0.003, 0.01]),
}


class Gallery:
    """Studies by name, and their pictures by file name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.study, self.figure = functools.cache(self._study), functools.cache(self._figure)

    def _study(self, name):
        if name in STUDIES:
            kinds, tasks = STUDIES[name]
            return read_study(write_study(self._folder / name, kinds, 2, tasks))
        if name in SIZED:
            kinds, tasks, rates = SIZED[name]
            folder = write_study(self._folder / name, kinds, 2, tasks)
            for place, (rate, kind, task) in enumerate(itertools.product(rates, kinds, tasks)):
                config = config_of(kind, task=task, learning_rate=rate)
                config["study"]["select"] = ("train.learning_rate",)
                write_run(folder, config, validation_accuracy=0.3 + 0.1 * (place % 7))
            return read_study(folder)
        return read_study(write_study(self._folder / name, TESTED[name][0], 2, *TESTED[name][1:], other_rows=True))

    def _figure(self, name, file):
        """Returns a picture, None where the study has none of that name."""
        pictures = registry.pictures(self.study(name))
        with style():
            figure = pictures[file].draw(self.study(name)) if file in pictures else None
        if figure is not None:
            figure.draw_without_rendering()
        return figure


def shown(figure):
    """Returns the texts that are seen, without the labels of ticks outside an axis."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            ticks = [tick for tick in axis.get_major_ticks() if not axes.axison or not low <= tick.get_loc() <= high]
            hidden |= {label for tick in ticks for label in (tick.label1, tick.label2)}
    texts = figure.findobj(matplotlib.text.Text)
    return [text for text in texts if text.get_visible() and text.get_text().strip() and text not in hidden]


def box(text):
    """Returns where a text stands, without the line that may lead to it."""
    return matplotlib.text.Text.get_window_extent(text)


def points(axes):
    """Returns {(x, y)} of all lines in a panel."""
    return {(float(x), float(y)) for line in axes.lines for x, y in zip(*line.get_data(), strict=True)}


def paths(axes):
    """Returns the lines of a panel as tuples of points."""
    return {tuple(zip(*line.get_data(), strict=True)) for line in axes.lines}


def colours(axes, least=0):
    """Returns the colours of the lines of more than `least` points."""
    return [to_hex(line.get_color()).upper() for line in axes.lines if len(line.get_xdata()) > least]


def look_at(axes, point):
    """Returns the (colour, marker) of what is drawn in `axes` with its last point there."""
    found = []
    for line in axes.lines:
        x, y = (list(values)[-1] for values in line.get_data())
        if line.get_marker() not in ("None", "", "_") and (x, y) == pytest.approx(point):
            found.append((to_hex(line.get_color()).upper(), line.get_marker()))
    return found


def of_tasks(figure):
    """Returns the panels of a figure, without those left empty."""
    return [axes for axes in figure.axes if axes.axison]


def one_line(text):
    return " ".join(text.split())
