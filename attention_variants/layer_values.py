"""What an attention layer passes on: from part to part within a call, and from call to call in decoding."""

from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from attention_variants.interface import Bias
from attention_variants.surroundings import Readings


class Pasts(NamedTuple):
    """What the parts around attention read from earlier tokens: each [batch, past, channels], past 0 where off."""

    short_conv: Array
    token_shift: Array
    query_conv: Array
    key_conv: Array
    value_conv: Array
    skip: Array
    further_key_conv: Array
    further_value_conv: Array


class Mixing(NamedTuple):
    """One call of a layer before its variant mixes the tokens: the variant's arguments, and what later steps need."""

    query: Float[Array, "batch length num_heads head_dim"]
    key: Float[Array, "batch key_length num_kv_heads head_dim"]
    value: Float[Array, "batch key_length num_kv_heads value_dim"]
    causal: bool
    key_mask: Bool[Array, "batch key_length"] | None
    bias: Bias | None
    controls: Any
    readings: Readings  # of the gate
    pasts: Pasts


class AttentionCache(NamedTuple):
    """What one layer carries while decoding."""

    attention: Any  # the variant's own cache
    pasts: Pasts

    @property
    def length(self) -> Int[Array, ""]:
        """Tokens seen so far; the next token's position."""
        return self.attention.length

    @property
    def max_length(self) -> Int[Array, ""]:
        """Tokens the cache was made for."""
        return self.attention.max_length
