"""One attempt at the runs of a batch: leases their folders, trains them and writes the outcome of each."""

import contextlib
import datetime
import traceback
from collections.abc import Iterator
from typing import Any

from experiments import cli, interrupts, runtime
from experiments.config import identity
from experiments.config.run import Run
from experiments.studies import pretraining, progress
from experiments.studies.batches import Batch, Item
from experiments.studies.commands import without_machine
from experiments.studies.lease import BusyError, LeaseLostError
from experiments.studies.whole_files import StorageError, write_file
from experiments.training import loop, parallel
from experiments.training.together import Lane, train_together

_NOT_OF_THE_RUN = (StorageError, LeaseLostError, parallel.OutOfStepError)  # these say nothing about the run itself
_TAKEN = "taken over by another process, because this one was silent for too long"


def attempt(batch: Batch, command: str, display: progress.Display, again: bool) -> dict[int, str]:
    """Trains the runs of a batch in their folders, unless other processes do.

    Args:
      batch: what to train.
      command: for the manifest.
      display: shows the progress.
      again: whether another process had a run when this one last looked; if the run has failed there since, it
        is left alone.

    Returns:
      For each lane number "done", "diverged", "failed", or "busy" if another process has the run.
    """
    if len(batch) == 1 and batch[0] is not None:
        return {0: _alone(batch[0], command, display, again)}
    with contextlib.ExitStack() as leases:
        several = _Together(batch, display, leases)
        for place, item in enumerate(batch):
            if item is not None:
                several.hold(place, item, command, again)
        with interrupts.unsaved():
            several.train()
        return several.outcomes


def identify(run: Run) -> dict[str, Any]:
    """Returns the fields of `result.json` that say which run it is."""
    digests = run.digests
    return {
        "run_id": digests.run,
        "cell": digests.cell,
        "version": identity.version(run),
        "config": run.config.nested(),
    }


def manifest(run: Run, command: str, lanes: int = 1) -> dict[str, Any]:
    """Returns the content of `manifest.json` for a run that is one of `lanes` trained together."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "version": identity.version(run),
        "environment": _environment(lanes),
        "command": without_machine(command),
        "date": date,
    }


def _environment(lanes: int) -> dict[str, Any]:
    devices = parallel.devices()
    return runtime.environment(devices.number, devices.processes, lanes)


def _alone(item: Item, command: str, display: progress.Display, again: bool) -> str:
    try:
        with _begun(item, command, display, again, 1) as ended:
            if ended:
                return ended
            with interrupts.unsaved():
                return _conclude(item, _train(item, display), display, 1)
    except LeaseLostError:
        display.end(_TAKEN)
        return "busy"
    except BusyError:
        return "busy"


@contextlib.contextmanager
def _begun(item: Item, command: str, display: progress.Display, again: bool, lanes: int) -> Iterator[str]:
    """Leases the folder of a run; yields how the run ended in another process, "" if it is to be trained.

    Raises:
      BusyError: another process has it.
    """
    number, run, label, folder = item
    with folder.locked():
        display.start(number, label, run.train.steps, run.digests.run)
        if folder.ended():  # by another process, since this one looked
            display.end("ended in another process")
            yield "done"
        elif again and folder.failed():
            display.end("failed in another process")
            yield "failed"
        else:
            folder.create(run.config.nested(), manifest(run, command, lanes))
            yield ""


def _train(item: Item, display: progress.Display) -> dict[str, Any] | Exception:
    def report(event: dict[str, Any]) -> None:
        display.update(event)
        interrupts.leave_if_warned()  # the checkpoint of this event has just been written

    try:
        source = pretraining.source(item.run, item.folder)  # before others hear of the run, which may not have one
        parallel.announce(item.run.digests.run)
        with parallel.in_step():
            return loop.train(item.run, item.folder, report, source)
    except Exception as error:
        return error


def _conclude(item: Item, outcome: dict[str, Any] | Exception, display: progress.Display, lanes: int) -> str:
    """Writes and shows the outcome of a run; returns its status.

    Raises:
      StorageError, LeaseLostError, OutOfStepError: the outcome, if it says nothing about the run itself.
    """
    head = {**identify(item.run), "status": "failed"}
    if isinstance(outcome, Exception):
        if isinstance(outcome, _NOT_OF_THE_RUN):
            raise outcome
        message = f"{type(outcome).__name__}: {cli.one_line(outcome)}"
        write_file(item.folder.path / "error.txt", "".join(traceback.format_exception(outcome)))
        item.folder.finish(head | {"error": message, "environment": _environment(lanes)})
        display.end(f"failed: {message}")
        return "failed"
    item.folder.finish(head | outcome | {"environment": _environment(lanes)})
    display.end(_text(outcome))
    return str(outcome["status"])


def _text(result: dict[str, Any]) -> str:
    if result["status"] == "diverged":
        return f"diverged: NaN or infinity at step {result.get('diverged_at')}"
    solved = f"solved at step {result['steps_to_solve']}" if result["steps_to_solve"] is not None else "not solved"
    bounds = f"floor {result['floor']:.3f}, ceiling {result['ceiling']:.3f}"
    return f"{solved}, test accuracy {result['test_accuracy']:.3f} ({bounds})"


class _Together:
    """An attempt at all runs of a batch at once. Each lease is released as soon as its run is over."""

    def __init__(self, batch: Batch, display: progress.Display, leases: contextlib.ExitStack) -> None:
        """Starts nothing; whatever is leased is released with `leases` at the latest."""
        self._display, self._number = display, len(batch)
        self._leases = [leases.enter_context(contextlib.ExitStack()) for _ in batch]
        self._held: dict[int, Item] = {}
        self.outcomes: dict[int, str] = {}

    def hold(self, place: int, item: Item, command: str, again: bool) -> None:
        """Leases a run if it is to be trained here."""
        try:
            ended = self._leases[place].enter_context(_begun(item, command, self._display, again, self._number))
        except BusyError:
            ended = "busy"
        if ended:
            self._leases[place].close()
            self.outcomes[place] = ended
        else:
            self._held[place] = item

    def train(self) -> None:
        """Trains the leased runs."""
        try:
            found = {place: _lane(item, self._display) for place, item in self._held.items()}
            for place, lane in found.items():
                if isinstance(lane, Exception):
                    self._conclude(place, lane)
            lanes = {place: lane for place, lane in found.items() if isinstance(lane, Lane)}
            if lanes:
                train_together(
                    [lanes.get(place) for place in range(self._number)], self._conclude, interrupts.leave_if_warned
                )
        except Exception as error:
            if not (left := [place for place in self._held if place not in self.outcomes]):
                raise
            for place in left:
                self._conclude(place, error)

    def _conclude(self, place: int, outcome: dict[str, Any] | Exception) -> None:
        item = self._held[place]
        self._display.turn(item.run.digests.run)
        try:
            self.outcomes[place] = _conclude(item, outcome, self._display, self._number)
        except LeaseLostError:
            self._display.end(_TAKEN)
            self.outcomes[place] = "busy"
        self._leases[place].close()


def _lane(item: Item, display: progress.Display) -> Lane | Exception:
    def report(event: dict[str, Any]) -> None:
        display.turn(item.run.digests.run)
        display.update(event)

    try:
        return Lane(item.run, item.folder, report, pretraining.source(item.run, item.folder))
    except Exception as error:
        return error
