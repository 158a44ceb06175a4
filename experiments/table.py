r"""Prints the table of a study from its run folders.

python -m experiments.table results/quickstart
python -m experiments.table results/quickstart --format=markdown --output=table.md
python -m experiments.table results/quickstart --compare=full
"""

import sys

from absl import flags

from experiments import cli
from experiments.reporting import comparison, tables
from experiments.studies.results import read_study
from experiments.studies.whole_files import write_file

FLAGS = cli.new_flags()
_STUDY = flags.DEFINE_string("study", None, "Folder of a study; may stand first, without the flag.", flag_values=FLAGS)
_FORMAT = flags.DEFINE_enum("format", "text", list(tables.STYLES), "Format of the table.", flag_values=FLAGS)
_COMPARE = flags.DEFINE_string(
    "compare", None, "Model from which each row of its task is to differ, such as full.", flag_values=FLAGS
)
_OUTPUT = flags.DEFINE_string("output", None, "File to write; the default is the terminal.", flag_values=FLAGS)


def run() -> None:
    """Prints or writes the table."""
    if not _STUDY.value:
        raise cli.UsageError("name the folder of a study, such as results/quickstart.")
    if _OUTPUT.value == "":
        raise cli.UsageError("--output= names no file; leave it out to print the table.")
    if _COMPARE.value == "":
        raise cli.UsageError("--compare= names no model; leave it out to print the scores themselves.")
    study = read_study(_STUDY.value)
    table = tables.of_study(study) if _COMPARE.value is None else comparison.comparison(study, _COMPARE.value)
    text = tables.STYLES[_FORMAT.value](table)
    for note in table.warnings if _FORMAT.value == "csv" else ():  # which has no notes
        print(note, file=sys.stderr)
    if _OUTPUT.value is None:
        print(text)
    else:
        write_file(_OUTPUT.value, f"{text}\n")


if __name__ == "__main__":
    cli.main(run, FLAGS)
