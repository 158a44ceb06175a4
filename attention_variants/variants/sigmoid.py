"""Sigmoid attention: every key is weighted on its own."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype
from attention_variants.engines.block_sigmoid import block_sigmoid
from attention_variants.engines.block_softmax import BlockPlan
from attention_variants.families.modified_softmax import ModifiedSoftmaxVariant
from attention_variants.families.static_pattern import Given
from attention_variants.layer_options import LayerOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class SigmoidAttention(ModifiedSoftmaxVariant):
    """Attention without competition between keys.

    ::

        output_i = sum_j sigmoid(query_i . key_j / sqrt(head_dim) - log n_i) value_j,   j <= i where causal
        n_i      = the number of keys that query i may see

    With logits near 0, a row sums to about 1, as in softmax; unlike in softmax, a query may attend to nothing or to
    everything.

    Attributes:
      block_size: tokens per block of the engine; affects speed only, not the function.

    References:
      Ramapuram et al. 2024, "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", arXiv:2409.04431,
      section 2. The paper's n is the length of the sequence; ours counts what the query sees (i + 1 where causal, keys
      that are not masked), so that a row does not depend on what follows, and padding changes nothing. Both published
      configurations normalise query and key: `paper_layer`.
    """

    paper = "Ramapuram et al. 2024, arXiv:2409.04431"
    paper_layer = LayerOptions(qk_norm=True)

    def weigh(self, logits: Array, mask: Array, controls: Any) -> Array:
        """Sigmoid of the logits minus the log of the number of permitted keys."""
        seen = jnp.maximum(mask.sum(-1, keepdims=True), 1).astype(logits.dtype)
        return jnp.where(mask, jax.nn.sigmoid(logits - jnp.log(seen)), 0.0)

    @override
    def attend_from(self, plan: BlockPlan, query: Array, key: Array, value: Array, causal: bool, given: Given) -> Array:
        query_length, key_length = query.shape[1], key.shape[1]
        permitted = jnp.ones((1, key_length), bool) if given.key_mask is None else given.key_mask
        seen = jnp.cumsum(permitted, axis=1)
        if causal:
            seen = seen[:, plan.first_query : plan.first_query + query_length]
        else:
            seen = jnp.broadcast_to(seen[:, -1:], (seen.shape[0], query_length))
        shift = jnp.log(jnp.maximum(seen, 1).astype(accumulation_dtype(query.dtype)))
        return block_sigmoid(plan, query, key, value, shift, key_mask=given.key_mask, bias=given.bias)
