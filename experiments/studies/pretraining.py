"""Runs that begin where others end: which these are, and what is taken over from them.

A pretraining is a run like any other, of the same study: it has a folder, a row and a digest of its own, and is
resumed, shared and counted as all runs are. A run that starts from it finds it beside its own folder, by that name.
"""

from collections.abc import Sequence

from experiments.config.run import Run
from experiments.studies.run_folder import RunFolder, has_ended
from experiments.studies.trained import trained_params
from experiments.training import course


def pretrainings(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs from whose parameters some runs start, each once."""
    found = [run.pretraining for run in runs if run.pretraining is not None]
    return list({run.digests.run: run for run in found}.values())


def with_pretrainings(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs from whose parameters some runs start, then the runs, each once."""
    return list({run.digests.run: run for run in (*pretrainings(runs), *runs)}.values())


def folder_of(run: Run, folder: RunFolder) -> RunFolder:
    """Returns the folder of the pretraining of a run.

    Args:
      run: one that starts from the parameters of another.
      folder: its own.

    Raises:
      ValueError: the pretraining has not ended; one line.
    """
    assert run.pretraining is not None
    name = run.pretraining.digests.run
    before = RunFolder(folder.path.parent / name)
    if not has_ended(before.result()):
        raise ValueError(f"run {folder.path.name}: its pretraining, run {name} of the same study, has not ended.")
    return before


def source(run: Run, folder: RunFolder) -> course.Source | None:
    """Returns what a run takes over from its pretraining; None if it starts from scratch.

    Raises:
      ValueError: the pretraining has not ended, or no whole checkpoint of it is left; one line.
    """
    if run.pretraining is None:
        return None
    before = folder_of(run, folder)
    return course.Source(trained_params(before.path, run.pretraining), (before.result() or {})["compute"])
