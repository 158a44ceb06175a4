"""Trains the runs of a study, one after another, each in its folder."""

import contextlib
import datetime
import functools
import os
import shlex
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attention_variants.specs import SpecError
from experiments import cli, interrupts, runtime
from experiments.config import identity, schema, sections
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies import mending, plans, pretraining, progress, workers
from experiments.studies.commands import without_machine
from experiments.studies.lease import BEATS_EVERY, EXPIRES_AFTER, BusyError, LeaseLostError
from experiments.studies.run_folder import is_plain
from experiments.studies.training_folder import TrainingFolder
from experiments.studies.whole_files import StorageError, write_file
from experiments.training import loop, parallel

_LOOKS_EVERY = 5.0  # seconds, at the runs of other processes


def read_runs(configs: Sequence[Config]) -> list[Run]:
    """Reads the config of every run and checks that it can be trained; nothing is drawn or trained.

    Raises:
      ValueError, NotImplementedError: something is wrong with a run, or two runs are the same; one line.
    """
    name = configs[0].name
    if not is_plain(name):
        raise ValueError(f"config: name must be a plain folder name, such as 'quickstart'; got {name!r}.")
    runs, labels = [], labels_of(configs)
    named: dict[str, str] = {}
    for config, label in zip(configs, labels, strict=True):
        try:
            run = Run.read(config)
            if config.seed == configs[0].seed:
                loop.validate(run)
        except (ValueError, NotImplementedError) as error:
            raise type(error)(f"{label}: {error}" if len(configs) > 1 else str(error)) from error
        other = named.setdefault(run.digests.run, label)
        if other != label:
            raise SpecError(f"--vary gives the same run twice: {other} and {label}.")
        runs.append(run)
    return runs


def run_study(runs: Sequence[Run], results: str | os.PathLike[str], command: str) -> int:
    """Trains what has not ended yet, one run after another; returns how many failed.

    What another process is working on is left to it, and waited for: where that process dies, its run goes on here.
    """
    todo = unfinished(runs, results, command)
    with planned(runs, results, [folder for _, _, folder in todo]), progress.make_display(len(todo)) as display:
        return _train_all(todo, command, display, again=False)


def follow(runs: Sequence[Run]) -> None:
    """Trains, as a process of `parallel.devices()` that is not the first, what the first one says."""
    known = {run.digests.run: run for run in pretraining.with_pretrainings(runs)}
    while (word := parallel.hear()) != parallel.END:
        if word in known:
            with parallel.in_step():
                loop.train(known[word])
    parallel.part()


def run_in_workers(number: int, runs: Sequence[Run], results: str | os.PathLike[str], command: str) -> int:
    """Does what `run_study` does in several processes, and returns the same.

    Args:
      number: of processes.
      runs: of the study.
      results: the folder of all studies.
      command: `python -m experiments.run ...`, which the processes repeat.
    """
    todo = unfinished(runs, results, command)
    folders = {run.digests.run: (run, folder) for run, _, folder in todo}
    for _, folder in folders.values():
        folder.forget_failure()  # from here on, a failed run is one that has failed now

    def fail(name: str, error: str) -> None:
        run, folder = folders[name]
        with contextlib.suppress(BusyError), folder.locked():
            folder.create(run.config.nested(), _manifest(run, command))
            folder.finish(identify(run) | {"status": "failed", "error": error})

    with planned(runs, results, [folder for _, _, folder in todo]):
        if todo:
            with progress.make_board(len(todo)) as board:
                crew = workers.Crew(shlex.split(command)[3:], board, fail, plan=plan_of(runs))
                with interrupts.unsaved(crew.warn):
                    crew.work(workers.parts(number)[: len(todo)])  # a run keeps its share of the cores to the end
        rest = [each for each in todo if not is_over(each[2])]
        with progress.make_display(len(rest)) as display:
            _train_all(rest, command, display, again=True)  # those that other commands work on
    return sum(folder.failed() for _, _, folder in todo)


def work(own: workers.Assignment, runs: Sequence[Run], results: str | os.PathLike[str], command: str) -> None:
    """Trains, as one of several workers, the runs that are free, beginning with those that are this one's by order.

    The worker of a job trains as many as the job says. Where none is free it looks for as long as it takes to know that
    the lease of a process on another machine has expired.

    Raises:
      SpecError: the runs are not those that the job was submitted for.
    """
    most, give_up = 0, 0.0
    if own.job is not None:
        if own.job.plan != plan_of(runs):
            raise SpecError("the config is not what it was when this job was submitted; start the study again.")
        most, give_up = own.job.most, time.monotonic() + EXPIRES_AFTER + BEATS_EVERY
    todo, trained = list(enumerate(_named(runs, results), start=1)), 0
    first = own.first(len(todo))
    todo = todo[first:] + todo[:first]
    with progress.Reports() as display:
        while todo := [each for each in todo if not is_over(each[1][2])]:
            for index, (run, label, folder) in todo:
                if not is_over(folder):
                    trained += _attempt(run, folder, command, display, (index, label), again=True) != "busy"
                if most and trained >= most:
                    return
            if trained or time.monotonic() > give_up:
                return
            time.sleep(_LOOKS_EVERY)


def plan_of(runs: Sequence[Run]) -> str:
    """Returns the digest of which runs these are."""
    return plans.digest_of([run.digests.run for run in runs])


def is_over(folder: TrainingFolder) -> bool:
    """Whether no worker is to train the run, or to train it again."""
    return folder.ended() or folder.failed()


Todo = list[tuple[Run, str, TrainingFolder]]


def _named(runs: Sequence[Run], results: str | os.PathLike[str]) -> Todo:
    labels = labels_of([run.config for run in runs])
    return [(run, label, run_folder(results, run)) for run, label in zip(runs, labels, strict=True)]


def unfinished(runs: Sequence[Run], results: str | os.PathLike[str], command: str) -> Todo:
    """Returns what has not ended yet, and mends what has."""
    todo = []
    for run, label, folder in _named(runs, results):
        if mending.mend(run, folder, functools.partial(_manifest, run, command)):
            folder.tidy()
        else:
            todo.append((run, label, folder))
    if len(todo) < len(runs):
        print(f"{len(runs) - len(todo)} of {len(runs)} runs have ended before and are not repeated.", flush=True)
    _say_what_is_not_kept(runs, results)
    return todo


def _say_what_is_not_kept(runs: Sequence[Run], results: str | os.PathLike[str]) -> None:
    asked = [run_folder(results, run) for run in runs if run.train.keep_checkpoints == sections.EVERY]
    lacking = sum(
        folder.ended() and not {0, *(row.get("step") for row in folder.metrics())} <= set(folder.kept_steps())
        for folder in asked
    )
    if lacking:
        print(
            f"{lacking} of them did not keep the parameters of every evaluation; to have these, train again under "
            "another --config.name.",
            flush=True,
        )


@contextlib.contextmanager
def planned(runs: Sequence[Run], results: str | os.PathLike[str], todo: Sequence[TrainingFolder]) -> Iterator[None]:
    """Keeps a plan of the runs in their study while it lasts, where some are to do, and tidies up behind these."""
    with plans.written(Path(results) / runs[0].config.name, plan_for(runs) if todo else {}):
        yield
        for folder in todo:
            folder.tidy()


def plan_for(runs: Sequence[Run]) -> dict[str, plans.PlannedRun]:
    """Returns what others may know of runs before they have folders, by their ids."""
    labels = labels_of([run.config for run in runs])
    return {
        run.digests.run: plans.PlannedRun(label, run.digests.cell, run.train.steps)
        for run, label in zip(runs, labels, strict=True)
    }


def _train_all(todo: Todo, command: str, display: progress.Display, again: bool) -> int:
    """Trains runs one after another until all have ended, here or elsewhere; returns how many failed."""
    failed, queue = 0, list(enumerate(todo, start=1))
    while queue:
        busy = []
        for index, (run, label, folder) in queue:
            outcome = _attempt(run, folder, command, display, (index, label), again)
            failed += outcome == "failed"
            busy += [(index, (run, label, folder))] if outcome == "busy" else []
        if busy and not again:
            which = "run" if len(busy) == 1 else f"{len(busy)} runs"
            print(f"Waiting for the {which} that other processes are working on.", flush=True)
        queue, again = busy, True
        if queue:
            parallel.announce(parallel.WAIT)
            time.sleep(_LOOKS_EVERY)
    return failed


def _attempt(
    run: Run, folder: TrainingFolder, command: str, display: progress.Display, shown: tuple[int, str], again: bool
) -> str:
    """Trains one run in its folder, unless another process does.

    Args:
      run: what to train.
      folder: where.
      command: for the manifest.
      display: told of it.
      shown: (index, label) of the run.
      again: whether another process had it when this one last looked; if it has failed there since, it is left alone.

    Returns:
      "done", "diverged", "failed", or "busy" where another process has it.
    """
    index, label = shown
    try:
        with folder.locked():
            display.start(index, label, run.train.steps, run.digests.run)
            if folder.ended():  # by another process, since this one looked
                display.end("ended in another process")
                return "done"
            if again and folder.failed():
                display.end("failed in another process")
                return "failed"
            folder.create(run.config.nested(), _manifest(run, command))
            with interrupts.unsaved():
                return _train(run, folder, display)
    except LeaseLostError:
        display.end("taken over by another process, because this one was silent for too long")
        return "busy"
    except BusyError:
        return "busy"


def run_folder(results: str | os.PathLike[str], run: Run) -> TrainingFolder:
    """Returns the folder of a run below `results`; nothing is written."""
    return TrainingFolder(Path(results) / run.config.name / run.digests.run)


def labels_of(configs: Sequence[Config]) -> list[str]:
    """Returns what each run is called: the label of its cell, and its seed."""
    labels = cell_labels(configs)
    return [f"{label}  seed={config.seed}" for label, config in zip(labels, configs, strict=True)]


def cell_labels(configs: Sequence[Config]) -> list[str]:
    """Returns the attention of each config, and in what its cell differs from the others."""
    cells = [schema.cell_fields(config.fields()) for config in configs]
    keys = [key for key in schema.varied_keys(cells) if key != "model.attention"]
    return ["  ".join([cell["model.attention"], *(f"{key}={cell[key]}" for key in keys)]) for cell in cells]


def identify(run: Run) -> dict[str, Any]:
    """Returns the fields of `result.json` that say which run it is."""
    digests = run.digests
    return {
        "run_id": digests.run,
        "cell": digests.cell,
        "version": identity.version(run),
        "config": run.config.nested(),
    }


def _environment() -> dict[str, Any]:
    devices = parallel.devices()
    return runtime.environment(devices.number, devices.processes)


def _manifest(run: Run, command: str) -> dict[str, Any]:
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "version": identity.version(run),
        "environment": _environment(),
        "command": without_machine(command),
        "date": date,
    }


def _train(run: Run, folder: TrainingFolder, display: progress.Display) -> str:
    head = {**identify(run), "status": "failed"}

    def report(event: dict[str, Any]) -> None:
        display.update(event)
        interrupts.leave_if_warned()  # the checkpoint of this event has just been written

    try:
        source = pretraining.source(run, folder)  # before others hear of the run, which may not have one
        parallel.announce(run.digests.run)
        with parallel.in_step():
            result = loop.train(run, folder, report, source)
    except (StorageError, LeaseLostError, parallel.OutOfStepError):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {cli.one_line(error)}"
        write_file(folder.path / "error.txt", traceback.format_exc())
        folder.finish(head | {"error": message, "environment": _environment()})
        display.end(f"failed: {message}")
        return "failed"
    folder.finish(head | result | {"environment": _environment()})
    display.end(_outcome(result))
    return result["status"]


def _outcome(result: dict[str, Any]) -> str:
    if result["status"] == "diverged":
        return f"diverged: NaN or infinity at step {result.get('diverged_at')}"
    solved = f"solved at step {result['steps_to_solve']}" if result["steps_to_solve"] is not None else "not solved"
    bounds = f"floor {result['floor']:.3f}, ceiling {result['ceiling']:.3f}"
    return f"{solved}, test accuracy {result['test_accuracy']:.3f} ({bounds})"
