"""How a model that was trained at one length does at others: one compiled program for all of them.

Rows of a shorter test length are padded at the end to the longest, which a causal model cannot see, and their scored
positions with weight 0, so that every length has the same shape.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PRNGKeyArray

from experiments import reach
from experiments.evaluate import Readout, evaluate, read_out
from experiments.model import layer_mixers
from experiments.program import model_rng
from experiments.settings import Settings
from experiments.tasks.base import Batch, Task


def at_lengths(run: Settings, graph: Any, params: Any, stream: PRNGKeyArray) -> dict[str, dict[str, float]]:
    """Tests at each of `run.eval.test_lengths`.

    Args:
      run: the run.
      graph: of the model, from `make_model`.
      params: those to be tested.
      stream: key of the test split; the test itself draws from it, too, at its own length.

    Returns:
      {"256": {"accuracy", "loss", "floor", "ceiling"}, ...}.
    """
    tasks = run.test_tasks()
    if not tasks:
        return {}
    shapes = [jax.eval_shape(lambda task=task: task.sample(stream, run.eval.batch_size)) for task in tasks.values()]
    length, scored = max(task.input_length for task in tasks.values()), max(s.targets.shape[1] for s in shapes)
    read = jax.jit(functools.partial(_read, graph, params))
    found = {}
    for name, task in tasks.items():
        sample = jax.jit(functools.partial(_sample_padded, run, task, length, scored))
        score = evaluate(functools.partial(_draw_and_read, sample, read), stream, run.eval.test_rows)
        ceiling = reach.task_ceiling(layer_mixers(run.model), run.causal, run.model.short_conv, task)
        floor = min(max(task.floors().values()), ceiling)
        found[str(name)] = {"accuracy": score.accuracy, "loss": score.loss, "floor": floor, "ceiling": ceiling}
    return found


def _draw_and_read(sample: Any, read: Any, rng: PRNGKeyArray) -> Readout:
    return read(*sample(rng))


def _sample_padded(run: Settings, task: Task, length: int, scored: int, rng: PRNGKeyArray) -> tuple[Batch, Array]:
    """Returns a batch and where its tokens stand, which encodings may draw for the true length."""
    batch = task.sample(rng, run.eval.batch_size)
    positions = run.model.encoding().draw(task.input_length, model_rng(rng))
    padded = Batch(
        inputs=_pad(batch.inputs, length),
        targets=_pad(batch.targets, scored),
        positions=_pad(batch.positions, scored),
        weights=_pad(batch.weights, scored),
        evidence=jnp.full((run.eval.batch_size, scored, 1), -1, jnp.int32),  # unused, and of other shapes per length
        slices={},
    )
    return padded, jnp.pad(positions, (0, length - task.input_length), mode="edge")  # where padding stands is not seen


def _pad(array: Array, size: int) -> Array:
    return jnp.pad(array, ((0, 0), (0, size - array.shape[1]), *((0, 0),) * (array.ndim - 2)))


def _read(graph: Any, params: Any, batch: Batch, positions: Array) -> Readout:
    return read_out(nnx.merge(graph, params)(batch.inputs, batch.positions, positions), batch)
