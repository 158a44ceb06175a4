"""Looks inside a trained run: what its heads look at, and what it loses without them.

    python -m experiments.inspect results/quickstart/20d06d0e5594
    python -m experiments.inspect results/quickstart/20d06d0e5594 --output=maps.html
    python -m experiments.inspect results/quickstart/20d06d0e5594 --output=maps.png --row=3

The page maps.html shows the first rows of the task: point at a token to see where it looks. A picture shows one row.

Scores are means over --rows rows of the task, in brackets the score of a head that looks everywhere alike. For weights
that are signed or do not sum to 1 they measure shares of sizes; docs/inspection.md defines them. Accuracies without a
mixer or a head set its output to zero, or to its mean over rows and tokens.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from experiments import cli, runtime
from experiments.config.run import Run
from experiments.inspection import head_scores, html, maps, pictures, tables
from experiments.inspection.maps import Look
from experiments.model.streams import TEST, split_key
from experiments.reporting.figures import style
from experiments.studies.trained import open_run, trained_model
from experiments.studies.whole_files import write_file
from experiments.tasks.base import Batch

FLAGS = cli.new_flags()
_RUN = flags.DEFINE_string("study", None, "Folder of a run; may stand first, without the flag.", flag_values=FLAGS)
_ROWS = flags.DEFINE_integer("rows", 64, "Rows of the task to average over.", 1, 4096, flag_values=FLAGS)
_ROW = flags.DEFINE_integer("row", 0, "The row that a picture shows.", lower_bound=0, flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", "", "File to write: .html, a page; .png or .svg, a picture of one row.", flag_values=FLAGS
)


def run() -> None:
    """Prints the tables, and writes the picture where one is asked for."""
    if not _RUN.value:
        raise cli.UsageError("name the folder of a run, such as results/quickstart/20d06d0e5594.")
    kind = Path(_OUTPUT.value).suffix.lstrip(".")
    if _OUTPUT.value and kind not in ("html", "png", "svg"):
        raise cli.UsageError(f"--output must end in .html, .png or .svg; got {_OUTPUT.value!r}.")
    if _ROW.value >= _ROWS.value:
        raise cli.UsageError(f"--row must be one of the {_ROWS.value} rows, from 0; got {_ROW.value}.")
    runtime.check_device()
    opened = open_run(_RUN.value)
    model, task = trained_model(_RUN.value, opened), opened.task
    rows = task.sample(split_key(jax.random.key(opened.seed), TEST), _ROWS.value)
    seen = maps.look(model, rows)
    print(f"{opened.model.attention} on {opened.config.task}, seed {opened.seed}: {_ROWS.value} rows\n")
    if seen.maps:
        print(tables.scores_text(head_scores.head_scores(seen.maps, rows)), end="\n\n")
    ablated = tables.ablate(model, task, rows, seen.maps)
    print(tables.ablations_text(ablated))
    if _OUTPUT.value:
        write_file(_OUTPUT.value, _drawn(opened, seen, rows, ablated, kind))
        print(f"\nwrote {_OUTPUT.value}")


def _drawn(run: Run, seen: Look, rows: Batch, ablated: Sequence[tables.Ablated], kind: str) -> str | bytes:
    """Returns the page or the picture as a file of that kind."""
    if kind == "html":
        return html.page(run, seen, rows, ablated)
    if not seen.maps:
        raise cli.UsageError(f"model.attention {run.model.attention!r} has no attention to draw.")
    with style.style():
        return style.save(pictures.draw_maps(seen.maps, rows, _ROW.value, run.task), kind)


if __name__ == "__main__":
    cli.main(run, FLAGS)
