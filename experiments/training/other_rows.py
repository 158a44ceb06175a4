"""How a trained model does on other rows than its own: longer ones, or any that its task can be shifted to.

One compiled program reads them all. Shorter rows are padded at the end to the longest, which a causal model cannot see,
and their scored positions with weight 0, so that all have the same shape. Contexts are not padded, for an encoder would
see it: one of another length compiles again.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, PRNGKeyArray

from experiments.analysis.bounds import bounds
from experiments.config.schema import Settings
from experiments.tasks.base import Batch, Task
from experiments.training.evaluation import Readout, evaluate, read_out
from experiments.training.step import model_rng

Scores = dict[str, dict[str, float]]


def further_tests(run: Settings, graph: Any, params: Any, stream: PRNGKeyArray) -> dict[str, Scores]:
    """Tests at each of `run.eval.test_lengths`, and on each task of `run.eval.shifted`.

    Args:
      run: the run.
      graph: of the model, from `make_model`.
      params: those to be tested.
      stream: key of the test split; the test itself draws from it, too.

    Returns:
      {"lengths": {"256": {"accuracy", "loss", "floor", "ceiling"}, ...}, "shifted": {spec: ...}}, without what is not
      asked for.
    """
    groups = {
        "lengths": run.test_tasks(),
        "shifted": run.eval.shifted_tasks(),
    }
    tasks = {(group, name): task for group, of_group in groups.items() for name, task in of_group.items()}
    scores = _test_on(tasks, run, graph, params, stream)
    found: dict[str, Scores] = {}
    for (group, name), score in scores.items():
        found.setdefault(group, {})[name] = score
    return found


def _test_on(
    tasks: Mapping[tuple[str, str], Task], run: Settings, graph: Any, params: Any, stream: PRNGKeyArray
) -> dict[tuple[str, str], dict[str, float]]:
    length = max((task.input_length for task in tasks.values()), default=0)
    scored = max((task.num_scored() for task in tasks.values()), default=0)
    read = functools.partial(jax.jit(functools.partial(_read, run.task, graph)), params)
    found = {}
    for name, task in tasks.items():
        sample = jax.jit(functools.partial(_sample_padded, run, task, length, scored))
        score = evaluate(functools.partial(_draw_and_read, sample, read), stream, run.eval.test_rows)
        limits = bounds(run, task)
        limits = {limit: limits[limit] for limit in ("floor", "ceiling")}
        found[name] = {"accuracy": score.accuracy, "loss": score.loss, **limits}
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
        context=batch.context,
    )
    return padded, jnp.pad(positions, (0, length - task.input_length), mode="edge")  # where padding stands is not seen


def _pad(array: Array, size: int) -> Array:
    return jnp.pad(array, ((0, 0), (0, size - array.shape[1]), *((0, 0),) * (array.ndim - 2)))


def _read(task: Task, graph: Any, params: Any, batch: Batch, positions: Array) -> Readout:
    return read_out(nnx.merge(graph, params)(batch.inputs, batch.positions, positions, batch.context), batch, task)
