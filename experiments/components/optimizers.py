"""AdamW with linear warm-up and a cosine to zero, global-norm clipping, and weight decay on matrices only."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from experiments.config.schema import TrainConfig


def make_direction(config: TrainConfig) -> optax.GradientTransformation:
    """Returns AdamW without its learning rate: params -= learning_rate * direction.

    The rate stays outside so that runs which differ in it share one compiled program.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=_matrices),
    )


def schedule(config: TrainConfig, peak: Float[Array, ""], step: Int[Array, ""]) -> Float[Array, ""]:
    """Returns the learning rate of step 0, 1, ...: linear from 0 up to `peak`, then a cosine to 0 at `config.steps`."""
    warmup = step / max(config.warmup_steps, 1)
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * progress))
    return peak * jnp.where(step < config.warmup_steps, warmup, cosine)


def _matrices(params: Any) -> Any:
    """Scales and offsets are no matrices: decaying them shrinks what normalisation has set."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
