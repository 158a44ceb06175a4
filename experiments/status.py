r"""Shows the progress of a study at any time, from any machine that sees its folder; writes nothing.

python -m experiments.status results/mine
python -m experiments.status results/mine --watch=5

The first line counts the runs and estimates the remaining time from those that have ended. Below it is a line for each
process at work: the run, its step, and how long ago the process last showed that it is alive. A waiting run has not
begun, or was interrupted.
"""

import time
from pathlib import Path

from absl import flags

from experiments import cli
from experiments.studies import status

FLAGS = cli.new_flags()
_STUDY = flags.DEFINE_string("study", None, "Folder of a study; may come first, without the flag.", flag_values=FLAGS)
_WATCH = flags.DEFINE_float(
    "watch", None, "Seconds between updates, until the study is over.", lower_bound=0.1, flag_values=FLAGS
)


def run() -> None:
    """Prints the progress of the study; with --watch, repeatedly."""
    if not _STUDY.value:
        raise cli.UsageError("name the folder of a study, such as results/quickstart.")
    study = Path(_STUDY.value)
    if _WATCH.value:
        with status.make_view(study) as view:
            while not status.is_over(status.read_status(study)):
                view.show()
                time.sleep(_WATCH.value)
    print(status.status_text(status.read_status(study)))


if __name__ == "__main__":
    cli.main(run, FLAGS)
