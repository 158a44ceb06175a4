"""Blocks of tokens: how long they are, how arrays are cut into them and joined again, and how they are multiplied."""

import jax.numpy as jnp
from jaxtyping import Array

from attention_variants.arrays import accumulation_dtype

_SMALLEST_BLOCK, _LARGEST_BLOCK = 16, 512  # tokens


def even_block(length: int, block_size: int) -> int:
    """Returns the block that cuts `length` into as few blocks as `block_size` allows, evenly, in multiples of 8."""
    if length <= block_size:
        return length
    num_blocks = -(-length // block_size)
    return min(block_size, -(-length // (8 * num_blocks)) * 8)


def block_of_size(size: int) -> int:
    """Returns the block size for a pattern with pieces of `size` tokens: that size, clipped to what runs fast."""
    return min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, size))


def power_of_two(size: int) -> int:
    """Returns the smallest power of two that is at least `size`, for what is halved until nothing is left."""
    return 1 << (size - 1).bit_length()


def cut_blocks(array: Array, num_blocks: int, block: int, group: int) -> Array:
    """[batch, length, heads, dim] -> [blocks, batch, heads // group, group * block, dim], padded with 0."""
    batch, length, heads, dim = array.shape
    array = jnp.pad(array, ((0, 0), (0, num_blocks * block - length), (0, 0), (0, 0)))
    array = array.reshape(batch, num_blocks, block, heads // group, group, dim)
    return array.transpose(1, 0, 3, 4, 2, 5).reshape(num_blocks, batch, heads // group, group * block, dim)


def join_blocks(array: Array, group: int) -> Array:
    """The inverse of `cut_blocks`, with padding left in."""
    num_blocks, batch, kv_heads, rows, dim = array.shape
    array = array.reshape(num_blocks, batch, kv_heads, group, rows // group, dim).transpose(1, 0, 4, 2, 3, 5)
    return array.reshape(batch, num_blocks * rows // group, kv_heads * group, dim)


def cut_keys(array: Array, block_size: int) -> Array:
    """[batch, key_length, heads, dim] -> [batch, blocks, block_size, heads, dim], padded with 0."""
    batch, length, *rest = array.shape
    array = jnp.pad(array, ((0, 0), (0, -length % block_size), (0, 0), (0, 0)))
    return array.reshape(batch, -1, block_size, *rest)


def matmul(equation: str, left: Array, right: Array) -> Array:
    """Returns an einsum of two arrays, summed at least in float32."""
    return jnp.einsum(equation, left, right, preferred_element_type=accumulation_dtype(left.dtype))
