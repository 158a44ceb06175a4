"""Trains the runs of a study, one after another, each in its folder."""

import contextlib
import functools
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attention_variants.specs import SpecError
from experiments import interrupts
from experiments.config import schema, sections
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies import mending, plans, pretraining, progress, workers
from experiments.studies.attempt import attempt, identify, manifest
from experiments.studies.batches import Batch, Item, Lanes, batches_of, left_of, only
from experiments.studies.lease import BEATS_EVERY, EXPIRES_AFTER, BusyError
from experiments.studies.run_folder import is_plain
from experiments.studies.training_folder import TrainingFolder
from experiments.training import loop, parallel

_LOOKS_EVERY = 5.0  # seconds, at the runs of other processes


def read_runs(configs: Sequence[Config], *, traced: bool = False) -> list[Run]:
    """Reads the config of every run and checks that it can be trained; nothing is drawn or trained.

    Args:
      configs: of the runs.
      traced: whether the command that started this process has traced every program, which takes half a second each.

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
            if config.seed == configs[0].seed and not traced:
                loop.validate(run)
        except (ValueError, NotImplementedError) as error:
            raise type(error)(f"{label}: {error}" if len(configs) > 1 else str(error)) from error
        other = named.setdefault(run.digests.run, label)
        if other != label:
            raise SpecError(f"--vary gives the same run twice: {other} and {label}.")
        runs.append(run)
    return runs


def run_study(runs: Sequence[Run], results: str | os.PathLike[str], command: str, *, lanes: Lanes | None = None) -> int:
    """Trains what has not ended yet, one run after another; returns how many failed.

    A run that another process is working on is left to it and waited for: if that process dies, the run goes on here.

    Args:
      runs: of the study.
      results: the folder of all studies.
      command: `python -m experiments.run ...`, for the manifests.
      lanes: of the programs, each of which trains at once the runs that share it; None: each run is trained alone.
    """
    todo = unfinished(runs, results, command)
    with planned(runs, results, [item.folder for item in todo]), progress.make_display(len(todo)) as display:
        return _train_all(batches_of(runs, todo, lanes), command, display, again=False)


def follow(runs: Sequence[Run]) -> None:
    """Trains, as a process of `parallel.devices()` other than the first, the runs that the first one announces."""
    known = {run.digests.run: run for run in pretraining.with_pretrainings(runs)}
    while (word := parallel.hear()) != parallel.END:
        if word in known:
            with parallel.in_step():
                loop.train(known[word])
    parallel.part()


def run_in_workers(
    number: int, runs: Sequence[Run], results: str | os.PathLike[str], command: str, *, lanes: Lanes | None = None
) -> int:
    """Does what `run_study` does, but in several processes, and returns the same.

    Args:
      number: of processes.
      runs: of the study.
      results: the folder of all studies.
      command: `python -m experiments.run ...`, which the processes repeat.
      lanes: see `run_study`.
    """
    todo = unfinished(runs, results, command)
    items = {item.run.digests.run: item for item in todo}
    for item in todo:
        item.folder.forget_failure()  # from here on, a failed run is one that has failed now

    def fail(name: str, error: str) -> None:
        run, folder = items[name].run, items[name].folder
        with contextlib.suppress(BusyError), folder.locked():
            folder.create(run.config.nested(), manifest(run, command))
            folder.finish(identify(run) | {"status": "failed", "error": error})

    with planned(runs, results, [item.folder for item in todo]):
        if batches := batches_of(runs, todo, lanes):
            with progress.make_board(len(todo)) as board:
                crew = workers.Crew(shlex.split(command)[3:], board, fail, plan=plan_of(runs))
                with interrupts.unsaved(crew.warn):
                    crew.work(workers.parts(number)[: len(batches)])  # a run keeps its share of the cores to the end
        rest = [item for item in todo if not item.over]
        with progress.make_display(len(rest)) as display:  # those that other commands work on
            _train_all(batches_of(runs, rest, lanes), command, display, again=True)
    return sum(item.folder.failed() for item in todo)


def work(
    own: workers.Assignment,
    runs: Sequence[Run],
    results: str | os.PathLike[str],
    command: str,
    *,
    lanes: Lanes | None = None,
) -> None:
    """Trains, as one of several workers, the runs that are free, beginning at this worker's place in their order.

    The worker of a job trains as many as the job says. If none is free, it keeps looking for as long as it takes to
    know that the lease of a process on another machine has expired.

    Raises:
      SpecError: the runs are not those that the job was submitted for.
    """
    most, give_up = 0, 0.0
    if own.job is not None:
        if own.job.plan != plan_of(runs):
            raise SpecError("the config is not what it was when this job was submitted; start the study again.")
        most, give_up = own.job.most, time.monotonic() + EXPIRES_AFTER + BEATS_EVERY
    todo, trained = batches_of(runs, _named(runs, results), lanes), 0
    first = own.first(len(todo))
    todo = todo[first:] + todo[:first]
    with progress.Reports() as display:
        while todo := [batch for batch in map(left_of, todo) if any(batch)]:
            for batch in todo:
                if any(left := left_of(batch)):
                    outcomes = attempt(left, command, display, again=True)
                    trained += sum(outcome != "busy" for outcome in outcomes.values())
                if most and trained >= most:
                    return
            if trained or time.monotonic() > give_up:
                return
            time.sleep(_LOOKS_EVERY)


def plan_of(runs: Sequence[Run]) -> str:
    """Returns a digest that identifies these runs."""
    return plans.digest_of([run.digests.run for run in runs])


def _named(runs: Sequence[Run], results: str | os.PathLike[str]) -> list[Item]:
    labels = labels_of([run.config for run in runs])
    named = enumerate(zip(runs, labels, strict=True), start=1)
    return [Item(index, run, label, run_folder(results, run)) for index, (run, label) in named]


def unfinished(runs: Sequence[Run], results: str | os.PathLike[str], command: str) -> list[Item]:
    """Returns the runs that have not ended yet, and mends those that have."""
    todo: list[Item] = []
    for item in _named(runs, results):
        if mending.mend(item.run, item.folder, functools.partial(manifest, item.run, command)):
            item.folder.tidy()
        else:
            todo.append(item._replace(number=len(todo) + 1))
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
    """Keeps a plan of the runs in their study for its duration, if any are left to do, and tidies up after those."""
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


def _train_all(batches: Sequence[Batch], command: str, display: progress.Display, again: bool) -> int:
    """Trains batch after batch until all have ended, here or elsewhere; returns how many runs failed."""
    failed, queue = 0, list(batches)
    while queue:
        busy = []
        for batch in queue:
            outcomes = attempt(batch, command, display, again)
            failed += sum(outcome == "failed" for outcome in outcomes.values())
            busy.append(only(batch, [place for place, outcome in outcomes.items() if outcome == "busy"]))
        queue = [batch for batch in busy if any(batch)]
        if queue and not again:
            waiting = sum(item is not None for batch in queue for item in batch)
            which = "run" if waiting == 1 else f"{waiting} runs"
            print(f"Waiting for the {which} that other processes are working on.", flush=True)
        again = True
        if queue:
            parallel.announce(parallel.WAIT)
            time.sleep(_LOOKS_EVERY)
    return failed


def run_folder(results: str | os.PathLike[str], run: Run) -> TrainingFolder:
    """Returns the folder of a run below `results`; nothing is written."""
    return TrainingFolder(Path(results) / run.config.name / run.digests.run)


def labels_of(configs: Sequence[Config]) -> list[str]:
    """Returns what each run is called: the label of its cell, and its seed."""
    labels = cell_labels(configs)
    return [f"{label}  seed={config.seed}" for label, config in zip(labels, configs, strict=True)]


def cell_labels(configs: Sequence[Config]) -> list[str]:
    """Returns the attention of each config, and how its cell differs from the others."""
    cells = [schema.cell_fields(config.fields()) for config in configs]
    keys = [key for key in schema.varied_keys(cells) if key != "model.attention"]
    return ["  ".join([cell["model.attention"], *(f"{key}={cell[key]}" for key in keys)]) for cell in cells]
