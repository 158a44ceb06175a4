"""Settings for the tests of the library: they compile much and compute little."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def compile_fast() -> Iterator[None]:
    """Turns XLA's optimisations off, for these tests only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
