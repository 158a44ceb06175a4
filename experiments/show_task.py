"""Shows a task's rows as a person would want to see them.

    python -m experiments.show_task --task=mqar:length=32,num_pairs=4 --rows=2

Evidence stands in [brackets], a question ends in "?"; colours appear on a terminal. Positions of a context are counted
on from those of the row. Rows that are images are drawn; `--output=rows.png` makes a file of their pictures.
"""

import pathlib

import jax
import numpy as np
from absl import flags
from rich.console import Console
from rich.text import Text

from experiments import cli as command_line
from experiments.reporting import listings as catalogue
from experiments.reporting import pictures
from experiments.tasks.base import Batch, Task
from experiments.tasks.registry import TASKS, make_task

FLAGS = command_line.new_flags()
_TASK = flags.DEFINE_string("task", None, "Spec of the task, such as mqar:length=32,num_pairs=4.", flag_values=FLAGS)
_ROWS = flags.DEFINE_integer("rows", 3, "Rows to show.", lower_bound=1, upper_bound=1000, flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the rows.", lower_bound=0, upper_bound=2**31 - 1, flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", "", "File, .png or .svg, for pictures of the rows.", flag_values=FLAGS)

_LISTED_EVIDENCE = 16  # pieces; of more only the number and the range are told

STYLES = {
    "key": "bold cyan",
    "value": "bold green",
    "query": "bold black on yellow",
    "filler": "dim",
    "marker": "bold magenta",
    "answer": "green",
}


def run() -> None:
    """Prints what the task is, its floors and `--rows` rows; or makes a file of their pictures."""
    if not _TASK.value:
        raise command_line.UsageError(f"--task is needed, such as --task=mqar:length=32; tasks: {', '.join(TASKS)}.")
    task = make_task(_TASK.value)
    batch = jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(_SEED.value), _ROWS.value))
    if _OUTPUT.value:
        pictures.write(task, batch, pathlib.Path(_OUTPUT.value))
        print(f"wrote {_OUTPUT.value}")
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(_TASK.value, style="bold"), f"- {task.summary}")
    console.print(f"{catalogue.sizes_text(task)}, version {task.version}")
    for floor in catalogue.floors_text(task):
        console.print(f"floor: {floor}")
    legend = [Text(role, style) for role, style in STYLES.items()]
    console.print(Text(" ").join([*legend, Text("[evidence]", "underline"), Text("question?")]))
    for row in range(_ROWS.value):
        console.print(f"\nrow {row}", style="bold")
        for line in row_lines(task, batch, row, console.width):
            console.print(line)


def row_lines(task: Task, batch: Batch, row: int, width: int) -> list[Text]:
    """Returns what an encoder reads and one row, in columns that fit `width` or drawn, and a line per question."""
    described = [*task.describe_row(batch, row), *task.describe_context(batch, row)]
    scored = [place for place in np.argsort(batch.positions[row], kind="stable") if batch.weights[row, place] > 0]
    questions = {int(batch.positions[row, place]) for place in scored}
    evidence = {int(position) for place in scored for position in batch.evidence[row, place] if position >= 0}

    cells = []
    for position, (token, role) in enumerate(described):
        token += "?" if position in questions else ""
        marked = f"[{token}]" if position in evidence else f" {token} "
        cells.append(Text(marked, style=STYLES[role] + (" underline" if position in evidence else "")))
    length, margin = task.input_length, len(str(len(cells))) + 2
    image = task.image(batch, row)
    drawn = [] if image is None else pictures.text_lines(image, width)
    lines = drawn if drawn and task.context is None else _columns(cells[:length], 0, margin, width)
    if task.context is not None:
        lines = [Text("context"), *drawn, *_columns(cells[length:], length, margin, width), Text("row"), *lines]
    return lines + [_question_line(task, batch, row, place, described) for place in scored]


def _columns(cells: list[Text], first: int, margin: int, width: int) -> list[Text]:
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
    line = Text(f"  at {position}: ")
    line.append(f"{described[position][0]}?", STYLES["query"])
    target = batch.targets[row, place]
    answer = task.token_text(int(target)) if task.tolerance is None else f"{target:.2f}"
    line.append(" -> ").append(answer, STYLES["value"])
    slices = ", ".join(f"{name} {int(value[row, place])}" for name, value in batch.slices.items())
    return line.append(f"   evidence {evidence}; {slices}")


if __name__ == "__main__":
    command_line.main(run, FLAGS)
