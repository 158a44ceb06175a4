"""Keys and values compressed block by block with weights per position, and which compressed blocks a query may see."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import override

from attention_variants.arrays import KeyMask, accumulation_dtype, masked_softmax
from attention_variants.engines.blocks import cut_keys
from attention_variants.patterns import Pattern

PositionWeights = Float[Array, "num_kv_heads block_size"]  # the weight of each place in a block
Compressed = Float[Array, "batch blocks num_kv_heads dim"]


@dataclasses.dataclass(frozen=True)
class FinishedBlocks(Pattern):
    """Keys that stand for blocks of `block_size` positions, seen from the last position of the block on.

    `FinishedBlocks(2)`, keys being blocks 0 and 1::

        0 0
        1 0
        1 0
        1 1
    """

    block_size: int

    @override
    def visible(self, query_position: Any, key_position: Any) -> Any:
        return (key_position + 1) * self.block_size <= query_position + 1

    @override
    def touched(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.visible(last_query, first_key)

    @override
    def filled(self, first_query: Any, last_query: Any, first_key: Any, last_key: Any) -> Any:
        return self.visible(first_query, last_key)


def compress(array: Float[Array, "batch key_length num_kv_heads dim"], weights: PositionWeights) -> Compressed:
    """Returns the weighted sum of every block, the ragged last one padded with 0."""
    dtype = accumulation_dtype(array.dtype)
    blocks = cut_keys(array.astype(dtype), weights.shape[1])
    return jnp.einsum("bnthd,ht->bnhd", blocks, weights.astype(dtype))


def add_to_blocks(sums: Compressed, new: Array, weights: PositionWeights, first: Int[Array, ""]) -> Compressed:
    """Adds to the compressed blocks `sums` what new tokens [batch, new, num_kv_heads, dim] contribute.

    The new tokens stand at the positions from `first` on. What lies past the last block is dropped.
    """
    positions, block_size = first + jnp.arange(new.shape[1]), weights.shape[1]
    weighted = new.astype(sums.dtype) * weights.T[positions % block_size].astype(sums.dtype)[None, :, :, None]
    return sums.at[:, positions // block_size].add(weighted, mode="drop")


def any_key(key_mask: KeyMask, block_size: int) -> Bool[Array, "batch blocks"]:
    """Returns which blocks hold an unmasked key."""
    return cut_keys(key_mask[..., None, None], block_size).any((2, 3, 4))


def compress_flops(key_length: int, block_size: int, num_kv_heads: int, dim: int) -> int:
    """FLOPs of `compress` on one sequence of vectors of `dim` channels."""
    return 2 * -(-key_length // block_size) * block_size * num_kv_heads * dim


def dense_scores(
    logits: Float[Array, "batch num_heads query_length key_length"],
    members: Bool[Array, "#batch blocks key_length"],
    key_weights: PositionWeights,
) -> Float[Array, "batch num_heads query_length blocks"]:
    """Returns every block's logit, which compression sums from those of the keys; for definitions."""
    return _contract("bhqk,bhck->bhqc", logits, _spread(key_weights, members, logits))


def dense_weights(
    logits: Float[Array, "batch num_heads query_length key_length"],
    members: Bool[Array, "#batch blocks key_length"],
    key_weights: PositionWeights,
    value_weights: PositionWeights,
) -> Float[Array, "batch num_heads query_length key_length"]:
    """The definition of softmax attention to finished compressed blocks.

    Args:
      logits: those of the keys.
      members: the unmasked keys of every block.
      key_weights: [num_kv_heads, block_size].
      value_weights: [num_kv_heads, block_size].

    Returns:
      The weight of every value.
    """
    query_length, block_size = logits.shape[2], key_weights.shape[1]
    last = (np.arange(members.shape[1]) + 1) * block_size - 1
    finished = jnp.asarray(last[None, :] <= np.arange(query_length)[:, None])[None, None]
    seen = finished & members.any(2)[:, None, None, :]
    weights = masked_softmax(dense_scores(logits, members, key_weights), seen)
    return _contract("bhqc,bhck->bhqk", weights, _spread(value_weights, members, logits))


def _spread(weights: Array, members: Array, logits: Array) -> Array:
    """The weight of every key in every block, [batch, num_heads, blocks, key_length]."""
    place = np.arange(logits.shape[3]) % weights.shape[1]
    weights = jnp.repeat(weights, logits.shape[1] // len(weights), axis=0)[:, place]
    return jnp.where(members[:, None], weights[None, :, None, :], 0.0).astype(logits.dtype)


def _contract(equation: str, left: Array, right: Array) -> Array:
    return jnp.einsum(equation, left, jnp.broadcast_to(right, (len(left), *right.shape[1:])), precision="highest")
