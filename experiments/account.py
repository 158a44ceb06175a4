r"""Accounts for the compute, memory and time of models on their tasks; prints two tables, and writes JSON to --output.

python -m experiments.account --config=configs/quickstart.py
python -m experiments.account --config=configs/mqar.py --vary='model.attention=full|linear' --noclock
python -m experiments.account --config=configs/mqar.py --match=flops --format=markdown --output=account.json

Every model of the study is counted once, pass by pass: forward pass and training step of a batch, prefill of a row, and
decoding of its last token. FLOPs are those of matrix products, executed and ideal; sorting, top-k, argmax (the buckets
of a hash), gathering and scattering are counted separately. Times are medians over turns in one process. Tokens per
second follow from them, and so do shares of what the machine can do, measured first for a large matrix product and for
memory. --noclock measures no times.
"""

import json
from pathlib import Path

from absl import flags

from experiments import cli, runtime
from experiments.analysis import memory
from experiments.benchmarks import account_tables, accounting
from experiments.config import files, sections
from experiments.config.run import Run
from experiments.reporting.plan import match_text
from experiments.reporting.text import describe_environment
from experiments.studies import grid, matching, runner
from experiments.studies.whole_files import check_writable, write_file

FLAGS = cli.new_flags()
_CONFIG = flags.DEFINE_string("config", None, "Python file with get_config(); it is executed.", flag_values=FLAGS)
_OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "a.b=value: sets a field of the config, as --config.a.b=value does", flag_values=FLAGS
)
_VARY = flags.DEFINE_multi_string(
    "vary", [], "a.b=x|y|z: alternatives; repeat it for a grid. Replaces the config's grid and sweep", flag_values=FLAGS
)
_MATCH = flags.DEFINE_enum(
    "match",
    None,
    list(sections.MATCHES),
    "Budget that all rows of a task share, as in experiments.run",
    flag_values=FLAGS,
)
_CLOCK = flags.DEFINE_bool("clock", True, "Time every pass, and the machine.", flag_values=FLAGS)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Timed calls of every pass.", lower_bound=1, flag_values=FLAGS)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "markdown"], "How to print the tables.", flag_values=FLAGS)
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for all numbers and the environment.", flag_values=FLAGS)


def run() -> None:
    """Measures, prints and writes --output."""
    if _OUTPUT.value:
        if Path(_OUTPUT.value).is_dir():
            raise cli.UsageError(f"--output={_OUTPUT.value} is a folder; expected a file.")
        check_writable(Path(_OUTPUT.value).absolute().parent)  # before the measurement, which must not be lost
    if FLAGS["repeats"].present and not _CLOCK.value:
        raise cli.UsageError("--repeats is for the clock, which --noclock leaves out.")
    runtime.check_device()
    runs = _read_runs()
    memory.check(list(runs.values()), runtime.memory_bytes())
    if matches := matching.records(list(runs.values())):
        print(match_text(matches), flush=True)
    machine, measured = accounting.measure(runs, _REPEATS.value, _CLOCK.value)
    environment = runtime.environment()
    print(f"{account_tables.render(measured, machine, _FORMAT.value)}\n\n{describe_environment(environment)}")
    if _OUTPUT.value:
        content = {"environment": environment, **account_tables.plain(measured, machine)}
        write_file(Path(_OUTPUT.value), json.dumps(content, indent=1) + "\n")


def _read_runs() -> dict[str, Run]:
    if _CONFIG.value is None:
        raise cli.UsageError("--config is required, such as --config=configs/quickstart.py.")
    loaded = files.load(_CONFIG.value)
    overrides = [*_OVERRIDE.value, *([f"match={_MATCH.value}"] if _MATCH.value else [])]
    config = files.apply_overrides(loaded.config, overrides)
    configs = grid.expand(config, _VARY.value, 1, files.without_overridden(loaded.sweep, overrides))
    runs = accounting.of_different_cost(runner.read_runs(configs))
    return dict(zip(runner.cell_labels([run.config for run in runs]), runs, strict=True))


if __name__ == "__main__":
    cli.main(run, FLAGS)
