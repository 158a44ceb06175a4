"""Looks inside a trained run: what its heads look at, and what it loses without them.

    python -m experiments.inspect results/quickstart/20d06d0e5594
    python -m experiments.inspect results/quickstart/20d06d0e5594 --output=maps.png --row=3

Scores are means over --rows rows of the task, in brackets the score of a head that looks everywhere alike. For weights
that are signed or do not sum to 1 they measure shares of sizes; docs/inspection.md defines them. Accuracies without a
mixer or a head set its output to zero, or to its mean over rows and tokens.
"""

from pathlib import Path

import jax
from absl import flags

from experiments import cli, runtime
from experiments.inspection import head_scores, maps, pictures, tables
from experiments.model.streams import TEST, split_key
from experiments.reporting.figures import style
from experiments.studies.trained import open_run, trained_model
from experiments.studies.whole_files import write_file

FLAGS = cli.new_flags()
_RUN = flags.DEFINE_string("study", None, "Folder of a run; may stand first, without the flag.", flag_values=FLAGS)
_ROWS = flags.DEFINE_integer("rows", 64, "Rows of the task to average over.", 1, 4096, flag_values=FLAGS)
_ROW = flags.DEFINE_integer("row", 0, "The row that --output shows.", lower_bound=0, flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", "", "File to write, .png or .svg, with the maps of one row.", flag_values=FLAGS)


def run() -> None:
    """Prints the tables, and writes the picture where one is asked for."""
    if not _RUN.value:
        raise cli.UsageError("name the folder of a run, such as results/quickstart/20d06d0e5594.")
    kind = Path(_OUTPUT.value).suffix.lstrip(".")
    if _OUTPUT.value and kind not in ("png", "svg"):
        raise cli.UsageError(f"--output must end in .png or .svg; got {_OUTPUT.value!r}.")
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
    print(tables.ablations_text(model, task, rows, seen.maps))
    if _OUTPUT.value:
        with style.style():
            picture = style.save(pictures.draw_maps(seen.maps, rows, _ROW.value, task), kind)
        write_file(_OUTPUT.value, picture)
        print(f"\nwrote {_OUTPUT.value}")


if __name__ == "__main__":
    cli.main(run, FLAGS)
