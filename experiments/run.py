r"""Trains one run or a whole study, then prints its table and writes its report.

python -m experiments.run --config=configs/quickstart.py
python -m experiments.run --config=configs/mqar.py --vary='model.attention=full|linear' --seeds=5
python -m experiments.run --config=configs/mqar.py --config.train.steps=500 --dry_run

The config file is a Python file and is executed. Any of its fields can be set with --config.a.b=value. A run that has
ended is never repeated; one that was interrupted continues where it stopped. Starting the same command twice, on one
machine or on several that share the folder of the results, shares the runs between the processes, and each waits for
what the others work on; --workers=2 starts two such processes, and --shard=0/3 and so on give each command a fixed part
instead. --executor=slurm trains in the jobs of a cluster. SIGUSR1 saves the run and ends the command. Exit code: 0, 1
where a run failed, 2 for a mistake in the command, 138 after SIGUSR1.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import cli, runtime
from experiments.analysis import compute, memory, start
from experiments.config import files
from experiments.config.run import Run
from experiments.reporting import html, listings, tables
from experiments.reporting.plan import Planned, plan_text
from experiments.studies import grid, job_flags, jobs, runner, workers
from experiments.studies.results import read_study
from experiments.studies.run_folder import open_study
from experiments.studies.whole_files import check_writable

FLAGS = cli.new_flags()
_CONFIG = flags.DEFINE_string("config", None, "Python file with get_config(); it is executed.", flag_values=FLAGS)
_OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "a.b=value: sets a field of the config, as --config.a.b=value does", flag_values=FLAGS
)
_VARY = flags.DEFINE_multi_string(
    "vary", [], "a.b=x|y|z: alternatives to compare; repeated, a grid. Replaces the config's grid", flag_values=FLAGS
)
_SELECT = flags.DEFINE_multi_string(
    "select", [], "a.b,c.d: varied fields to choose by validation accuracy. Replaces study.select", flag_values=FLAGS
)
_SEEDS = flags.DEFINE_integer("seeds", None, "Runs per cell of the grid.", lower_bound=1, flag_values=FLAGS)
_SHARD = flags.DEFINE_string(
    "shard", None, "i/n: train the i-th of n parts of the runs, from 0, and leave out the others.", flag_values=FLAGS
)
_WORKERS = flags.DEFINE_integer(
    "workers", 1, "Processes that share the runs, and the cores or devices.", 1, 1024, flag_values=FLAGS
)
_WORKER = flags.DEFINE_string("worker", None, "For processes that this command starts.", flag_values=FLAGS)
_JOBS = job_flags.define(FLAGS)
_RESULTS = flags.DEFINE_string("results", "results", "Folder below which studies are kept.", flag_values=FLAGS)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the runs and their cost, and train nothing.", flag_values=FLAGS)
_LISTS = [
    (flags.DEFINE_bool(f"list_{name}", False, f"Print {what}.", flag_values=FLAGS), text)
    for name, what, text in listings.LISTINGS
]


def run() -> int:
    """Does what the flags say; returns 1 where a run failed, else 0."""
    own = workers.read_assignment(_WORKER.value) if _WORKER.value else None
    settings = _JOBS.read(_WORKERS.value) if own is None else None
    if own is not None:
        workers.begin(own.part)
    elif _WORKERS.value > 1:
        workers.leave_memory_to_others()
    command = shlex.join(["python", "-m", "experiments.run", *sys.argv[1:]])
    lists = [text() for flag, text in _LISTS if flag.value]
    if lists:
        print("\n\n".join(lists))
        return 0
    runs = _read_runs()
    if own is None and _DRY_RUN.value:
        print(plan_text(_plan(runs)))
        return 0
    trained_elsewhere, checked = settings is not None, own is not None and own.job is None
    if not (trained_elsewhere or checked):
        runtime.check_device()
        memory.check(runs, runtime.memory_bytes())
    if own is not None:
        runner.work(own, runs, _RESULTS.value, command.removesuffix(f" --worker={_WORKER.value}"))
        return 0
    results = Path(_RESULTS.value)
    if results.is_symlink() and not results.exists():
        raise cli.UsageError(f"--results={results} is a link to {results.readlink()}, which does not exist.")
    folder = results / runs[0].config.name
    check_writable(folder)
    if settings is not None:
        failed = jobs.run_study(settings, runs, _RESULTS.value, command)
    elif _WORKERS.value > 1:
        failed = runner.run_in_workers(_WORKERS.value, runs, _RESULTS.value, command)
    else:
        failed = runner.run_study(runs, _RESULTS.value, command)
    if any(other.ended() for other in open_study(folder)):
        print(tables.render(read_study(folder), "text"))
        print(f"\nReport: {html.write_report(folder)}")
    return 1 if failed else 0


def _read_runs() -> list[Run]:
    if _CONFIG.value is None:
        raise cli.UsageError("--config is required, such as --config=configs/quickstart.py.")
    select = [key.strip() for text in _SELECT.value for key in text.split(",")] if _SELECT.value else None
    config = files.apply_overrides(files.load_config(_CONFIG.value), _OVERRIDE.value, select)
    grid.check_selected(select or (), _VARY.value or config.study.vary)
    for key in {item.partition("=")[0].strip() for item in _VARY.value}:
        if key in {item.partition("=")[0].strip() for item in _OVERRIDE.value}:
            raise cli.UsageError(f"{key} is set by --config.{key} and varied by --vary; give one of them.")
    return runner.read_runs(grid.shard(grid.expand(config, _VARY.value, _SEEDS.value), _SHARD.value))


def _plan(runs: Sequence[Run]) -> list[Planned]:
    """Returns the cells of the grid with what each of their runs costs."""
    cells: dict[str, list[Run]] = {}
    for each in runs:
        cells.setdefault(each.digests.cell, []).append(each)
    first = [each[0].config for each in cells.values()]
    labels = runner.cell_labels(first)
    return [
        Planned(
            label,
            [run.seed for run in each],
            compute.count(each[0], each[0].train.steps),
            memory.least_bytes(each[0]),
            start.start_rms(each[0]),
        )
        for label, each in zip(labels, cells.values(), strict=True)
    ]


if __name__ == "__main__":
    cli.main(run, FLAGS)
