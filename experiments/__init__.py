"""Experiments: the same small model with one attention after another, trained and compared."""

import jax

from experiments.runtime import keep_freed_memory

# Runs are reproduced from their seed alone, so their bits must not depend on flags of jax in the environment.
jax.config.update("jax_threefry_partitionable", True)
jax.config.update("jax_default_prng_impl", "threefry2x32")
jax.config.update("jax_enable_x64", False)
keep_freed_memory()
