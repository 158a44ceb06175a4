"""The trained model of a run that has ended, read from its folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import nnx

from attention_variants import specs
from experiments.config import schema
from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.model.transformer import Model, abstract_model
from experiments.studies import archive, legacy
from experiments.studies.run_folder import CONFIG, DamagedError, RunFolder, has_ended
from experiments.studies.training_folder import TrainingFolder, absent
from experiments.training import course, step

_MOST = 5  # runs in a message


def read_run(name: str, config: Mapping[str, Any]) -> Run:
    """Returns the run of a config, flat or nested.

    Raises:
      ValueError: the config today means a run other than the one whose id is `name`; one line.
    """
    fields = schema.flatten(legacy.config_of_today(config))
    run = Run.read(Config.from_fields({key: value for key, value in fields.items() if key in schema.declared()}))
    if run.digests.run != name:
        raise ValueError(
            f"run {name}: its config is that of {run.digests.run} today; the folder has another name than the run was "
            "trained under, or is of an earlier version."
        )
    return run


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Returns the run of a folder.

    Raises:
      ValueError: it is no run folder, or `read_run` refuses its config; one line.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(_no_run(folder))
    try:
        config = RunFolder(folder).read(CONFIG)
    except DamagedError as error:
        raise ValueError(f"run {folder.name}: {error}.") from error
    if config is None:
        raise ValueError(f"{str(folder)!r} is no run folder: it has no {CONFIG}{_runs_of(folder, folder.name)}.")
    return read_run(folder.name, config)


def _no_run(folder: Path) -> str:
    """Says that there is no such folder, and where its run is."""
    if any(run.path.name == folder.name for run in archive.open_archive(folder.parent)):
        return f"run {folder.name} is a line of {archive.ARCHIVE}, which has no parameters; train it again."
    return f"there is no run folder {str(folder)!r}{_runs_of(folder.parent, folder.name)}."


def _runs_of(study: Path, name: str) -> str:
    """Names the runs that a study has, those most like `name` first."""
    runs = [path.parent.name for path in study.glob(f"*/{CONFIG}")] if study.is_dir() else []
    nearest = specs.nearest_first(name, runs)[:_MOST]
    return f"; {str(study)!r} has {len(runs)}, such as {', '.join(nearest)}" if runs else ""


def trained_model(folder: str | os.PathLike[str], run: Run, at_step: int | None = None) -> Model:
    """Returns the model of a run; removes nothing.

    Args:
      folder: of the run.
      run: as in its config.
      at_step: whose parameters, one of `RunFolder.kept_steps`; None: those that were best by validation accuracy.

    Raises:
      ValueError: the folder has no whole checkpoint (an archive has none), or none of this step; one line.
    """
    graph, _ = abstract_model(run)
    return nnx.merge(graph, trained_params(folder, run, at_step))


def trained_params(folder: str | os.PathLike[str], run: Run, at_step: int | None = None) -> Any:
    """Returns the parameters of a run, a nested dict of arrays, see `trained_model`."""
    state, kept = step.abstract_state(run), TrainingFolder(folder)
    if at_step is not None:
        return kept.load_parameters(at_step, state.params)
    found = kept.load_checkpoint((state, state.params), remove_damaged=False)
    if found is not None:
        (_, best), _ = found
        return best
    if (at_step := _best_step(kept)) in kept.kept_steps():
        return kept.load_parameters(at_step, state.params)
    raise ValueError(
        f"run {run.digests.run}: {str(folder)!r} has no checkpoint that fits its model; only the folder in which a "
        "run was trained has one, and none where it diverged before its first evaluation."
    )


def kept_steps(folder: str | os.PathLike[str]) -> list[int]:
    """Returns the steps whose parameters a run keeps, from 0; raises ValueError, in one line, where it keeps none."""
    found = RunFolder(folder)
    if steps := found.kept_steps():
        return steps
    raise ValueError(f"run {found.path.name}: {absent(0, steps)}")


def _best_step(folder: RunFolder) -> int | None:
    """Returns the step whose parameters were best by validation accuracy; None where no ended run says so."""
    result = folder.result()
    if not has_ended(result):
        return None
    folder.check_metrics(result or {})
    return max(folder.metrics(), key=course.rank, default={"step": 0})["step"]  # as in training, the first of equals
