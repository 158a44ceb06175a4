"""What one device has of a call whose sequence is split."""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float


class Part(NamedTuple):
    """One device's share of the arguments of `AttentionVariant.__call__`."""

    query: Float[Array, "batch local_length num_heads head_dim"]
    key: Float[Array, "batch local_length num_kv_heads head_dim"]
    value: Float[Array, "batch local_length num_kv_heads value_dim"]
    key_mask: Bool[Array, "batch local_length"] | None
    bias: Any  # whole: over all positions
    controls: Any  # of these tokens, or whole where the split says so
    causal: bool
    axis: str  # of the mesh, along which the length is split
