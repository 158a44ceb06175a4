"""Context parallelism: one sequence, split along its length over the devices of a mesh axis.

    mesh = Mesh(np.asarray(jax.devices()), ("length",))
    attend = context_parallel(make_variant("gated_delta"), mesh, "length")

`attend` is called like the variant and is a variant itself: `MultiHeadAttention(attend, ...)` is a layer. `SPLITS` says
how the sequence is split for each family of variants.
"""

from attention_variants.sharded.variant import SPLITS, ContextParallel, context_parallel

__all__ = ["SPLITS", "ContextParallel", "context_parallel"]
