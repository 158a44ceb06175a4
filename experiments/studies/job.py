"""What one job of a cluster does: it watches workers, and asks to be restarted when its time is up.

submitit unpickles a `StudyJob` in the job and calls it. It trains nothing itself: it waits for its workers, each a
process of its own, so that a signal is handled at once, however long XLA compiles.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.studies import attempt, progress, workers
from experiments.studies.lease import BusyError
from experiments.studies.run_folder import CONFIG
from experiments.studies.training_folder import TrainingFolder

FRUITLESS = 3  # consecutive attempts of a job that saved nothing, after which it is not repeated


class StudyJob:
    """A job, which submitit pickles by the name of this class and its plain fields."""

    def __init__(
        self,
        arguments: Sequence[str],
        study: str,
        parts: Sequence[workers.Part],
        job: workers.Job,
        seconds_to_save: float,
        fruitless: int = 0,
    ) -> None:
        """Starts nothing.

        Args:
          arguments: of `python -m experiments.run`.
          study: the folder of the study.
          parts: of the machine, one for each worker.
          job: what the workers are told about it.
          seconds_to_save: between a warning and the moment at which workers that have not ended are killed.
          fruitless: how many attempts before this one have saved nothing.
        """
        self._arguments, self._study, self._parts, self._job = list(arguments), study, list(parts), job
        self._seconds_to_save, self._fruitless = seconds_to_save, fruitless
        self._log: _Log | None = None
        self._crew: workers.Crew | None = None

    def __call__(self) -> str:
        """Trains; returns "", or the line with which a worker refused the command."""
        self._log = _Log(self._job.most * len(self._parts))
        self._crew = workers.Crew(self._arguments, self._log, self._fail, self._job)
        self._crew.work(self._parts)
        return self._crew.refusal

    def checkpoint(self) -> Any:
        """Called on the cluster's warning: lets the workers save; returns what to submit again, None for nothing."""
        from submitit.helpers import DelayedSubmission

        if self._crew is not None:
            self._crew.leave(self._seconds_to_save)
        saved = self._log is not None and self._log.saved
        fruitless = 0 if saved else self._fruitless + 1
        if fruitless >= FRUITLESS:
            print(f"Nothing was saved in {fruitless} attempts; a job needs more time.", file=sys.stderr)
            return None
        return DelayedSubmission(
            StudyJob(self._arguments, self._study, self._parts, self._job, self._seconds_to_save, fruitless)
        )

    def _fail(self, name: str, error: str) -> None:
        """Records that a run has failed because its process died too often; its folder says which run it is."""
        folder = TrainingFolder(Path(self._study) / name)
        config = folder.read(CONFIG)
        if config is not None:
            run = Run.read(Config.from_nested(config))
            with contextlib.suppress(BusyError), folder.locked():
                folder.finish(attempt.identify(run) | {"status": "failed", "error": error})


class _Log(progress.WorkerLines):
    """The log of a job, which also knows whether something was saved."""

    saved = False

    @override
    def event(self, worker: int, event: dict[str, Any]) -> None:
        self.saved = self.saved or event["event"] in ("update", "end")
        super().event(worker, event)
