"""Softmax attention with a sink: a learned logit that takes weight but has no value."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, masked_softmax
from attention_variants.engines.block_softmax import BlockPlan, block_softmax
from attention_variants.families.modified_softmax import ModifiedSoftmaxVariant
from attention_variants.families.static_pattern import Given
from attention_variants.interface import HeadSizes
from attention_variants.parameters import Undecayed


class SinkControls(NamedTuple):
    """The logits of the sinks, the same at every token."""

    sink: Float[Array, "1 1 num_heads"]


class Sink(nnx.Module):
    """x -> one learned logit per query head, the same for every x; initially 0."""

    def __init__(self, num_heads: int):
        self.logit = Undecayed(jnp.zeros((num_heads,)))

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> SinkControls:
        """Returns the logits."""
        return SinkControls(self.logit[...][None, None])


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftmaxSinkAttention(ModifiedSoftmaxVariant):
    """Full attention in which a head may attend to nothing.

    ::

        output_i = sum_j exp(l_ij) value_j / (exp(sink) + sum_j exp(l_ij)),   l_ij = query_i . key_j / sqrt(head_dim)

    over j <= i where causal. sink -> -inf is full attention. The output is computed as full attention times
    sigmoid(log sum_j exp(l_ij) - sink).

    Attributes:
      block_size: tokens per block of the engine; affects speed only, not the function.

    References:
      OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card", arXiv:2508.10925, section 2 (a learned sink per head).
      Miller 2023, "Attention Is Off By One", is sink = 0, where we begin.
    """

    controls_type = SinkControls
    paper = "OpenAI 2025, arXiv:2508.10925"

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns x -> SinkControls."""
        return Sink(heads.num_heads)

    def weigh(self, logits: Array, mask: Array, controls: SinkControls) -> Array:
        """Softmax over the keys and the sink; the sink's weight is dropped."""
        sink = jnp.moveaxis(controls.sink, 2, 1)[..., None].astype(logits.dtype)
        logits, mask = jnp.broadcast_arrays(logits, mask)
        with_sink = jnp.concatenate([logits, jnp.broadcast_to(sink, (*logits.shape[:3], 1))], axis=-1)
        return masked_softmax(with_sink, jnp.pad(mask, ((0, 0),) * 3 + ((0, 1),), constant_values=True))[..., :-1]

    @override
    def attend_from(self, plan: BlockPlan, query: Array, key: Array, value: Array, causal: bool, given: Given) -> Array:
        out, log_normaliser = block_softmax(plan, query, key, value, key_mask=given.key_mask, bias=given.bias)
        sink = given.controls.sink.astype(accumulation_dtype(query.dtype))
        return out * jax.nn.sigmoid(jnp.moveaxis(log_normaliser, 1, 2) - sink)[..., None]
