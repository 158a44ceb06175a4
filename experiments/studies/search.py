"""What must be over before other runs begin: the runs that choose for them, and those whose parameters they start from.

With `study.search_seeds` a study has two stages. In the first, every cell is trained at the seeds that choose; in the
second, of the cells that differ only in `study.select`, the one with the best validation accuracy is trained at the
seeds that are reported. So no reported run has been chosen for its own score, and of four rates one has all seeds.

With `pretrain.task`, each of these stages is preceded by another one: the pretraining of its runs.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.config import schema
from experiments.config.run import Run
from experiments.studies import cells, plans, workers
from experiments.studies.batches import Lanes, cut, is_over
from experiments.studies.pretraining import pretrainings, with_pretrainings
from experiments.studies.run_folder import has_ended
from experiments.studies.runner import plan_for, plan_of, run_folder
from experiments.training.step import compiled_part


def stages(runs: Sequence[Run], results: str | os.PathLike[str]) -> Iterator[list[Run]]:
    """Yields the runs of each stage, one after another; a stage must be over when the next one is asked for.

    Args:
      runs: of the study, as from `grid.expand`: those of the second stage for every cell that may be chosen.
      results: the folder of all studies.
    """
    searching = [run for run in runs if run.config.searches]
    if not searching:
        yield from _after_pretraining(runs)
        return
    yield from _after_pretraining(searching)
    if reported := _of_cells(runs, set(_chosen(searching, results).values())):
        yield from _after_pretraining(reported)


def _after_pretraining(runs: Sequence[Run]) -> Iterator[list[Run]]:
    if first := pretrainings(runs):
        yield first
    yield list(runs)


def foreseen(runs: Sequence[Run]) -> list[list[Run]]:
    """Returns the runs of each stage as if the first cells were chosen."""
    searching = [run for run in runs if run.config.searches]
    parts = [searching, _of_cells(runs, set(_first(searching).values()))] if searching else [runs]
    return [stage for part in parts if part for stage in _after_pretraining(part)]


def lanes(runs: Sequence[Run]) -> Lanes:
    """Returns how many lanes each program needs in the stage that needs the most.

    With this many in every stage, stages share the program, and with a compilation cache it is compiled once.
    """
    found: dict[Run, int] = {}
    for group in (group for stage in foreseen(runs) for group in cut(stage, together=True)):
        program = compiled_part(group[0])
        found[program] = max(len(group), found.get(program, 0))
    return found


def train(runs: Sequence[Run], results: str | os.PathLike[str], train_stage: Callable[[Sequence[Run]], int]) -> int:
    """Trains a study stage by stage; returns how many runs failed.

    Others are told of all runs of the study if that is more than one stage; `train_stage` tells them of its stage.
    """
    several, failed = any(run.config.searches or run.pretraining for run in runs), 0
    for stage in stages(runs, results):
        plan = plan_for(expected(runs, results)) if several else {}
        with plans.written(Path(results) / runs[0].config.name, plan):
            failed += train_stage(stage)
    return failed


def stage_of(own: workers.Assignment, runs: Sequence[Run], results: str | os.PathLike[str]) -> list[Run]:
    """Returns the runs of the stage that a worker was started for; those of the last one if none has its plan."""
    stage: list[Run] = []
    for stage in stages(runs, results):
        if own.plan == plan_of(stage):
            break
    return stage


def expected(runs: Sequence[Run], results: str | os.PathLike[str]) -> list[Run]:
    """Returns the runs that the study will have: where no cell is chosen yet, as if the first one were chosen."""
    searching = [run for run in runs if run.config.searches]
    if not searching:
        return with_pretrainings(runs)
    cell_of = _first(searching)
    if all(is_over(run_folder(results, run)) for run in searching):
        cell_of |= _chosen(searching, results)
    return with_pretrainings([*searching, *_of_cells(runs, set(cell_of.values()))])


def _first(searching: Sequence[Run]) -> dict[tuple[Any, ...], str]:
    """Returns the digest of the first cell of each group to choose from, by what its cells share."""
    return {_group(run): run.digests.cell for run in reversed(searching)}


def _of_cells(runs: Sequence[Run], chosen: set[str]) -> list[Run]:
    return [run for run in runs if not run.config.searches and run.digests.cell in chosen]


def _chosen(searching: Sequence[Run], results: str | os.PathLike[str]) -> dict[tuple[Any, ...], str]:
    """Returns the digest of the chosen cell of each group, by what they share; none if no choosing run has ended."""
    groups: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
    for run in searching:
        result = run_folder(results, run).result()
        if result is not None and has_ended(result):
            groups.setdefault(_group(run), {}).setdefault(run.digests.cell, []).append(result)
    return {key: max(tried, key=lambda cell: cells.validation_of(tried[cell])) for key, tried in groups.items()}


def _group(run: Run) -> tuple[Any, ...]:
    """Returns what identifies the group of cells from which one is chosen."""
    fields = schema.cell_fields(run.config.fields())
    return tuple(value for key, value in fields.items() if key not in run.config.study.select)
