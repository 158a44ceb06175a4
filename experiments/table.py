r"""Prints the table of a study, or of several as one, from their run folders.

python -m experiments.table results/quickstart
python -m experiments.table results/quickstart --format=markdown --output=table.md
python -m experiments.table results/quickstart --compare=full
python -m experiments.table results/mqar results/mad --rows='full|linear*' --where='task=mqar*' --where='length>=128'
python -m experiments.table results/mqar --columns=accuracy,state_bytes,params --sort=-accuracy,params
python -m experiments.table results/mqar --metric=loss --compare=full
python -m experiments.table results/mqar results/mad --rows=full --pictures=pictures

Folders come first. A run that is in several of them counts once, and a column names the study of each row. Choices by
validation accuracy are made within each study, before rows are selected. Columns and fields are named as in the first
line of --format=csv, by their headings (state_bytes), or by the beginning of either. Quote values with *, |, < or >.
"""

import functools
import sys

from absl import flags

from attention_variants import specs
from experiments import cli
from experiments.reporting import comparison, names, selection, tables
from experiments.studies.results import Study, read_study
from experiments.studies.whole_files import write_file

FLAGS = cli.new_flags()
_STUDY = flags.DEFINE_multi_string(
    "study", None, "Folder of a study; may be repeated, and may come first without the flag.", flag_values=FLAGS
)
_ROWS = flags.DEFINE_string(
    "rows",
    None,
    "Models to show: names or globs separated by |, with or without conv+ and fields, such as 'full|linear*'.",
    flag_values=FLAGS,
)
_WHERE = flags.DEFINE_multi_string(
    "where",
    None,
    "Condition on the rows to show: FIELD=VALUE, or with != < <= > >=; may be repeated, and all must hold. FIELD is a "
    "field of the config (train.learning_rate), of the task (task.length) or of CSV (accuracy). After = and !=, VALUE "
    "may be a glob, or several separated by |.",
    flag_values=FLAGS,
)
_COLUMNS = flags.DEFINE_string(
    "columns",
    None,
    "Columns to show, in this order, separated by commas; those that name a row stay in front. All formats.",
    flag_values=FLAGS,
)
_SORT = flags.DEFINE_string(
    "sort",
    None,
    "Fields to sort rows by, separated by commas; with a - in front, the largest comes first. The default is by what "
    "the study varies, then best first.",
    flag_values=FLAGS,
)
_METRIC = flags.DEFINE_string(
    "metric",
    None,
    "Score to show, sort by, print bold and compare, in place of the test accuracy: loss, validation_accuracy, "
    "solve_rate, steps_to_solve_median, 'accuracy at 128', 'shifted: ...', or a bin of a slice such as distance=16-31.",
    flag_values=FLAGS,
)
_FORMAT = flags.DEFINE_enum("format", "text", list(tables.STYLES), "Format of the table.", flag_values=FLAGS)
_COMPARE = flags.DEFINE_string(
    "compare", None, "Show each row minus that of this model on the same task, such as full.", flag_values=FLAGS
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write; the default is the terminal.", flag_values=FLAGS)
_PICTURES = flags.DEFINE_string(
    "pictures",
    None,
    "Folder in which to draw the rows that are shown, by the score that is shown, as PNG and SVG.",
    flag_values=FLAGS,
)
_EMPTY = {  # flag: what to do instead of leaving it empty
    "output": "names no file; leave it out to print the table",
    "compare": "names no model; leave it out to print the scores themselves",
    "rows": "names no model; leave it out to show all",
    "columns": "names no column; leave it out to show all",
    "sort": "names no field; leave it out for the order of the study",
    "metric": "names no score; leave it out for the test accuracy",
    "pictures": "names no folder; leave it out to draw none",
}


def run() -> None:
    """Prints or writes the table."""
    if not _STUDY.value or not all(_STUDY.value):
        raise cli.UsageError("name the folder of a study, such as results/quickstart.")
    for flag, instead in _EMPTY.items():
        if (text := FLAGS[flag].value) is not None and not text.strip(", "):
            raise cli.UsageError(f"--{flag}= {instead}.")
    whole = read_study(*_STUDY.value)
    study, notes = selection.select(whole, _ROWS.value, _WHERE.value or ())
    study = _scored(study)
    choose = list if _COLUMNS.value is None else functools.partial(selection.choose, study, _COLUMNS.value)
    if _COMPARE.value is None:
        table = tables.of_study(study, choose)
    else:
        _check_compared(whole, study, _COMPARE.value)
        table = comparison.comparison(study, _COMPARE.value, choose)
    table = table._replace(notes=[*table.notes, *notes])
    if _SORT.value is not None:
        table = selection.sort(study, table, _SORT.value)
    text = tables.STYLES[_FORMAT.value](table)
    for note in [*table.warnings, *notes] if _FORMAT.value == "csv" else ():  # which has no notes
        print(note, file=sys.stderr)
    if _OUTPUT.value is None:
        print(text)
    else:
        write_file(_OUTPUT.value, f"{text}\n")
    if _PICTURES.value is not None:
        from experiments.reporting.pictures import write_pictures  # matplotlib takes a second to import

        write_pictures(study, _PICTURES.value)


def _scored(study: Study) -> Study:
    """Returns the study by the metric that is asked for."""
    if _METRIC.value is None:
        return study
    metrics = {name: (metric.label,) for name, metric in study.metrics.items()}
    return study.by_metric(study.metrics[names.find("--metric", "score", _METRIC.value, metrics)])


def _check_compared(whole: Study, study: Study, name: str) -> None:
    """Raises UsageError where the rows that are left lack the model from which they are to differ."""
    try:
        names.find_model(study, name)
    except specs.SpecError:
        model = names.find_model(whole, name)
        raise cli.UsageError(f"--compare: --rows and --where leave out {model!r}, with which it compares.") from None


if __name__ == "__main__":
    cli.main(run, FLAGS)
