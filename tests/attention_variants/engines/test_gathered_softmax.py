"""Softmax over keys listed per query against dense softmax: values, gradients, cost."""

import jax.numpy as jnp
import numpy as np
import pytest

from attention_variants import cost
from attention_variants.engines import gathered_softmax
from tests.attention_variants.engines.listed import BATCH, DIM, HEADS, VALUE_DIM, assert_same, make_arrays, make_lists


@pytest.mark.parametrize(("length", "key_length", "listed"), [(37, 37, 5), (1, 7, 3), (61, 129, 100)])
def test_gathered_softmax_equals_dense(length: int, key_length: int, listed: int) -> None:
    lists = make_lists(length, key_length, listed)
    lists[0, 0, 0] = -1  # a query without keys
    seen = (lists[..., None] == np.arange(key_length)).any(3)
    arrays, indices = make_arrays(length, key_length), jnp.asarray(lists)
    assert_same(lambda *a: gathered_softmax.gathered_softmax(*a, indices), seen, arrays)
    flops = cost.count_flops(lambda *a: gathered_softmax.gathered_softmax(*a, indices), *arrays)
    said = 2 * HEADS * (DIM + VALUE_DIM) * gathered_softmax.gathered_pairs(length, listed)
    assert flops == BATCH * said
