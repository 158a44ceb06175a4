"""Shows rows of a task as a person would want to see them.

    python -m experiments.show_task --task=mqar:length=32,num_pairs=4 --rows=2

Evidence is in [brackets], a question ends in "?", and a terminal adds colours. Positions of a context continue those of
the row. Rows that are images are drawn, and `--output=rows.png` writes the images to a file.
"""

import pathlib

from absl import flags
from rich.console import Console

from experiments import cli, runtime
from experiments.reporting import task_rows
from experiments.tasks.registry import TASKS, make_task

FLAGS = cli.new_flags()
_TASK = flags.DEFINE_string("task", None, "Spec of the task, such as mqar:length=32,num_pairs=4.", flag_values=FLAGS)
_ROWS = flags.DEFINE_integer("rows", 3, "Rows to show.", lower_bound=1, upper_bound=1000, flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the rows.", lower_bound=0, upper_bound=2**31 - 1, flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", "", "File to write, .png or .svg, with images of rows.", flag_values=FLAGS)


def run() -> None:
    """Prints the task and `--rows` rows of it, or writes a file of their images."""
    if not _TASK.value:
        raise cli.UsageError(f"--task is needed, such as --task=mqar:length=32; tasks: {', '.join(TASKS)}.")
    task = make_task(_TASK.value)
    if _OUTPUT.value:
        task_rows.check_output(pathlib.Path(_OUTPUT.value))
    runtime.check_device()
    batch = task_rows.draw_rows(task, _ROWS.value, _SEED.value)
    if _OUTPUT.value:
        task_rows.write_images(task, batch, pathlib.Path(_OUTPUT.value))
        print(f"wrote {_OUTPUT.value}")
    else:
        task_rows.print_rows(_TASK.value, task, batch, Console(highlight=False, soft_wrap=True))


if __name__ == "__main__":
    cli.main(run, FLAGS)
