"""Compares published numbers and claims with what this code gives for them.

    python -m experiments.reproduce --list
    python -m experiments.reproduce --certificate=mqar_window_ceiling
    python -m experiments.reproduce --certificate=parity_networks --check=results/state_tracking
    python -m experiments.reproduce --all --output=results/certificates

A certificate names one published configuration, its source, what was published, what is obtained, a tolerance and a
verdict: reproduced, ordering only, or not reproduced. Some are computed; others read the runs of a study: by default
those under results/reference, with --check those in a folder of yours. --train trains them first; --quick leaves out
only training. The exit code is 0 whatever the verdicts are.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from attention_variants import specs
from experiments import cli, runtime
from experiments.certificates import text
from experiments.certificates.certificate import Certificate, Outcome
from experiments.certificates.registry import CERTIFICATES
from experiments.reporting.text import describe_environment
from experiments.studies.whole_files import write_file

FLAGS = cli.new_flags()
_LIST = flags.DEFINE_bool("list", False, "Print all certificates.", flag_values=FLAGS)
_NAMES = flags.DEFINE_list("certificate", [], "Names of certificates, separated by commas.", flag_values=FLAGS)
_ALL = flags.DEFINE_bool("all", False, "Make all certificates.", flag_values=FLAGS)
_QUICK = flags.DEFINE_bool("quick", False, "Train nothing; the default unless --train.", flag_values=FLAGS)
_TRAIN = flags.DEFINE_bool("train", False, "Train the studies of these certificates first.", flag_values=FLAGS)
_CHECK = flags.DEFINE_string(
    "check", None, "Folder of a study from which its certificates are made.", flag_values=FLAGS
)
_RESULTS = flags.DEFINE_string("results", "results", "Folder below which studies are trained.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for README.md and certificates.json.", flag_values=FLAGS)


def run() -> None:
    """Makes the certificates that are asked for."""
    if _LIST.value:
        print(text.listing(list(CERTIFICATES.values())))
        return
    chosen = _chosen()
    runtime.check_device()
    outcomes = []
    for certificate in chosen:
        outcomes.append(certificate.outcome(_study(certificate)))
        print(text.as_text(outcomes[-1]), end="\n\n", flush=True)
    print(_summary(outcomes))
    if _OUTPUT.value:
        _write(outcomes, Path(_OUTPUT.value))


def _chosen() -> list[Certificate]:
    if _QUICK.value and _TRAIN.value:
        raise cli.UsageError("--quick trains nothing and --train trains; leave one of them out.")
    if _CHECK.value is not None and _TRAIN.value:
        raise cli.UsageError("--check reads runs that are there, and --train makes some; leave one of them out.")
    for name in _NAMES.value:
        if name not in CERTIFICATES:
            raise cli.UsageError(specs.unknown("--certificate", name, CERTIFICATES))
    names = list(CERTIFICATES) if _ALL.value else _NAMES.value
    if not names:
        raise cli.UsageError("name what to make: --certificate=NAME or --all; --list prints the names.")
    chosen = [CERTIFICATES[name] for name in names]
    if FLAGS["results"].present and not _TRAIN.value:
        raise cli.UsageError("--results is where --train trains; without it --check=FOLDER reads runs.")
    for flag in (_CHECK, _OUTPUT):
        if flag.value is not None and not flag.value.strip():
            raise cli.UsageError(f"--{flag.name} must name a folder; got {flag.value!r}.")
    if _CHECK.value is not None and not all(each.study for each in chosen):
        computed = next(each.name for each in chosen if not each.study)
        raise cli.UsageError(f"--check reads runs, and {computed} is computed.")
    return chosen


def _study(certificate: Certificate) -> Path | None:
    """Returns the folder of the study that a certificate reads; trains it where that is asked for."""
    if certificate.study is None or not _TRAIN.value:
        return None if _CHECK.value is None else Path(_CHECK.value)
    config = Path(__file__).parents[1] / "configs" / f"{certificate.study}.py"
    command = [sys.executable, "-m", "experiments.run", f"--config={config}", f"--results={_RESULTS.value}"]
    if subprocess.run(command, check=False).returncode:
        raise cli.UsageError(f"the study {certificate.study} of {certificate.name} could not be trained.")
    return Path(_RESULTS.value) / certificate.study


def _summary(outcomes: Sequence[Outcome]) -> str:
    verdicts = [each.verdict for each in outcomes]
    return ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))


def _write(outcomes: Sequence[Outcome], folder: Path) -> None:
    environment = runtime.environment()
    write_file(folder / "README.md", text.as_markdown(outcomes, describe_environment(environment)))
    write_file(folder / "certificates.json", text.as_json(outcomes, environment))
    print(f"wrote {folder / 'README.md'} and certificates.json")


if __name__ == "__main__":
    cli.main(run, FLAGS)
