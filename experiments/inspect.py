"""Looks inside a trained run, or the runs of a study: what heads look at, and what a run loses without them.

    python -m experiments.inspect results/quickstart/6977458a702b
    python -m experiments.inspect results/quickstart/6977458a702b --output=maps.html
    python -m experiments.inspect results/quickstart/6977458a702b --output=maps.png --row=3
    python -m experiments.inspect results/quickstart --attention=full
    python -m experiments.inspect results/quickstart --all
    python -m experiments.inspect results/fine_tuning --moved
    python -m experiments.inspect results/induction_heads --training=scores.png

The page maps.html shows the first rows of the task: point at a token to see where it looks. A picture shows one row.

Scores are means over --rows rows of the task; in brackets is the score of a head that attends uniformly. For weights
that are signed or do not sum to 1, they use shares of magnitudes; docs/inspection.md defines them. Accuracies without a
mixer or a head set its output to zero, or to its mean over rows and tokens.

For a study, scores are means over the seeds of one row of its table: for the highest head of each layer, and for all
its heads, because heads have no order that seeds share. --all prints a line for each row instead, as Markdown.
--training draws scores at all steps whose parameters are kept (train.keep_checkpoints=every). --moved shows how far
each layer's attention moved since the pretraining (pretrain.task): total variation between weights before and after.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from experiments import cli, runtime
from experiments.config.run import Run
from experiments.inspection import (
    along_training,
    head_scores,
    html,
    maps,
    moved,
    of_study,
    over_seeds,
    pictures,
    tables,
)
from experiments.inspection.maps import Look
from experiments.model.streams import TEST, split_key
from experiments.reporting.figures import style
from experiments.reporting.text import plural
from experiments.studies.trained import kept_steps, open_run, trained_model
from experiments.studies.whole_files import write_file
from experiments.tasks.base import Batch

FLAGS = cli.new_flags()
_FOLDER = flags.DEFINE_string(
    "study", None, "Folder of a run or of a study; may come first, without the flag.", flag_values=FLAGS
)
_ROWS = flags.DEFINE_integer("rows", 64, "Rows of the task to average over.", 1, 4096, flag_values=FLAGS)
_ROW = flags.DEFINE_integer("row", 0, "The row that a picture shows.", lower_bound=0, flag_values=FLAGS)
_STEP = flags.DEFINE_integer(
    "step",
    None,
    "Training step whose parameters to look at, if they were kept; the default is the best step by validation.",
    lower_bound=0,
    flag_values=FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output", "", "File to write: .html, a page; .png or .svg, a picture of one row.", flag_values=FLAGS
)
_ATTENTION = flags.DEFINE_string(
    "attention",
    None,
    "For a study: model whose seeds to look at, named as in --rows of experiments.table.",
    flag_values=FLAGS,
)
_WHERE = flags.DEFINE_multi_string(
    "where",
    None,
    "For a study: condition on the row of its table, such as 'task=mqar*'; may be repeated.",
    flag_values=FLAGS,
)
_ALL = flags.DEFINE_bool("all", False, "For a study: a line for each row that is named.", flag_values=FLAGS)
_TRAINING = flags.DEFINE_string(
    "training", "", "File to write, .png or .svg: scores along training, with the accuracy.", flag_values=FLAGS
)
_MOVED = flags.DEFINE_bool(
    "moved", False, "For runs with pretrain.task: how far attention moved since the pretraining.", flag_values=FLAGS
)
_KINDS = {"output": ("html", "png", "svg"), "training": ("png", "svg")}
_NOT_MOVED = ("output", "row", "step", "all", "training")
_OF_A_RUN, _OF_A_STUDY = ("output", "row", "step"), ("attention", "where", "all")  # flags that need one or the other


def run() -> None:
    """Prints the tables, and writes the pictures that are asked for."""
    if not _FOLDER.value:
        raise cli.UsageError("name the folder of a run, such as results/quickstart/6977458a702b, or of a study.")
    path = Path(_FOLDER.value)
    study = of_study.is_study(path)
    _check_flags(path, study)
    runtime.check_device()
    if _MOVED.value:
        print(_moved(path, study))
        return
    if _ALL.value:
        rows = of_study.choose_all(path, _ATTENTION.value, _WHERE.value or ())
        print(of_study.overview(rows, _ROWS.value))
        return
    folders = _look_at_study(path) if study else [_look_at_run(path)]
    if _TRAINING.value:
        scored = over_seeds.score_runs(folders, _ROWS.value, along_training=True)
        with style.style():
            picture = style.save(along_training.draw_along_training(scored), _kind("training"))
        write_file(_TRAINING.value, picture)
        print(f"\nwrote {_TRAINING.value}")


def _check_flags(path: Path, study: bool) -> None:
    """Raises UsageError for flags that do not fit what is looked at, or each other."""
    for flag, kinds in _KINDS.items():
        if FLAGS[flag].value and _kind(flag) not in kinds:
            expected = f"{', '.join(f'.{kind}' for kind in kinds[:-1])} or .{kinds[-1]}"
            raise cli.UsageError(f"--{flag} must end in {expected}; got {FLAGS[flag].value!r}.")
    others = [f"--{name}" for name in _NOT_MOVED if FLAGS[name].present]
    if _MOVED.value and others:
        raise cli.UsageError(f"--moved compares a run with its pretraining; leave out {', '.join(others)}.")
    if _ALL.value and _TRAINING.value:
        raise cli.UsageError("--training draws one row; leave out --all.")
    if _ROW.value >= _ROWS.value:
        raise cli.UsageError(f"--row must be one of the {_ROWS.value} rows, from 0; got {_ROW.value}.")
    kind, other, useless = ("study", "run", _OF_A_RUN) if study else ("run", "study", _OF_A_STUDY)
    for flag in useless if path.exists() else ():
        if FLAGS[flag].present:
            raise cli.UsageError(f"--{flag} is for a {other}; {str(path)!r} is the folder of a {kind}.")


def _kind(flag: str) -> str:
    return Path(str(FLAGS[flag].value)).suffix.lstrip(".")


def _look_at_study(study: Path) -> list[Path]:
    """Prints the tables of a row of a study; returns the folders of its runs."""
    chosen = of_study.choose(study, _ATTENTION.value, _WHERE.value or ())
    if _TRAINING.value:
        for folder in chosen.folders:
            kept_steps(folder)  # before all that takes time
    print(of_study.text(chosen, _ROWS.value))
    return chosen.folders


def _moved(path: Path, study: bool) -> str:
    """Returns the table of how far attention moved in a run, or in the named rows of a study that had a pretraining."""
    if not study:
        return tables.moved_text({"": [moved.moved_in_run(path, _ROWS.value)]})
    rows = of_study.choose_all(path, _ATTENTION.value, _WHERE.value or ())
    rows = [row for row in rows if moved.has_pretraining(row.folders[0])]
    if not rows:
        raise cli.UsageError(f"no row of {str(path)!r} that is named has a pretraining; --moved needs pretrain.task.")
    several = len({row.model for row in rows}) < len(rows)
    found = {
        f"{row.model} on {row.task}" if several else row.model: [
            moved.moved_in_run(folder, _ROWS.value) for folder in row.folders
        ]
        for row in rows
    }
    return tables.moved_text(found)


def _look_at_run(folder: Path) -> Path:
    """Prints the tables of a run, and writes its page or picture; returns its folder."""
    opened = open_run(folder)
    if _TRAINING.value:
        kept_steps(folder)
    model, task = trained_model(folder, opened, _STEP.value), opened.task
    rows = task.sample(split_key(jax.random.key(opened.seed), TEST), _ROWS.value)
    seen = maps.look(model, rows)
    at = "" if _STEP.value is None else f", step {_STEP.value}"
    print(f"{opened.model.attention} on {opened.config.task}, seed {opened.seed}{at}: {plural(_ROWS.value, 'row')}\n")
    if seen.maps:
        print(tables.scores_text(head_scores.head_scores(seen.maps, rows)), end="\n\n")
    ablated = tables.ablate(model, task, rows, seen.maps)
    print(tables.ablations_text(ablated))
    if _OUTPUT.value:
        write_file(_OUTPUT.value, _drawn(opened, seen, rows, ablated, _kind("output")))
        print(f"\nwrote {_OUTPUT.value}")
    return folder


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
