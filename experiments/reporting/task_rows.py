"""Rows of a task as a person would want to see them: tokens and images on a terminal, and files of images."""

import math
import pathlib
import textwrap
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.text import Text

from experiments.reporting.figures import style
from experiments.reporting.listings import floors_text, sizes_text
from experiments.tasks.base import Batch, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("png", "svg")  # of files
STYLES = {
    "key": "bold cyan",
    "value": "bold green",
    "query": "bold black on yellow",
    "filler": "dim",
    "marker": "bold magenta",
    "answer": "green",
}
_LISTED_EVIDENCE = 16  # pieces; of more, only their number and range are shown
_RAMP = "   -=+*#%@"  # from dark, with its noise, to bright
_PER_LINE = 5  # images in a file, side by side


def draw_rows(task: Task, rows: int, seed: int) -> Batch:
    """Returns the first rows of a seed."""
    return jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(seed), rows))


def print_rows(title: str, task: Task, batch: Batch, console: Console) -> None:
    """Prints what a task is, its floors, a legend, and every row of `batch`."""
    console.print(Text(title, style="bold"), f"- {task.summary}")
    console.print(f"{sizes_text(task)}, version {task.version}")
    for floor in floors_text(task):
        console.print(f"floor: {floor}")
    legend = [Text(role, role_style) for role, role_style in STYLES.items()]
    console.print(Text(" ").join([*legend, Text("[evidence]", "underline"), Text("question?")]))
    for row in range(len(batch.inputs)):
        console.print(f"\nrow {row}", style="bold")
        for line in row_lines(task, batch, row, console.width):
            console.print(line)


def row_lines(task: Task, batch: Batch, row: int, width: int) -> list[Text]:
    """Returns the lines of one row: its context, its tokens or image, and a line per question.

    Args:
      task: of the row.
      batch: holds the row.
      row: its index.
      width: of the terminal, in characters.
    """
    described = [*task.describe_row(batch, row), *task.describe_context(batch, row)]
    scored = _scored(batch, row)
    cells = _cells(batch, row, scored, described)
    margin, length, image = len(str(len(cells))) + 2, task.input_length, task.image(batch, row)
    drawn = [] if image is None else image_lines(image, width)
    tokens = _in_columns(cells[:length], 0, margin, width)
    if task.context is None:
        lines = drawn or tokens
    else:
        context = _in_columns(cells[length:], length, margin, width)
        lines = [Text("context"), *drawn, *context, Text("row"), *tokens]
    return lines + [_question_line(task, batch, row, place, described) for place in scored]


def image_lines(image: UInt8[np.ndarray, "height width 3"], width: int) -> list[Text]:
    """Returns an image in characters: two for each pixel, or for fewer pixels where it is wider than `width`."""
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


def check_output(path: pathlib.Path) -> None:
    """Raises ValueError for a file that `write_images` could not write, before any row is drawn."""
    if path.suffix.removeprefix(".").lower() not in KINDS:
        raise ValueError(f"--output={path} must end with {' or '.join(f'.{kind}' for kind in KINDS)}.")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--output={path}: there is no folder {str(path.parent)!r}.")


def write_images(task: Task, batch: Batch, path: pathlib.Path) -> None:
    """Writes the images of all rows in the format of the file name's extension.

    Raises:
      ValueError: the name has another extension, or the rows of the task are not images.
    """
    check_output(path)
    kind = path.suffix.removeprefix(".").lower()
    if task.image(batch, 0) is None:
        raise ValueError(f"--output={path}: rows of {type(task).__name__} are not images.")
    path.write_bytes(style.save(draw_images(task, batch), kind))


def draw_images(task: Task, batch: Batch) -> "Figure":
    """Returns a figure with the image of every row below its answer."""
    rows = len(batch.inputs)
    across = min(rows, _PER_LINE)
    height = math.ceil(rows / across)
    titles = ["\n".join(textwrap.wrap(_answer_text(task, batch, row), 26)) for row in range(rows)]
    room = 0.35 + 0.16 * max(title.count("\n") for title in titles)  # inches, above an image
    with style.style():
        figure = style.blank(2 * max(across, 3), (1.9 + room) * height + 0.4)
        figure.suptitle(task.summary, color=style.INK, fontsize=10)
        grid = figure.subplots(height, across, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for row, (axes, title) in enumerate(zip(grid, titles, strict=False)):
            axes.imshow(task.image(batch, row), interpolation="nearest")
            axes.set_title(title, color=style.INK, loc="center")
    return figure


def _answer_text(task: Task, batch: Batch, row: int) -> str:
    """Returns the answers of a row in the order of their positions."""
    return " ".join(task.token_text(int(batch.targets[row, place])) for place in _scored(batch, row))


def _scored(batch: Batch, row: int) -> list[int]:
    """Returns the indices of the targets of a row that count, in the order of their positions."""
    return [place for place in np.argsort(batch.positions[row], kind="stable") if batch.weights[row, place] > 0]


def _cells(batch: Batch, row: int, scored: list[int], described: list[tuple[str, str]]) -> list[Text]:
    """Returns every token with its role as style, evidence in brackets, and a question mark after each question."""
    questions = {int(batch.positions[row, place]) for place in scored}
    evidence = {int(position) for place in scored for position in batch.evidence[row, place] if position >= 0}
    cells = []
    for position, (token, role) in enumerate(described):
        text = f"{token}?" if position in questions else token
        marked = (
            Text(f"[{text}]", f"{STYLES[role]} underline") if position in evidence else Text(f" {text} ", STYLES[role])
        )
        cells.append(marked)
    return cells


def _in_columns(cells: list[Text], first: int, margin: int, width: int) -> list[Text]:
    """Returns lines that begin with the position of their first cell, counted from `first`."""
    cell_width = max(len(cell) for cell in cells)
    per_line = max(1, (width - margin) // (cell_width + 1))
    lines = []
    for start in range(0, len(cells), per_line):
        line = Text().append(f"{first + start:>{margin - 2}}: ", "dim")
        for cell in cells[start : start + per_line]:
            line.append_text(cell).append(" " * (cell_width + 1 - len(cell)))
        line.rstrip()
        lines.append(line)
    return lines


def _question_line(task: Task, batch: Batch, row: int, place: int, described: list[tuple[str, str]]) -> Text:
    position = int(batch.positions[row, place])
    seen = [int(at) for at in batch.evidence[row, place] if at >= 0]
    evidence = ", ".join(f"[{described[at][0]}] at {at}" for at in seen)
    if len(seen) > _LISTED_EVIDENCE:
        evidence = f"{len(seen)} positions in {min(seen)}..{max(seen)}"
    line = Text(f"  at {position}: ").append(f"{described[position][0]}?", STYLES["query"])
    target = batch.targets[row, place]
    chances = " ".join(f"{chance:.2f}" for chance in np.atleast_1d(target))
    answer = task.token_text(int(target)) if task.tolerance is None else chances
    line.append(" -> ").append(answer, STYLES["value"])
    if batch.also_right is not None:
        also = [task.token_text(int(token)) for token in batch.also_right[row, place] if token >= 0]
        line.append("".join(f" or {text}" for text in also))
    slices = ", ".join(f"{name} {int(value[row, place])}" for name, value in batch.slices.items())
    return line.append(f"   evidence {evidence}; {slices}")
