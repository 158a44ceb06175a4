"""Times the making of data: rows per second of every task, and its share of a training step of the quickstart."""

import dataclasses
import statistics
import time
from collections.abc import Sequence

import jax

from configs import quickstart
from experiments.config import schema as settings
from experiments.tasks.base import Task
from experiments.tasks.registry import TASKS
from experiments.training import loop as train

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
    step_ms: float | None  # of training the quickstart's model with full attention, the batch included
    share: float | None  # of the step


def generation_figures(specs: Sequence[str] | None = None) -> list[Generation]:
    """Measures tasks, by default all registered ones at their default sizes."""
    figures = []
    for spec in specs or TASKS:
        config = quickstart.get_config().to_dict() | {"task": spec}
        config["model"] = config["model"] | {"attention": "conv+full"}
        run = settings.read(config)
        tokens, length = run.train.batch_size * run.task.input_length, run.task.input_length
        batch_ms = _sample_ms(run.task, run.train.batch_size)
        step_ms = 1e3 * tokens / train.throughput(config) if length <= _LONGEST_STEP else None
        share = None if step_ms is None else batch_ms / step_ms
        figures.append(Generation(spec, length, 1e3 * run.train.batch_size / batch_ms, batch_ms, step_ms, share))
    return figures


def render(figures: Sequence[Generation]) -> str:
    """Returns a Markdown table."""
    lines = ["| task | length | rows per s | ms per batch | ms per step | share of the step |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for figure in figures:
        step = "" if figure.step_ms is None else f"{figure.step_ms:.1f}"
        share = "" if figure.share is None else f"{figure.share:.1%}"
        cells = (f"`{figure.task}`", str(figure.length), f"{figure.rows_per_second:,.0f}", f"{figure.batch_ms:.2f}")
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
