"""Rows of tasks that are pictures: on a terminal, and as a file."""

import math
import pathlib
import textwrap

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from rich.text import Text

from experiments.reporting.figures import layout as canvas
from experiments.tasks.base import Batch, Task

_RAMP = "   -=+*#%@"  # from dark, with its noise, to bright
_PER_LINE = 5  # pictures
KINDS = ("png", "svg")


def text_lines(image: UInt8[np.ndarray, "height width 3"], width: int) -> list[Text]:
    """Returns a picture in characters: two for a pixel, or fewer pixels where it is wider than `width`."""
    step = math.ceil(2 * image.shape[1] / max(width, 2))
    brightness = image.max(axis=2).astype(int) * (len(_RAMP) - 1) // 255
    lines = []
    for colours, levels in zip(image[::step, ::step].tolist(), brightness[::step, ::step].tolist(), strict=True):
        line = Text()
        for (red, green, blue), level in zip(colours, levels, strict=True):
            colour = f"rgb({red},{green},{blue})"
            line.append(2 * _RAMP[level], f"{colour} on {colour}")
        lines.append(line)
    return lines


def draw(task: Task, batch: Batch) -> Figure:
    """Returns a figure with the picture of every row over its answer."""
    rows = len(batch.inputs)
    across = min(rows, _PER_LINE)
    height = math.ceil(rows / across)
    answers = [answer_text(task, batch, row) for row in range(rows)]
    titles = ["\n".join(textwrap.wrap(answer, 26)) for answer in answers]
    room = 0.35 + 0.16 * max(title.count("\n") for title in titles)  # inches, above a picture
    with canvas.style():
        figure = Figure(figsize=(2 * max(across, 3), (1.9 + room) * height + 0.4), layout="constrained")
        figure.suptitle(task.summary, color=canvas.INK, fontsize=10)
        grid = figure.subplots(height, across, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for row, (axes, title) in enumerate(zip(grid, titles, strict=False)):
            axes.imshow(task.image(batch, row), interpolation="nearest")
            axes.set_title(title, color=canvas.INK, loc="center")
    return figure


def answer_text(task: Task, batch: Batch, row: int) -> str:
    """Returns the answers that a row asks for, in the order of their positions."""
    places = [place for place in np.argsort(batch.positions[row], kind="stable") if batch.weights[row, place] > 0]
    return " ".join(task.token_text(int(batch.targets[row, place])) for place in places)


def write(task: Task, batch: Batch, path: pathlib.Path) -> None:
    """Writes `draw` as the kind of file that the name ends with.

    Raises:
      ValueError: the name ends otherwise, or the task has no pictures.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise ValueError(f"--output={path} must end with {' or '.join(f'.{kind}' for kind in KINDS)}.")
    if task.image(batch, 0) is None:
        raise ValueError(f"--output={path}: rows of {type(task).__name__} are no pictures.")
    path.write_bytes(canvas.save(draw(task, batch), kind))
