"""One run from its beginning to its result: chunks of training steps, and what a `Course` does between them."""

import statistics
import time
import warnings
from typing import Any

import jax

from experiments.config.run import Run
from experiments.training.course import Course, Folder, Report, Source, Steps, Stopwatch, tokens_per_step
from experiments.training.step import abstract_state, compile_program, initial_state, trace

_TIMED_CHUNKS = 5


def train(
    run: Run, folder: Folder | None = None, report: Report | None = None, source: Source | None = None
) -> dict[str, Any]:
    """Trains, selects by validation and tests once.

    With a folder, the run continues from its newest checkpoint, and ends with the same bits as one never interrupted.
    `parallel.devices()` share its batches; with several processes, all call this, and only the first has the folder.

    Args:
      run: what to train.
      folder: where metrics and checkpoints go; None keeps nothing.
      report: called after every chunk with step, steps, train_loss, validation_accuracy, validation_loss,
        tokens_per_second and seconds_left.
      source: the outcome of `run.pretraining`, if there is one; only the leading process needs it.

    Returns:
      The fields of `result.json` except those that say which run it is. `parameter_hash` is that of the last
      parameters. NaN or infinity in a loss, a gradient or a parameter ends the run as "diverged", with `diverged_at`,
      the number of the step that met it. Scores are always those of the best parameters by validation, the initial ones
      if the first chunk diverged. Training FLOPs count those of the pretraining, too.

    Raises:
      ValueError: there is a pretraining and no `source`; one line.
    """
    timer = Stopwatch().start()
    program = compile_program(run)
    course = Course(run, program, timer, folder, report, source)
    while not course.over:
        first, stop = course.step, course.stop
        started = time.perf_counter()
        state, loss, finite = program.advance(run, course.state, stop)
        course.take(Steps(state, loss, finite, (time.perf_counter() - started) / (stop - first)))
    return course.result()


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
    return chunk * tokens_per_step(run) / statistics.median(seconds[1:])
