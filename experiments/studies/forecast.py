"""What a study is going to train, and what that costs: counted for each cell, and timed by runs that have ended."""

from collections.abc import Sequence

from experiments import runtime
from experiments.analysis import compute, memory, start
from experiments.config.run import Run
from experiments.studies.estimates import CellEstimate, StudyEstimate
from experiments.studies.runner import cell_labels, run_folder
from experiments.studies.speeds import Speeds, read_speeds

MOST_RUNS, MOST_SECONDS = 1_000, 24 * 3600.0  # that a command trains without --yes


def make_estimate(runs: Sequence[Run], results: str) -> StudyEstimate:
    """Returns what each cell of a study will cost.

    Args:
      runs: of the study.
      results: the folder of all studies.
    """
    speeds = _speeds(runs, results)
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.digests.cell, []).append(run)
    labels = cell_labels([each[0].config for each in cells.values()])
    estimated = [_estimated(label, each, speeds) for label, each in zip(labels, cells.values(), strict=True)]
    return StudyEstimate(estimated, speeds)


def check_size(runs: Sequence[Run], results: str) -> None:
    """Raises ValueError, in one line, if more is left to train than a command should start without confirmation."""
    left = [run for run in runs if not run_folder(results, run).ended()]
    speeds = _speeds(runs, results)
    seconds = sum(_seconds(run, speeds) or 0.0 for run in left)
    if len(left) > MOST_RUNS or seconds > MOST_SECONDS:
        time = f", about {seconds / 3600:.0f} h one at a time" if seconds else ""
        raise ValueError(
            f"{len(left)} runs are to be trained{time}; more than {MOST_RUNS} runs or {MOST_SECONDS / 3600:.0f} h "
            "need --yes. --dry_run shows them."
        )


def _speeds(runs: Sequence[Run], results: str) -> Speeds:
    try:
        environment = runtime.environment()
    except (RuntimeError, AssertionError):  # no device here, as on a host that submits jobs
        environment = {}
    return read_speeds(results, runs[0].config.name, environment)


def _seconds(run: Run, speeds: Speeds) -> float | None:
    flops = compute.count(run, run.train.steps)["train_flops_executed"]
    return speeds.seconds(run.model.attention, run.config.task, flops)


def _estimated(label: str, runs: Sequence[Run], speeds: Speeds) -> CellEstimate:
    first = runs[0]
    return CellEstimate(
        label,
        [run.seed for run in runs],
        compute.count(first, first.train.steps),
        memory.least_bytes(first),
        start.start_rms(first),
        _seconds(first, speeds),
    )
