"""One run: chunks of training steps, validation and a checkpoint between them, one test at the end."""

import functools
import hashlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments.analysis import compute
from experiments.analysis.bounds import bounds
from experiments.analysis.receptive_field import slice_ceilings
from experiments.analysis.spending import matched
from experiments.config.run import Run
from experiments.config.sections import EVERY
from experiments.model.streams import TEST, VALIDATION, split_key
from experiments.tasks.registry import task_facts
from experiments.training import parallel
from experiments.training.evaluation import Evaluation, evaluate
from experiments.training.other_rows import score_other_rows
from experiments.training.step import (
    Program,
    TrainState,
    abstract_state,
    compile_program,
    initial_state,
    state_of,
    trace,
)
from experiments.training.unseen_rows import score_unseen_rows

_TIMED_CHUNKS = 5

History = list[dict[str, Any]]  # one row of metrics per chunk


class Source(NamedTuple):
    """What a run takes over from its pretraining."""

    params: Any  # nested dict of arrays
    compute: Mapping[str, Any]  # of its result


class Folder(Protocol):
    """What training asks of a `TrainingFolder`."""

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


def train(
    run: Run,
    folder: Folder | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    source: Source | None = None,
) -> dict[str, Any]:
    """Trains, selects by validation and tests once.

    With a folder the run continues from its newest checkpoint, and ends with the same bits as one never interrupted.
    `parallel.devices()` share its batches; of several processes all call this, and the first one alone has the folder.

    Args:
      run: what to train.
      folder: where metrics and checkpoints go; None keeps nothing.
      report: called after every chunk with step, steps, train_loss, validation_accuracy, validation_loss,
        tokens_per_second and seconds_left.
      source: what `run.pretraining` came to, where there is one; only the process that leads needs it.

    Returns:
      The fields of `result.json` but for those that say which run it is. `parameter_hash` is that of the last
      parameters. NaN or infinity in a loss, a gradient or a parameter ends the run as "diverged", with `diverged_at`,
      the number of the step that met it. Scores are always those of the best parameters by validation, the initial ones
      where the first chunk diverged. Training FLOPs count those of the pretraining, too.

    Raises:
      ValueError: there is a pretraining and no `source`; one line.
    """
    clock = _Clock()
    limits = bounds(run, run.task)  # before training, which must not be lost if they cannot be had
    program = compile_program(run)
    state, best, history = _start(run, folder, source)
    clock.add(history)
    diverged_at = None
    while diverged_at is None and not _ended(run, state, history):
        first = int(state.step)
        stop = min(first + run.train.eval_every, run.train.steps)
        started = time.perf_counter()
        state, loss, finite = program.advance(run, state, stop)
        step_seconds = (time.perf_counter() - started) / (stop - first)
        validation = _measure(run, program, state.params, VALIDATION)
        if not (finite and math.isfinite(validation.loss) and _all_finite(state.params)):
            diverged_at = int(state.step)
            break
        row = _metrics(run, stop, loss, validation, step_seconds) | {"seconds": clock.seconds()}
        if not history or rank(row) > max(map(rank, history)):
            best = jax.tree.map(jnp.copy, state.params)
        history.append(row)
        if folder is not None:
            folder.log(row)
            _keep(run, folder, stop, state.params)  # first: behind a checkpoint no earlier step may be missing
            folder.save_checkpoint(stop, (state, best), history)
        if report is not None:
            report(_event(run, row))
    if folder is not None:
        folder.replace_metrics(history)  # whatever became of the file meanwhile
    result = _result(run, program, state, best, history, diverged_at) | limits
    result["compute"]["seconds"] = clock.seconds()
    if source is not None:
        _charge(result["compute"], source)
    return result


def _charge(cost: dict[str, Any], source: Source) -> None:
    """Adds the FLOPs that the parameters cost in which a run began, and keeps how many of them are not its own."""
    for name in ("train_flops_executed", "train_flops_ideal"):
        cost[name] += source.compute[name]
    cost["pretrain_flops"] = source.compute["train_flops_executed"]


class _Clock:
    """The seconds that a run takes, compilation and evaluation included, over all processes that worked on it."""

    def __init__(self) -> None:
        self._started, self._before = time.perf_counter(), 0.0

    def add(self, history: History) -> None:
        """Adds what led to the rows of an earlier process."""
        self._before = history[-1].get("seconds", 0.0) if history else 0.0

    def seconds(self) -> float:
        """Returns those so far."""
        return self._before + time.perf_counter() - self._started


def validate(run: Run) -> None:
    """Traces a run's training with shapes in place of arrays; nothing is drawn or trained.

    Raises:
      ValueError: parts of the model do not fit each other; one line.
      NotImplementedError: the model cannot do what the task asks.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of indices beyond int32, in what no memory can hold
        trace(run)
    if run.pretraining is not None:
        validate(run.pretraining)
        own, other = (
            jax.tree.map(lambda leaf: leaf.shape, abstract_state(each).params) for each in (run, run.pretraining)
        )
        if own != other:
            raise ValueError(
                f"pretrain.task={run.config.pretrain.task} must train the model of task={run.config.task}: its "
                "vocabulary, its answers, and with learned positions its longest row must be as many."
            )


def throughput(run: Run, steps: int = 100) -> float:
    """Returns training tokens per second, compilation excluded: the median over five chunks of about `steps` / 5."""
    program, state = compile_program(run), initial_state(run)
    chunk = max(steps // _TIMED_CHUNKS, 1)
    seconds = []
    for number in range(1, _TIMED_CHUNKS + 2):  # the first one warms up
        started = time.perf_counter()
        state, _, _ = program.advance(run, state, number * chunk)
        seconds.append(time.perf_counter() - started)
    return chunk * _tokens_per_step(run) / statistics.median(seconds[1:])


def parameter_hash(params: Any) -> str:
    """Returns the SHA-256 of all parameters, names and shapes included."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def rank(row: Mapping[str, Any]) -> tuple[float, float]:
    """Orders evaluations: by accuracy, and equal ones by loss. The first of the highest has the best parameters."""
    return row["validation_accuracy"], -row["validation_loss"]


def _start(run: Run, folder: Folder | None, source: Source | None) -> tuple[TrainState, Any, History]:
    """Returns (state, best parameters, metrics so far), from the newest checkpoint or from the beginning."""
    if run.pretraining is not None and source is None and parallel.leads():
        raise ValueError(
            f"this run begins in the parameters of run {run.pretraining.digests.run}, which are not given."
        )
    state = initial_state(run) if source is None else state_of(run, source.params)
    best = jax.tree.map(jnp.copy, state.params)  # the state's own arrays are donated to the first chunk
    saved = folder.load_checkpoint((state, best)) if folder is not None else None
    (state, best), history = parallel.devices().agree(*(saved or ((state, best), [])))
    if folder is not None:
        folder.replace_metrics(history)  # without rows that are about to be written again
        if not history:
            _keep(run, folder, 0, state.params)
    return state, best, history


def _keep(run: Run, folder: Folder, step: int, params: Any) -> None:
    if run.train.keep_checkpoints == EVERY:
        folder.keep_parameters(step, params)


def _ended(run: Run, state: TrainState, history: History) -> bool:
    solved = run.train.stop_when_solved and _steps_to_solve(run, history) is not None
    return solved or int(state.step) >= run.train.steps


def _measure(run: Run, program: Program, params: Any, split: int) -> Evaluation:
    rows = {VALIDATION: run.eval.validation_rows, TEST: run.eval.test_rows}[split]
    return evaluate(functools.partial(program.reader, params), split_key(jax.random.key(run.seed), split), rows)


def _metrics(run: Run, step: int, loss: float, validation: Evaluation, step_seconds: float) -> dict[str, Any]:
    return {
        "step": step,
        "train_loss": loss,
        "validation_accuracy": validation.accuracy,
        "validation_loss": validation.loss,
        "tokens_per_second": _tokens_per_step(run) / step_seconds,
        "step_ms": 1e3 * step_seconds,
    }


def _event(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    event = {name: value for name, value in row.items() if name not in ("step_ms", "seconds")}
    seconds_left = (run.train.steps - row["step"]) * row["step_ms"] / 1e3
    return event | {"steps": run.train.steps, "seconds_left": seconds_left}


def _result(
    run: Run, program: Program, state: TrainState, best: Any, history: History, diverged_at: int | None
) -> dict[str, Any]:
    validation, test = _measure(run, program, best, VALIDATION), _measure(run, program, best, TEST)
    steps = int(state.step)
    timing = {
        name: statistics.median(row[name] for row in history) if history else None
        for name in ("step_ms", "tokens_per_second")
    }
    return {
        "status": "done" if diverged_at is None else "diverged",
        **({} if diverged_at is None else {"diverged_at": diverged_at}),
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "row_accuracy": test.row_accuracy,
        "validation_accuracy": validation.accuracy,
        "validation_loss": validation.loss,
        "slices": with_ceilings(run, test.slices),
        "tests": score_other_rows(run, program, best, split_key(jax.random.key(run.seed), TEST)),
        **score_unseen_rows(run, program, best, steps),
        "steps": steps,
        "steps_to_solve": _steps_to_solve(run, history),
        "compute": compute.count(run, steps) | {"peak_bytes": program.peak_bytes} | timing,
        "parameter_hash": parameter_hash(state.params),
        **({} if (match := matched(run)) is None else {"match": match}),
        **facts(run),
    }


def facts(run: Run) -> dict[str, Any]:
    """Returns what a reader of the result must know of task and model."""
    sizes = {"layers": len(run.layers), "model_dim": run.model.model_dim, "mlp_dim": run.model.mlp_dim}
    return {"task": task_facts(run.task), "model": sizes}


def with_ceilings(run: Run, slices: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns slices of the test with the ceiling of every bin."""
    ceilings = slice_ceilings(run, slices)
    return {name: {**item, "ceiling": ceilings[name]} for name, item in slices.items()}


def _steps_to_solve(run: Run, history: History) -> int | None:
    return next((row["step"] for row in history if row["validation_accuracy"] >= run.train.solved_at), None)


def _tokens_per_step(run: Run) -> int:
    return run.train.batch_size * run.task.input_length


def _all_finite(params: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
