"""Times the generation of data: rows per second of every task, and its share of a training step."""

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence

import jax

from experiments.config.run import Run
from experiments.config.schema import Config
from experiments.config.sections import ModelConfig
from experiments.tasks.base import Task
from experiments.tasks.registry import TASKS
from experiments.training import loop

_REPEATS = 5
_LONGEST_STEP = 512  # tokens; steps of longer rows take seconds and are not timed
_CALLS = 20  # in each of them


@dataclasses.dataclass
class Generation:
    """What it takes to draw a batch of a task; times in milliseconds, medians."""

    task: str
    length: int
    rows_per_second: float
    batch_ms: float
    step_ms: float | None  # of training one layer of full attention after a convolution, the batch included
    share: float | None  # of the step


def measure(specs: Sequence[str] | None = None) -> Iterator[Generation]:
    """Measures tasks, by default all registered ones at their default sizes."""
    read = {spec: Run.read(Config(task=spec, model=ModelConfig(attention="conv+full"))) for spec in specs or TASKS}
    for spec, run in read.items():
        rows, length = run.train.batch_size, run.task.input_length
        batch_ms = _sample_ms(run.task, rows)
        step_ms = 1e3 * rows * length / loop.throughput(run) if length <= _LONGEST_STEP else None
        share = None if step_ms is None else batch_ms / step_ms
        yield Generation(spec, length, 1e3 * rows / batch_ms, batch_ms, step_ms, share)


def render(timings: Sequence[Generation]) -> str:
    """Returns a Markdown table."""
    lines = ["| task | length | rows per s | ms per batch | ms per step | share of the step |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for timing in timings:
        step = "" if timing.step_ms is None else f"{timing.step_ms:.1f}"
        share = "" if timing.share is None else f"{timing.share:.1%}"
        cells = (f"`{timing.task}`", str(timing.length), f"{timing.rows_per_second:,.0f}", f"{timing.batch_ms:.2f}")
        lines.append(f"| {' | '.join((*cells, step, share))} |")
    return "\n".join(lines)


def _sample_ms(task: Task, batch_size: int) -> float:
    """Returns the median milliseconds of a batch, over runs of several."""
    sample = jax.jit(lambda rng: task.training_batch(task.sample(rng, batch_size)))
    keys = [jax.random.key(call) for call in range(_CALLS)]
    times = []
    for _ in range(_REPEATS + 1):  # the first one warms up
        start = time.perf_counter()
        for key in keys:
            jax.block_until_ready(sample(key))
        times.append(1e3 * (time.perf_counter() - start) / _CALLS)
    return statistics.median(times[1:])
