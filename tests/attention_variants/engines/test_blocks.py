"""Cutting sequences into blocks and joining them again."""

import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants.engines import blocks


@pytest.mark.parametrize("block_size", [1, 7, 8, 12, 64, 512])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 37, 64, 65, 513, 1000])
def test_even_blocks_cover_the_length_and_waste_less_than_eight_a_block(length: int, block_size: int) -> None:
    block = blocks.even_block(length, block_size)
    assert 1 <= block <= block_size
    num_blocks, fewest = -(-length // block), -(-length // block_size)
    assert num_blocks == fewest
    assert block % 8 == 0 or block == min(length, block_size)
    assert block * num_blocks - length < 8 * num_blocks or block == block_size


def test_cut_and_join_are_inverse() -> None:
    array = jnp.arange(2 * 13 * 6 * 5.0).reshape(2, 13, 6, 5)
    cut = blocks.cut_blocks(array, 4, 4, 2)
    assert cut.shape == (4, 2, 3, 2 * 4, 5)
    np.testing.assert_array_equal(blocks.join_blocks(cut, 2)[:, :13], array)
    assert not blocks.join_blocks(cut, 2)[:, 13:].any()


def test_cut_keys_pads_the_last_block() -> None:
    array = jnp.arange(1.0, 1 + 2 * 7 * 3 * 5).reshape(2, 7, 3, 5)
    cut = blocks.cut_keys(array, 4)
    assert cut.shape == (2, 2, 4, 3, 5)
    np.testing.assert_array_equal(cut.reshape(2, 8, 3, 5)[:, :7], array)
    assert not cut[:, 1, 3].any()


def test_products_of_bfloat16_are_summed_in_float32() -> None:
    ones = jnp.ones((1, 1000), jnp.bfloat16)
    product = blocks.matmul("ik,jk->ij", ones, ones)
    assert product.dtype == jnp.float32 and product[0, 0] == 1000
