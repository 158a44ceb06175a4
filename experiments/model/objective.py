"""What a model is trained on: its answers against the targets, the loss, and the gradient of one step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from experiments.config.run import Run
from experiments.tasks.base import Batch, Task


class Readout(NamedTuple):
    """What a model answered at the scored positions of one batch; arrays [batch, scored]."""

    correct: Float[Array, "batch scored"]  # 1 where the likeliest token is right, or numbers are close enough
    loss: Float[Array, "batch scored"]  # cross-entropy or divergence in nats, or squared error
    weights: Float[Array, "batch scored"]  # 0 for padding
    slices: dict[str, Int[Array, "batch scored"]]
    positions: Int[Array, "batch scored"]  # where each was read


def read_out(outputs: Float[Array, "batch scored vocab"], batch: Batch, task: Task) -> Readout:
    """Compares the model's outputs at the scored positions, logits or numbers, with the targets.

    A task whose targets are distributions is trained on tokens drawn from them: its training batches have tokens.
    """
    if jnp.issubdtype(batch.targets.dtype, jnp.integer):
        answers = jnp.argmax(outputs, axis=-1)
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, batch.targets)
    elif task.distributions:
        answers = jax.nn.softmax(outputs)
        loss = optax.kl_divergence(jax.nn.log_softmax(outputs), batch.targets)
    else:
        answers = outputs[..., 0]
        loss = jnp.square(answers - batch.targets)
    correct = task.correct(answers, batch).astype(jnp.float32)
    return Readout(correct, loss, batch.weights, batch.slices, batch.positions)


def mean_loss(readout: Readout) -> Float[Array, ""]:
    """Returns the mean loss over targets that count."""
    return jnp.sum(readout.loss * readout.weights) / jnp.maximum(jnp.sum(readout.weights), 1.0)


def read_batch(run: Run, graph: Any, params: Any, batch: Batch, rng: PRNGKeyArray | None = None) -> Readout:
    """Returns the model's answers on a batch; position encodings that draw their positions use `rng`."""
    model = nnx.merge(graph, params)
    positions = model.position.draw(batch.inputs.shape[1], rng)
    return read_out(model(batch.inputs, batch.positions, positions, batch.context), batch, run.task)


def gradient_step(
    run: Run, graph: Any, params: Any, batch: Batch, rng: PRNGKeyArray | None = None
) -> tuple[Float[Array, ""], Any]:
    """Returns the loss and its gradient: all that is counted as a training step's FLOPs."""

    def loss(params: Any) -> Float[Array, ""]:
        return mean_loss(read_batch(run, graph, params, batch, rng))

    return jax.value_and_grad(loss)(params)
