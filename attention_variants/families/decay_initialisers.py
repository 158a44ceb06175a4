"""Initialisers of learned decays exp(-rate * step), as in Mamba-2 (Dao and Gu 2024, arXiv:2405.21060)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array


def draw_log_rate(rng: Array, shape: tuple[int, ...]) -> Array:
    """Returns the logs of rates from 1 to 16 per unit of time."""
    return jnp.log(jax.random.uniform(rng, shape, minval=1.0, maxval=16.0))


def draw_step_bias(rng: Array, shape: tuple[int, ...]) -> Array:
    """Returns numbers that softplus maps to time steps from 0.001 to 0.1, log-uniform."""
    step = jnp.exp(jax.random.uniform(rng, shape, minval=jnp.log(0.001), maxval=jnp.log(0.1)))
    return step + jnp.log(-jnp.expm1(-step))
