r"""Trains one run or a whole study, then prints its table and writes its report.

python -m experiments.run --config=configs/quickstart.py
python -m experiments.run --config=configs/mqar.py --vary='model.attention=full|linear' --seeds=5
python -m experiments.run --config=configs/mqar.py --config.train.steps=500 --dry_run

The config file is a Python file and is executed. Any of its fields can be set with --config.a.b=value. --vary gives a
grid of alternatives, such as --vary='train.learning_rate=0.001|0.01'. Its values may be ranges: log(1e-4,1e-2,4) and
linear(low,high,n) are evenly spaced; loguniform(1e-4,1e-2,8) and uniform(low,high,n) are drawn, jointly for several
fields. A config file may also define sweep(add), which calls add({"model.attention": "full", ...}) for each cell.

A run that has ended is never repeated; one that was interrupted continues where it stopped. If the same command is
started twice, on one machine or on several that share the results folder, the processes share the runs, and each waits
for what the others work on. --workers=2 starts two such processes; --shard=0/3 and so on give each command a fixed part
instead. --devices=4 lets four devices share every batch of a run, and --distributed those of several processes.
--vmap_seeds trains the seeds and learning rates of a cell as one program. --executor=slurm trains in the jobs of a
cluster. SIGUSR1 saves the run and ends the command. Exit codes: 0; 1 where a run failed; 2 for a mistake in the
command; 138 after SIGUSR1.
"""

import os
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from absl import flags

from experiments import cli, distributed, runtime
from experiments.analysis import memory
from experiments.config import files, sections
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.reporting import listings, tables
from experiments.reporting.plan import match_text, plan_text
from experiments.studies import batches, forecast, grid, job_flags, jobs, matching, runner, search, workers
from experiments.studies.results import read_study
from experiments.studies.run_folder import open_study
from experiments.studies.whole_files import check_writable
from experiments.training import parallel

FLAGS = cli.new_flags()
_CONFIG = flags.DEFINE_string("config", None, "Python file with get_config(); it is executed.", flag_values=FLAGS)
_OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "a.b=value: sets a field of the config, as --config.a.b=value does", flag_values=FLAGS
)
_VARY = flags.DEFINE_multi_string(
    "vary",
    [],
    "a.b=x|y|z: alternatives, or a range such as a.b=log(1e-4,1e-2,4); repeat it for a grid. Replaces the config's "
    "grid and sweep",
    flag_values=FLAGS,
)
_SELECT = flags.DEFINE_multi_string(
    "select", [], "a.b,c.d: varied fields to choose by validation accuracy. Replaces study.select", flag_values=FLAGS
)
_MATCH = flags.DEFINE_enum(
    "match",
    None,
    list(sections.MATCHES),
    "Budget that all rows of a task share with the first one; solves for a width, or for the size of a variant where "
    "its spec leaves it open. Replaces match",
    flag_values=FLAGS,
)
_SEEDS = flags.DEFINE_integer("seeds", None, "Runs per cell of the grid.", lower_bound=1, flag_values=FLAGS)
_SHARD = flags.DEFINE_string(
    "shard", None, "i/n: train only the i-th of n parts of the runs; i counts from 0.", flag_values=FLAGS
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Processes that share the runs, and the cores or devices. By default one per core or device, as far as memory "
    "allows; one in each job of --executor, and with --devices or --distributed.",
    1,
    1024,
    flag_values=FLAGS,
)
_VMAP_SEEDS = flags.DEFINE_bool(
    "vmap_seeds",
    False,
    "Train together, in one program, runs that differ in nothing that is compiled: seeds and learning rates of a cell. "
    "Meant for accelerators, which one small model does not fill. Each remains a run of its own.",
    flag_values=FLAGS,
)
_WORKER = flags.DEFINE_string("worker", None, "Internal: for processes that this command starts.", flag_values=FLAGS)
_JOBS = job_flags.define(FLAGS)
_SHARING = distributed.Sharing(FLAGS)
_RESULTS = flags.DEFINE_string("results", "results", "Folder below which studies are kept.", flag_values=FLAGS)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the runs and their cost, and train nothing.", flag_values=FLAGS)
_YES = flags.DEFINE_bool(
    "yes",
    False,
    f"Begin even if more than {forecast.MOST_RUNS} runs or {forecast.MOST_SECONDS / 3600:.0f} h are to be trained.",
    flag_values=FLAGS,
)
_LISTS = [
    (flags.DEFINE_bool(f"list_{name}", False, f"Print {what}.", flag_values=FLAGS), text)
    for name, what, text in listings.LISTINGS
]


def run() -> int:
    """Does what the flags say; returns 1 where a run failed, else 0."""
    own = workers.read_assignment(_WORKER.value) if _WORKER.value else None
    settings = _JOBS.read(_WORKERS.value or 1) if own is None else None
    if own is not None:
        workers.begin(own.part)
    elif _WORKERS.value != 1 and not _SHARING.shared:
        workers.leave_memory_to_others()
    command = shlex.join(["python", "-m", "experiments.run", *distributed.without_places(sys.argv[1:])])
    lists = [text() for flag, text in _LISTS if flag.value]
    if lists:
        print("\n\n".join(lists))
        return 0
    _SHARING.check(_WORKERS.value or 1, in_jobs=settings is not None, together=_VMAP_SEEDS.value)
    runs, results = (
        _read_runs(traced=own is not None),
        os.path.expanduser(_RESULTS.value),
    )  # no shell does it after "--results="
    if own is not None:
        if own.job is not None:  # nobody has looked at the machine of a job
            runtime.check_device()
            _check_memory(runs)
        stage = search.stage_of(own, runs, results)
        own_command = command.removesuffix(f" --worker={_WORKER.value}")
        runner.work(own, stage, results, own_command, lanes=_lanes(runs))
        return 0
    if matches := matching.records(runs):
        print(match_text(matches), flush=True)
    if _DRY_RUN.value:
        print(plan_text(forecast.make_estimate(search.expected(runs, results), results)))
        return 0
    if settings is not None:
        return _finish(runs, results, lambda stage: jobs.run_study(settings, stage, results, command))
    with _SHARING.started():
        return _train_here(runs, results, command)


def _train_here(runs: Sequence[Run], results: str, command: str) -> int:
    """Trains what has not ended on this machine, or does what the first of several processes says."""
    devices = parallel.devices()
    devices.check(runs)
    _check_memory(runs)
    parallel.check_same([run.digests.run for run in runs])
    if not parallel.leads():
        runner.follow(runs)
        return 0
    number, lanes = _WORKERS.value or (1 if _SHARING.shared else _fitting(runs)), _lanes(runs)
    if number == 1:
        return _finish(runs, results, lambda stage: runner.run_study(stage, results, command, lanes=lanes))
    return _finish(runs, results, lambda stage: runner.run_in_workers(number, stage, results, command, lanes=lanes))


def _check_memory(runs: Sequence[Run]) -> None:
    """Raises ValueError for runs that do not fit in the memory of this process's device."""
    there_are, devices = runtime.memory_bytes(), parallel.devices().number
    for group in _groups(runs):
        memory.check(group, there_are, devices, len(group))


def _lanes(runs: Sequence[Run]) -> batches.Lanes | None:
    return search.lanes(runs) if _VMAP_SEEDS.value else None


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Returns what is trained at once in any stage; no program has more lanes than its largest group has runs."""
    return [group for stage in search.foreseen(runs) for group in batches.cut(stage, _VMAP_SEEDS.value)]


def _fitting(runs: Sequence[Run]) -> int:
    """Returns how many workers these runs get where no flag says it."""
    devices = runtime.accelerators()
    if devices and not runtime.has_cuda():
        return 1  # `workers.begin` cannot divide other devices
    groups = _groups(runs)
    needed = max(len(group) * memory.least_bytes(run) for group in groups for run in group)
    return workers.fitting(len(groups), needed, runtime.cores(), devices, runtime.memory_bytes())


def _finish(runs: Sequence[Run], results: str, train: Callable[[Sequence[Run]], int]) -> int:
    """Calls `train` for each stage of the study, then prints the table and writes the report.

    Returns 1 where a run failed, else 0.
    """
    if os.path.islink(results) and not os.path.exists(results):
        raise cli.UsageError(f"--results={results} is a link to {os.readlink(results)}, which does not exist.")
    if not _YES.value:
        forecast.check_size(search.expected(runs, results), results)
    folder = Path(results) / runs[0].config.name
    check_writable(folder)
    failed = search.train(runs, results, train)
    parallel.part()
    if any(other.ended() for other in open_study(folder)):
        from experiments.reporting import html  # matplotlib takes half a second to import

        print(tables.render(read_study(folder), "text"))
        print(f"\nReport: {html.write_report(folder)}")
    return 1 if failed else 0


def _read_runs(*, traced: bool = False) -> list[Run]:
    if _CONFIG.value is None:
        raise cli.UsageError("--config is required, such as --config=configs/quickstart.py.")
    select = [key.strip() for text in _SELECT.value for key in text.split(",")] if _SELECT.value else None
    set_by_config = {item.partition("=")[0].strip() for item in _OVERRIDE.value}
    loaded = files.load(_CONFIG.value)
    overrides = [*_OVERRIDE.value, *([f"match={_MATCH.value}"] if _MATCH.value else [])]
    config = files.apply_overrides(loaded.config, overrides, select)
    sweep = files.without_overridden(loaded.sweep, _OVERRIDE.value)
    grid.check_selected(select or (), grid.varied_fields(config, _VARY.value, sweep))
    for key in {item.partition("=")[0].strip() for item in _VARY.value} & set_by_config:
        raise cli.UsageError(f"{key} is set by --config.{key} and varied by --vary; give one of them.")
    _check_flags(set_by_config, config)
    configs = grid.expand(config, _VARY.value, _SEEDS.value, sweep)
    staged = {
        "study.search_seeds": any(c.searches for c in configs),
        "pretrain.task": any(c.pretrain.task for c in configs),
    }
    for field in staged if _SHARD.value else ():
        if staged[field]:
            raise cli.UsageError(f"--shard cuts no study with {field}; start the same command several times.")
    return runner.read_runs(grid.shard(configs, _SHARD.value), traced=traced)


def _check_flags(set_by_config: Collection[str], config: Config) -> None:
    """Raises UsageError for what two flags set, and for what has no effect."""
    for key, flag in {"match": _MATCH, "study.seeds": _SEEDS}.items():
        if key in set_by_config and flag.value:
            raise cli.UsageError(f"{key} is set by --config.{key} and by --{flag.name}; give one of them.")
    for key in ("study.match_by", "study.match_target"):
        if key in set_by_config and config.match == "none":
            raise cli.UsageError(f"--config.{key} has no effect without --match.")


if __name__ == "__main__":
    cli.main(run, FLAGS)
