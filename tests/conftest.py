"""Strict settings for every test: shapes are checked as annotated, and broadcasting across ranks raises."""

import itertools
from collections.abc import Iterator

import jax
import pytest
from jaxtyping import install_import_hook

# On for the whole session, hence no `with`, and before the first import of the library. `interface` and `module` are
# left out: they check their own arguments, and the tests look at the messages of those checks.
CHECKED = (
    *("arrays", "patterns", "engines", "families", "biases", "variants", "sharded"),
    *("registry", "specs", "positions", "cost"),
)
install_import_hook([f"attention_variants.{name}" for name in CHECKED], "beartype.beartype")

from attention_variants.conformance import side_by_side  # noqa: E402  (the hook comes first)

side_by_side.configure()
jax.config.update("jax_numpy_rank_promotion", "raise")

_TESTS = itertools.count(1)


@pytest.fixture
def optimized() -> Iterator[None]:
    """For a test that computes longer than it compiles."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True)
def few_programs() -> Iterator[None]:
    """Frees compiled programs when there are many, which is looked up every few tests."""
    yield
    if next(_TESTS) % 10 == 0:
        side_by_side.limit_programs()
