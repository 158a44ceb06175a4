"""Experiments: the same small model with one attention after another, trained and compared."""

import jax

from experiments.runtime import keep_freed_memory

# Runs are reproduced from their seed alone, so the bits of the generator must not depend on jax's default.
jax.config.update("jax_threefry_partitionable", True)
keep_freed_memory()
