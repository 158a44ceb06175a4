r"""Packs a study into one file, to keep or to send, and unpacks it.

python -m experiments.archive results/mine --output=to_keep/mine
python -m experiments.archive to_keep/mine --unpack --output=results/mine

The file is `runs.jsonl`: a line per run that has ended, with its config, manifest, metrics and result, without
checkpoints. `experiments.table` and `experiments.report` read a packed study as it is. Once unpacked, a study goes on
where it stopped: none of its runs is repeated.
"""

from pathlib import Path

from absl import flags

from experiments import cli
from experiments.reporting.text import plural
from experiments.studies import archive
from experiments.studies.finding import check_study
from experiments.studies.status import read_status

FLAGS = cli.new_flags()
_STUDY = flags.DEFINE_string("study", None, "Folder of a study; may come first, without the flag.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the packed or unpacked study.", flag_values=FLAGS)
_UNPACK = flags.DEFINE_bool("unpack", False, "Unpack the file into run folders.", flag_values=FLAGS)


def run() -> None:
    """Packs or unpacks."""
    if not _STUDY.value:
        raise cli.UsageError("name the folder of a study, such as results/quickstart.")
    if not _OUTPUT.value:
        raise cli.UsageError("--output is required: the folder that the study is in then.")
    check_study(Path(_STUDY.value))
    if _UNPACK.value:
        print(f"{plural(archive.unpack(_STUDY.value, _OUTPUT.value), 'run')} unpacked into {_OUTPUT.value}.")
        return
    packed = archive.pack(_STUDY.value, _OUTPUT.value)
    left = len(read_status(Path(_STUDY.value)).runs) - packed
    others = f"; {left} that {'has' if left == 1 else 'have'} not ended {'is' if left == 1 else 'are'} left out"
    print(f"{plural(packed, 'run')} packed into {Path(_OUTPUT.value) / archive.ARCHIVE}{others if left else ''}.")


if __name__ == "__main__":
    cli.main(run, FLAGS)
