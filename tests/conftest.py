"""Strict settings for every test: shapes are checked as annotated, and broadcasting across ranks raises."""

import jax
from jaxtyping import install_import_hook

# On for the whole session, hence no `with`, and before the first import of the library. `interface` and `module` are
# left out: they check their own arguments, and the tests look at the messages of those checks.
CHECKED = ("engines", "variants", "patterns", "positions", "cost", "registry", "specs")
install_import_hook([f"attention_variants.{name}" for name in CHECKED], "beartype.beartype")

from attention_variants.conformance import side_by_side  # noqa: E402  (the hook comes first)

side_by_side.configure()
jax.config.update("jax_numpy_rank_promotion", "raise")
