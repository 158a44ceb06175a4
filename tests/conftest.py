"""Strict settings for every test: shapes are checked as annotated, and broadcasting across ranks raises."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)  # for the law about sharding; costs the other tests nothing
jax.config.update("jax_numpy_rank_promotion", "raise")

# On for the whole session, hence no `with`, and before the first import of the library. `interface` and `module` are
# left out: they check their own arguments, and the tests look at the messages of those checks.
CHECKED = ("engines", "variants", "patterns", "positions", "cost", "registry", "specs")
install_import_hook([f"attention_variants.{name}" for name in CHECKED], "beartype.beartype")
