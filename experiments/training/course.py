"""The course of one run between its chunks of steps: validation, metrics and a checkpoint; at its end, the result.

Whatever takes the steps passes them in, whether it trains the run alone or with others.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from experiments.analysis.bounds import bounds
from experiments.config.run import Run
from experiments.config.sections import EVERY
from experiments.model.streams import VALIDATION
from experiments.training import outcome, parallel
from experiments.training.evaluation import Evaluation
from experiments.training.outcome import History, Trained, steps_to_solve
from experiments.training.step import Program, TrainState, initial_state, state_of

Report = Callable[[dict[str, Any]], None]


class Source(NamedTuple):
    """What a run takes over from its pretraining."""

    params: Any  # nested dict of arrays
    compute: Mapping[str, Any]  # of its result


class Folder(Protocol):
    """What training needs from a `TrainingFolder`."""

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Appends a row of metrics."""

    def replace_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keeps these rows of metrics and no others."""

    def save_checkpoint(self, step: int, state: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keeps a pytree of arrays, and the rows of metrics that led to it."""

    def keep_parameters(self, step: int, params: Any) -> None:
        """Keeps the parameters of a step for good."""

    def load_checkpoint(self, like: Any) -> tuple[Any, list[dict[str, Any]]] | None:
        """Returns the newest (state, rows), the state shaped like `like`."""


class Steps(NamedTuple):
    """A chunk of steps that has been taken."""

    state: TrainState  # after it
    loss: float  # mean over its steps
    finite: bool  # whether all losses and gradients were
    step_seconds: float


class Stopwatch:
    """Divides time equally among the runs that are trained at once: compilation and evaluation count, too."""

    def __init__(self) -> None:
        """Starts it, with no run."""
        self._last, self._running = time.perf_counter(), list[Timer]()

    def lap(self) -> None:
        """Gives each run its share of the time since the last call."""
        now = time.perf_counter()
        for timer in self._running:
            timer.counted += (now - self._last) / len(self._running)
        self._last = now

    def start(self) -> "Timer":
        """Returns the timer of one more run."""
        self.lap()
        self._running.append(Timer(self))
        return self._running[-1]

    def end(self, timer: "Timer") -> None:
        """Lets the others share the time from here on."""
        self.lap()
        self._running = [other for other in self._running if other is not timer]


class Timer:
    """The seconds that one run takes, over all processes that worked on it."""

    def __init__(self, watch: Stopwatch) -> None:
        """Made by `Stopwatch.start`."""
        self._watch, self.counted = watch, 0.0

    def add(self, history: History) -> None:
        """Adds the seconds that led to the rows of an earlier process."""
        self.counted += history[-1].get("seconds", 0.0) if history else 0.0

    def seconds(self) -> float:
        """Returns the seconds so far."""
        self._watch.lap()
        return self.counted


class Course:
    """One run in progress. `state` is its current state; whatever takes its steps may use that up."""

    state: TrainState

    def __init__(
        self,
        run: Run,
        program: Program,
        timer: Timer,
        folder: Folder | None,
        report: Report | None,
        source: Source | None,
    ) -> None:
        """Starts from scratch, or from the newest checkpoint of the folder; for the arguments see `loop.train`."""
        self.run, self._program, self._timer = run, program, timer
        self._folder, self._report, self._source = folder, report, source
        self._limits = bounds(run, run.task)  # before training, which must not be lost if they cannot be computed
        self._history: History = []
        self._diverged_at: int | None = None
        self._start()
        timer.add(self._history)

    @property
    def over(self) -> bool:
        """Whether no further step is to be taken."""
        return self._diverged_at is not None or self._solved or self.step >= self.run.train.steps

    @property
    def _solved(self) -> bool:
        return self.run.train.stop_when_solved and steps_to_solve(self.run, self._history) is not None

    @property
    def step(self) -> int:
        """How many steps have been taken."""
        return int(self.state.step)

    @property
    def stop(self) -> int:
        """The step up to which the next chunk goes."""
        return min(self.step + self.run.train.eval_every, self.run.train.steps)

    def take(self, steps: Steps) -> None:
        """Takes note of a chunk of steps: evaluates, keeps what must not be lost, and reports."""
        self.state = steps.state
        validation = outcome.measure(self.run, self._program, self.state.params, VALIDATION)
        if not (steps.finite and math.isfinite(validation.loss) and _all_finite(self.state.params)):
            self._diverged_at = self.step
            return
        row = _metrics(self.run, self.step, steps, validation) | {"seconds": self._timer.seconds()}
        if not self._history or rank(row) > max(map(rank, self._history)):
            self._best = jax.tree.map(jnp.copy, self.state.params)
        self._history.append(row)
        if self._folder is not None:
            self._folder.log(row)
            self._keep()  # first: once a checkpoint is there, no earlier step may be missing
            self._folder.save_checkpoint(self.step, (self.state, self._best), self._history)
        if self._report is not None:
            self._report(_event(self.run, row))

    def result(self) -> dict[str, Any]:
        """Tests the best parameters, once; returns what `loop.train` does."""
        if self._folder is not None:
            self._folder.replace_metrics(self._history)  # whatever became of the file meanwhile
        trained = Trained(self.step, self.state.params, self._best, self._history, self._diverged_at)
        result = outcome.result_of(self.run, self._program, trained) | self._limits
        result["compute"]["seconds"] = self._timer.seconds()
        if self._source is not None:
            _charge(result["compute"], self._source)
        return result

    def _start(self) -> None:
        """Sets state, best parameters and metrics, from the newest checkpoint or from the beginning."""
        run, source, folder = self.run, self._source, self._folder
        if run.pretraining is not None and source is None and parallel.leads():
            raise ValueError(
                f"this run begins in the parameters of run {run.pretraining.digests.run}, which are not given."
            )
        state = initial_state(run) if source is None else state_of(run, source.params)
        best = jax.tree.map(jnp.copy, state.params)  # the state's own arrays are donated to the first chunk
        saved = folder.load_checkpoint((state, best)) if folder is not None else None
        (self.state, self._best), self._history = parallel.devices().agree(*(saved or ((state, best), [])))
        if folder is not None:
            folder.replace_metrics(self._history)  # without rows that are about to be written again
            if not self._history:
                self._keep()

    def _keep(self) -> None:
        if self._folder is not None and self.run.train.keep_checkpoints == EVERY:
            self._folder.keep_parameters(self.step, self.state.params)


def rank(row: Mapping[str, Any]) -> tuple[float, float]:
    """Orders evaluations by accuracy, and ties by loss. The first of the highest has the best parameters."""
    return row["validation_accuracy"], -row["validation_loss"]


def tokens_per_step(run: Run) -> int:
    """Returns how many tokens of rows a step of training reads."""
    return run.train.batch_size * run.task.input_length


def _charge(cost: dict[str, Any], source: Source) -> None:
    """Adds the FLOPs spent on the parameters that a run started from, and records how many FLOPs are not its own."""
    for name in ("train_flops_executed", "train_flops_ideal"):
        cost[name] += source.compute[name]
    cost["pretrain_flops"] = source.compute["train_flops_executed"]


def _metrics(run: Run, step: int, steps: Steps, validation: Evaluation) -> dict[str, Any]:
    return {
        "step": step,
        "train_loss": steps.loss,
        "validation_accuracy": validation.accuracy,
        "validation_loss": validation.loss,
        "tokens_per_second": tokens_per_step(run) / steps.step_seconds,
        "step_ms": 1e3 * steps.step_seconds,
    }


def _event(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    event = {name: value for name, value in row.items() if name not in ("step_ms", "seconds")}
    seconds_left = (run.train.steps - row["step"]) * row["step_ms"] / 1e3
    return event | {"steps": run.train.steps, "seconds_left": seconds_left}


def _all_finite(params: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
