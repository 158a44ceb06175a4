"""Tests of a trained model on rows other than its own: longer ones, or those of a task that its own is shifted to.

One compiled program reads them all. Shorter rows are padded at the end to the longest, which a causal model cannot see,
and their scored positions with weight 0, so that all have the same shape. Contexts are not padded, because an encoder
would see the padding: one of another length compiles again.

Rows of many thousands of tokens are treated differently: they are padded only among rows of about their own length, and
read a few at a time if a whole batch would not fit in memory.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PRNGKeyArray

from experiments.analysis.bounds import bounds
from experiments.config.other_rows import OtherRows
from experiments.config.run import Run
from experiments.model.objective import Readout, read_out
from experiments.model.streams import model_key
from experiments.tasks.base import Batch, Task
from experiments.training import parallel
from experiments.training.evaluation import evaluate
from experiments.training.parallel import Devices
from experiments.training.step import Program, compiled_part

_SHORT = 2**11  # tokens of a row that is padded together with all shorter ones
_MOST_TOKENS = 2**20  # that one device reads at once, for rows of up to this many


def score_other_rows(run: Run, program: Program, params: Any, stream: PRNGKeyArray) -> list[dict[str, Any]]:
    """Tests at each of `eval.test_lengths`, and on each task of `eval.shifted`.

    Args:
      run: the run.
      program: compiled from it.
      params: those to be tested.
      stream: key of the test split; the test on the run's own task draws from it, too.

    Returns:
      One dict per test: kind, value, label, length (see `OtherRows`), accuracy, loss, floor, ceiling and row_accuracy.
    """
    samplers, read = _compile(compiled_part(run), program.graph, parallel.devices())
    found = []
    for test, sample in zip(run.tests, samplers, strict=True):
        score = evaluate(functools.partial(_draw_and_read, sample, read, params), stream, run.eval.test_rows)
        found.append(scored(run, test, score.accuracy, score.loss) | {"row_accuracy": score.row_accuracy})
    return found


def scored(run: Run, test: OtherRows, accuracy: float, loss: float) -> dict[str, Any]:
    """Returns what a result records of a test: its rows, its scores, and the bounds of these."""
    limits = bounds(run, test.task)
    rows = {name: getattr(test, name) for name in ("kind", "value", "label", "length")}
    return rows | {"accuracy": accuracy, "loss": loss, "floor": limits["floor"], "ceiling": limits["ceiling"]}


@functools.lru_cache(maxsize=64)
def _compile(run: Run, graph: Any, devices: Devices) -> tuple[list[Any], Any]:
    """Returns what draws the rows of each test, and the program that reads them; shared by all seeds of a cell."""
    tasks = [test.task for test in run.tests]
    lengths = _padded_lengths([task.input_length for task in tasks])
    scored = max((task.num_scored() for task in tasks), default=0)
    samplers = [
        devices.jit(functools.partial(_sample_padded, run, task, length, scored))
        for task, length in zip(tasks, lengths, strict=True)
    ]
    return samplers, devices.jit(functools.partial(_read, run.task, graph, devices))


def _padded_lengths(lengths: Sequence[int]) -> list[int]:
    """Returns the length to which each kind of row is padded: short ones to the longest such, long ones by octaves."""
    groups = [max(_SHORT, 2 ** (length - 1).bit_length()) for length in lengths]
    return [max(length for length, other in zip(lengths, groups, strict=True) if other == group) for group in groups]


def _at_once(rows: int, length: int) -> int:
    """Returns how many rows of a batch are read at once: its largest divisor that does not give too many tokens."""
    fits = [count for count in range(1, rows + 1) if rows % count == 0 and count * length <= _MOST_TOKENS]
    return max(fits, default=1)


def _draw_and_read(sample: Any, read: Any, params: Any, rng: PRNGKeyArray) -> Readout:
    return read(params, *sample(rng))


def _sample_padded(run: Run, task: Task, length: int, scored: int, rng: PRNGKeyArray) -> tuple[Batch, Array]:
    """Returns a batch and the positions of its tokens, which encodings may draw for the true length."""
    batch = task.sample(rng, run.eval.batch_size)
    positions = run.position.draw(task.input_length, model_key(rng))
    padded = Batch(
        inputs=_pad(batch.inputs, length),
        targets=_pad(batch.targets, scored),
        positions=_pad(batch.positions, scored),
        weights=_pad(batch.weights, scored),
        evidence=jnp.full((run.eval.batch_size, scored, 1), -1, jnp.int32),  # unused, and its shape varies with length
        slices={},
        context=batch.context,
        also_right=None if batch.also_right is None else _pad(batch.also_right, scored),
    )
    return padded, jnp.pad(positions, (0, length - task.input_length), mode="edge")  # positions of padding are not seen


def _pad(array: Array, size: int) -> Array:
    return jnp.pad(array, ((0, 0), (0, size - array.shape[1]), *((0, 0),) * (array.ndim - 2)))


def _read(task: Task, graph: Any, devices: Devices, params: Any, batch: Batch, positions: Array) -> Readout:
    model = nnx.merge(graph, params)

    def read(batch: Batch) -> Readout:
        batch = devices.spread(batch)
        return read_out(model(batch.inputs, batch.positions, positions, batch.context), batch, task)

    rows = len(batch.inputs)
    at_once = devices.number * _at_once(rows // devices.number, batch.inputs.shape[1])
    if at_once == rows:
        return read(batch)
    pieces = jax.tree.map(lambda leaf: leaf.reshape(rows // at_once, at_once, *leaf.shape[1:]), batch)
    return jax.tree.map(lambda leaf: leaf.reshape(rows, *leaf.shape[2:]), jax.lax.map(read, pieces))
