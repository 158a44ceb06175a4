r"""Trains one run or a whole study, then prints its table and writes its report.

python -m experiments.run --config=configs/quickstart.py
python -m experiments.run --config=configs/mqar.py --vary='model.attention=full|linear' --seeds=5
python -m experiments.run --config=configs/mqar.py --config.train.steps=500 --dry_run

The config file is a Python file and is executed. Any of its fields can be set with --config.a.b=value. A run that has
ended is never repeated; one that was interrupted continues where it stopped. Starting the same command twice shares the
runs between the two processes. Exit code: 0, 1 where a run failed, 2 for a mistake in the command.
"""

import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli as command_line
from experiments import report, table
from experiments.analysis import compute
from experiments.reporting import listings as catalogue
from experiments.studies import grid as study
from experiments.studies import progress
from experiments.studies import run_folder as store
from experiments.studies.results import read_study
from experiments.training import loop as train

FLAGS = command_line.new_flags()
_CONFIG = flags.DEFINE_string("config", None, "Python file with get_config(); it is executed.", flag_values=FLAGS)
_OVERRIDE = flags.DEFINE_multi_string(
    "override", [], "a.b=value: sets a field of the config; --config.a.b=value says the same.", flag_values=FLAGS
)
_VARY = flags.DEFINE_multi_string(
    "vary", [], "a.b=x|y|z: alternatives to compare; repeated, a grid. Replaces the config's grid.", flag_values=FLAGS
)
_SEEDS = flags.DEFINE_integer("seeds", None, "Runs per cell of the grid.", lower_bound=1, flag_values=FLAGS)
_RESULTS = flags.DEFINE_string("results", "results", "Folder below which studies are kept.", flag_values=FLAGS)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the runs and their cost, and train nothing.", flag_values=FLAGS)
_LIST_VARIANTS = flags.DEFINE_bool("list_variants", False, "Print every attention variant.", flag_values=FLAGS)
_LIST_TASKS = flags.DEFINE_bool("list_tasks", False, "Print every task.", flag_values=FLAGS)
_LIST_POSITIONS = flags.DEFINE_bool("list_positions", False, "Print every position encoding.", flag_values=FLAGS)
_LISTS = (
    (_LIST_VARIANTS, catalogue.variants_text),
    (_LIST_POSITIONS, catalogue.positions_text),
    (_LIST_TASKS, catalogue.tasks_text),
)


def main() -> int:
    """Runs the command line; returns the exit code."""
    command = shlex.join(["python", "-m", "experiments.run", *sys.argv[1:]])
    sys.argv[1:] = _as_overrides(sys.argv[1:])
    return command_line.execute(lambda: run(command), FLAGS)


def run(command: str = "") -> int:
    """Does what the flags say; returns 1 where a run failed, else 0."""
    lists = [text() for flag, text in _LISTS if flag.value]
    if lists:
        print("\n\n".join(lists))
        return 0
    if _CONFIG.value is None:
        raise command_line.UsageError("--config is required, such as --config=configs/quickstart.py.")
    config = study.apply_overrides(study.load_config(_CONFIG.value), _OVERRIDE.value)
    for key in {item.partition("=")[0].strip() for item in _VARY.value}:
        if key in {item.partition("=")[0].strip() for item in _OVERRIDE.value}:
            raise command_line.UsageError(f"{key} is set by --config.{key} and varied by --vary; give one of them.")
    runs = study.expand(config, _VARY.value, _SEEDS.value)
    check(runs)
    if _DRY_RUN.value:
        print(describe_runs(runs))
        return 0
    folder = Path(_RESULTS.value) / config["name"]
    store.check_writable(folder)
    failed = run_study(runs, _RESULTS.value, command)
    if any(ended(other) for other in store.open_study(folder)):
        print(table.render(read_study(folder), "text"))
        print(f"\nReport: {report.write_report(folder)}")
    return 1 if failed else 0


def check(runs: Sequence[study.Config]) -> None:
    """Raises ValueError or NotImplementedError, in one line, for anything wrong with any run; trains nothing."""
    name = runs[0]["name"]
    if not name or name != Path(name).name or name.startswith("."):
        raise ValueError(f"config: name must be a plain folder name, such as 'quickstart'; got {name!r}.")
    folders: dict[str, study.Config] = {}
    for config in runs:
        if config["seed"] == runs[0]["seed"]:
            try:
                train.validate(config)
            except (ValueError, NotImplementedError) as error:
                raise type(error)(f"{describe(config, runs)}: {error}" if len(runs) > 1 else str(error)) from error
        other = folders.setdefault(store.run_id(config), config)
        if other is not config:
            raise ValueError(f"--vary gives the same run twice: {describe(other, runs)} and {describe(config, runs)}.")


def run_study(runs: Sequence[study.Config], results: str, command: str) -> int:
    """Trains what has not ended yet, one run after another; returns how many failed."""
    folders = [store.run_folder(results, config) for config in runs]
    todo = [(config, folder) for config, folder in zip(runs, folders, strict=True) if not ended(folder)]
    if len(todo) < len(runs):
        print(f"{len(runs) - len(todo)} of {len(runs)} runs have ended before and are not repeated.")
    outcomes = []
    with progress.make_display(len(todo)) as display:
        for index, (config, folder) in enumerate(todo, start=1):
            display.start(index, describe(config, runs), config["train"]["steps"])
            outcomes.append(run_one(config, folder, command, display))
    busy = outcomes.count("busy")
    if busy:
        print(f"{busy} run{'s are' if busy > 1 else ' is'} in the hands of another process.")
    return outcomes.count("failed")


def run_one(config: study.Config, folder: store.RunFolder, command: str, display: progress.Display) -> str:
    """Trains one run in its folder; returns "done", "diverged", "failed", or "busy" where another process has it."""
    try:
        with folder.locked():
            if ended(folder):  # by another process, since this one looked
                display.end("ended in another process")
                return "done"
            folder.create(config, command)
            return _train(config, folder, display)
    except store.BusyError:
        display.end("skipped: another process is at work here")
        return "busy"


def _train(config: study.Config, folder: store.RunFolder, display: progress.Display) -> str:
    head = {"run_id": store.run_id(config), "status": "failed", "config": config}
    try:
        result = train.train(config, folder, display.update)
    except store.StorageError:
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {command_line.one_line(error)}"
        store.write_file(folder.path / "error.txt", traceback.format_exc())
        folder.finish(head | {"error": message, "environment": store.environment()})
        display.end(f"failed: {message}")
        return "failed"
    folder.finish(head | result | {"environment": store.environment()})
    display.end(_outcome(result))
    return result["status"]


def ended(folder: store.RunFolder) -> bool:
    """Returns whether a run is done or diverged; a failed one is tried again."""
    result = folder.result()
    return result is not None and result.get("status") in ("done", "diverged")


def describe(config: study.Config, runs: Sequence[study.Config]) -> str:
    """Names a run by what tells it from the others."""
    cells = [study.cell(other) for other in runs]
    keys = study.varied_keys(cells)
    own = study.cell(config)
    others = [f"{key}={own[key]}" for key in keys if key != "model.attention"]
    return "  ".join([config["model"]["attention"], *others, f"seed={config['seed']}"])


def describe_runs(runs: Sequence[study.Config]) -> str:
    """Returns the text of --dry_run: every cell of the grid with its seeds and planned cost."""
    lines: list[tuple[str, ...]] = [
        ("run", "seeds", "params", "controls", "train FLOPs", "ideal", "forward/token", "state")
    ]
    total, costs = 0.0, dict[str, tuple[study.Config, dict[str, int], list[int]]]()
    for config in runs:
        cell = str(study.cell(config))
        costs.setdefault(cell, (config, compute.compute(config), []))[2].append(config["seed"])
    for config, cost, seeds in costs.values():
        total += cost["train_flops_executed"] * len(seeds)
        name = describe(config, runs).rpartition("  ")[0]
        keys = ("params", "control_params", "train_flops_executed", "train_flops_ideal", "forward_flops_per_token")
        counts = (table.human(cost[key]) for key in keys)
        lines.append((name, ",".join(map(str, seeds)), *counts, table.human(cost["cache_bytes"], "B")))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    number = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    end = f"{number}, at most {table.human(total)} training FLOPs in all (a run that solves its task stops)."
    return "\n".join([*text, end])


def _outcome(result: dict[str, Any]) -> str:
    if result["status"] == "diverged":
        return f"diverged: NaN or infinity at step {result.get('diverged_at')}"
    solved = f"solved at step {result['steps_to_solve']}" if result["steps_to_solve"] is not None else "not solved"
    bounds = f"floor {result['floor']:.3f}, ceiling {result['ceiling']:.3f}"
    return f"{solved}, test accuracy {result['test_accuracy']:.3f} ({bounds})"


def _as_overrides(arguments: Sequence[str]) -> list[str]:
    """Rewrites --config.a.b=value, and --config.a.b value, to --override=a.b=value, which absl can parse."""
    rewritten, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        stem = argument.lstrip("-")
        if argument.startswith("-") and stem.startswith("config."):
            if "=" not in stem and rest and not rest[0].startswith("--"):
                stem = f"{stem}={rest.pop(0)}"
            argument = f"--override={stem.removeprefix('config.')}"
        rewritten.append(argument)
    return rewritten


if __name__ == "__main__":
    sys.exit(main())
