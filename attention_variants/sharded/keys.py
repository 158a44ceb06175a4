"""Softmax and its relatives: each device keeps its queries and gets the keys that they may see.

A pattern that depends only on the distance, up to some maximum, needs the neighbours' keys (a halo). Any other needs
all keys: keys and values are gathered, and each device runs the plan of its own queries, so that keys outside the
pattern cost nothing, except at the edges of blocks. Scattered patterns, which their own layout makes cheap on one
device, touch many blocks. The plans are known before tracing, one per device, as branches of one program. A causal
pattern gives later devices more work: the last of n does about twice the mean.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from attention_variants.families.static_pattern import Given, StaticPatternVariant
from attention_variants.patterns import Band, band_around
from attention_variants.sharded.exchange import gathered, with_neighbours
from attention_variants.sharded.parts import Part
from attention_variants.variants.topk import TopKAttention


def attend_pattern(variant: StaticPatternVariant, part: Part) -> Array:
    """Returns the output of this device's queries, by a halo where one suffices."""
    number, own = lax.axis_size(part.axis), part.query.shape[1]
    band = band_around(variant.block_pattern(number * own, number * own, part.causal))
    if band is not None and band.before is not None and band.after is not None:
        if max(band.before, band.after) < (number - 1) * own:
            return _by_halo(variant, band, part)
    return _by_gathering(functools.partial(_of_pattern, variant, part.causal), part)


def attend_top_k(variant: TopKAttention, part: Part) -> Array:
    """Returns the output of this device's queries, which choose among all keys."""
    return _by_gathering(functools.partial(_of_choice, variant, part.causal), part)


def _by_halo(variant: StaticPatternVariant, band: Band, part: Part) -> Array:
    """Attention to the device's own keys and those near them; queries start `before` keys after the first key."""
    assert band.before is not None and band.after is not None
    before, own = max(band.before, 0), part.query.shape[1]
    share = functools.partial(with_neighbours, axis=part.axis, before=before, after=max(band.after, 0))
    key_mask = jnp.ones(part.key.shape[:2], bool) if part.key_mask is None else part.key_mask
    key, value, key_mask = share(part.key), share(part.value), share(key_mask)  # beyond the ends nothing is visible
    bias = part.bias
    if bias is not None:
        bias = ShiftedBias(bias, (lax.axis_index(part.axis) * own - before).astype(jnp.float32))
    plan = variant.plan_from(before, own, key.shape[1], part.causal)
    return variant.attend_from(plan, part.query, key, value, part.causal, Given(key_mask, bias, part.controls))


def _by_gathering(attend: Callable[..., Array], part: Part) -> Array:
    """Attention to all keys; `attend` takes the position of the first query, known before tracing, and the rest."""
    own = part.query.shape[1]
    key, value = gathered(part.key, part.axis), gathered(part.value, part.axis)
    key_mask = None if part.key_mask is None else gathered(part.key_mask, part.axis)
    of_each = [functools.partial(attend, place * own) for place in range(lax.axis_size(part.axis))]
    given = Given(key_mask, part.bias, part.controls)
    return lax.switch(lax.axis_index(part.axis), of_each, part.query, key, value, given)


def _of_pattern(
    variant: StaticPatternVariant, causal: bool, first: int, query: Array, key: Array, value: Array, given: Given
) -> Array:
    plan = variant.plan_from(first, query.shape[1], key.shape[1], causal)
    return variant.attend_from(plan, query, key, value, causal, given)


def _of_choice(
    variant: TopKAttention, causal: bool, first: int, query: Array, key: Array, value: Array, given: Given
) -> Array:
    return variant.read(query, key, value, causal, given.key_mask, first)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShiftedBias:
    """The bias of tokens that are counted from 0 but start at position `start`; see `interface.Bias`."""

    bias: Any
    start: Any  # position of token 0; floating, as every leaf of a bias is, and exact below 2^24

    def block(self, query_positions: Int[Array, " query"], key_positions: Int[Array, " key"]) -> Array:
        """Returns the bias of these tokens."""
        start = lax.stop_gradient(self.start).astype(jnp.int32)
        return self.bias.block(query_positions + start, key_positions + start)
