"""Experiments: the same small model with one attention after another, trained and compared."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.api import LoadedStudy

if sys.argv[:1] == ["-m"]:  # `python -m experiments.run` is about to start: a signal may come while it imports
    from experiments import interrupts

    interrupts.install()

import jax  # noqa: E402  (signals first)

from experiments.runtime import keep_freed_memory  # noqa: E402

# Runs are reproduced from their seed alone, so their bits must not depend on flags of jax in the environment.
jax.config.update("jax_threefry_partitionable", True)
jax.config.update("jax_default_prng_impl", "threefry2x32")
jax.config.update("jax_enable_x64", False)
keep_freed_memory()


def load(path: "str | os.PathLike[str]") -> "LoadedStudy":
    """Reads a study from its folder, for notebooks: its rows as dicts, and its runs; see `api.load`."""
    from experiments import api  # whoever starts a command needs none of it

    return api.load(path)
