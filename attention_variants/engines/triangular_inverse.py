"""The inverse of lower triangular matrices with ones on the diagonal, by halving.

    [ P 0 ]^-1   [  P^-1            0    ]
    [ R Q ]    = [ -Q^-1 R P^-1    Q^-1  ]

From blocks of one row upwards, each step doubles them by two batched matrix products: log2(size) steps, each with the
exact inverses of parts of the matrix. This is as stable as row-by-row substitution, but parallel; sums of powers are
not stable.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attention_variants.engines.blocks import power_of_two


@jax.custom_jvp
def unit_lower_inverse(strict: Float[Array, "*batch size size"]) -> Float[Array, "*batch size size"]:
    """Returns (I + strict)^-1; `strict` is 0 on and above the diagonal."""
    size = strict.shape[-1]
    padding = power_of_two(size) - size
    strict = jnp.pad(strict, ((0, 0),) * (strict.ndim - 2) + ((0, padding), (0, padding)))
    inverse = jnp.ones((*strict.shape[:-2], size + padding, 1, 1), strict.dtype)  # of the blocks on the diagonal
    while inverse.shape[-1] < size:
        half = inverse.shape[-1]
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        corner = _diagonal_blocks(strict, 2 * half)[..., half:, :half]
        if half > 1:  # blocks of one row are 1
            corner = _product(_product(second, corner), first)
        upper = jnp.concatenate([first, jnp.zeros_like(first)], axis=-1)
        inverse = jnp.concatenate([upper, jnp.concatenate([-corner, second], axis=-1)], axis=-2)
    return inverse[..., 0, :size, :size]


@unit_lower_inverse.defjvp
def _jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse = unit_lower_inverse(*primals)
    return inverse, -_product(_product(inverse, tangents[0]), inverse)


def inverse_flops(size: int) -> int:
    """FLOPs of the matrix products of `unit_lower_inverse` for one matrix."""
    padded = power_of_two(size)
    halves = [2**level for level in range(1, padded.bit_length() - 1)]
    return sum(padded // (2 * half) * 4 * half**3 for half in halves)


def _product(left: Array, right: Array) -> Array:
    """Returns left @ right in full precision, which an accelerator would reduce by default."""
    return jnp.matmul(left, right, precision="highest")


def _diagonal_blocks(matrix: Array, block: int) -> Array:
    """[..., size, size] -> [..., size / block, block, block]."""
    num_blocks = matrix.shape[-1] // block
    parts = matrix.reshape(*matrix.shape[:-2], num_blocks, block, num_blocks, block)
    return jnp.moveaxis(jnp.diagonal(parts, axis1=-4, axis2=-2), -1, -3)
