r"""Writes the report of a study from its run folders: one self-contained report.html, and its pictures as PNG and SVG.

python -m experiments.report results/quickstart
"""

from absl import flags

from experiments import cli
from experiments.reporting.html import write_report

FLAGS = cli.new_flags()
_STUDY = flags.DEFINE_string("study", None, "Folder of a study; may come first, without the flag.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write to; by default that of the study.", flag_values=FLAGS)


def run() -> None:
    """Writes the report and prints where it is."""
    if not _STUDY.value:
        raise cli.UsageError("name the folder of a study, such as results/quickstart.")
    if _OUTPUT.value == "":
        raise cli.UsageError("--output= names no folder; leave it out to write into that of the study.")
    print(write_report(_STUDY.value, _OUTPUT.value))


if __name__ == "__main__":
    cli.main(run, FLAGS)
