"""Any attention variant as the mixer of a layer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from attention_variants import specs
from attention_variants.cost import count_flops
from attention_variants.interface import BYTES_PER_SCALAR, AttentionVariant, Cost, HeadSizes
from attention_variants.module import MultiHeadAttention
from attention_variants.registry import VARIANTS
from experiments.components.mixers import Call, LayerSizes, Mixer
from experiments.components.reach import Runs, causal_taps, check_pattern, pattern_runs, with_own


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attention(Mixer):
    """Multi-head attention by a variant, with positions, query-key norms and a short convolution if asked for."""

    variant: AttentionVariant

    attends = True

    def spec(self) -> str:
        """Returns that of the variant."""
        return specs.spec_of(self.variant, VARIANTS)

    def make_layer(self, sizes: LayerSizes, rngs: nnx.Rngs) -> MultiHeadAttention:
        """Returns projections around the variant."""
        return MultiHeadAttention(
            self.variant,
            sizes.model_dim,
            sizes.num_heads,
            num_kv_heads=sizes.num_kv_heads,
            position=sizes.position,
            qk_norm=sizes.qk_norm,
            short_conv=sizes.short_conv,
            rngs=rngs,
        )

    def runs(self, sizes: LayerSizes, length: int, causal: bool) -> tuple[Runs, ...]:
        """Returns the short convolution, then the pattern with the residual stream."""
        pattern = with_own(pattern_runs(self.variant, length, length, causal))
        return (causal_taps(length, sizes.short_conv), pattern) if sizes.short_conv > 1 else (pattern,)

    def check_length(self, length: int, causal: bool) -> None:
        """Raises ValueError where the pattern is too scattered for a row of this length."""
        check_pattern(self.variant, length, causal)

    def cost(self, sizes: LayerSizes, call: Call) -> Cost:
        """Returns the variant's cost, and the taps of the short convolution as state."""
        heads = HeadSizes(sizes.num_heads, sizes.num_kv_heads, sizes.head_dim, sizes.head_dim)
        cost = self.variant.cost(call.query_length, call.key_length, heads, call.causal)
        taps = BYTES_PER_SCALAR * sizes.short_conv * sizes.model_dim
        return cost._replace(cache_bytes=cost.cache_bytes + taps)

    def surplus_flops(self, layer: Any, sizes: LayerSizes, call: Call, batch_size: int) -> int:
        """Returns what forward and backward pass execute, less three times the ideal.

        Every product of the forward pass has two in the backward pass, and an ideal one recomputes nothing.
        """
        x = jax.ShapeDtypeStruct((batch_size, call.query_length, sizes.model_dim), jnp.float32)
        query = jax.ShapeDtypeStruct((*x.shape[:2], sizes.num_heads, sizes.head_dim), jnp.float32)
        key = jax.ShapeDtypeStruct((batch_size, call.key_length, sizes.num_kv_heads, sizes.head_dim), jnp.float32)
        controls = None
        if self.variant.has_controls:
            graph, params = nnx.split(layer.controls)
            controls = jax.eval_shape(lambda params, x: nnx.merge(graph, params)(x), params, x)

        def attend(query: Any, key: Any, value: Any, controls: Any) -> Any:
            return self.variant(query, key, value, causal=call.causal, controls=controls)

        def forward_and_backward(output_gradient: Any, *inputs: Any) -> Any:
            return jax.vjp(attend, *inputs)[1](output_gradient)

        executed = count_flops(forward_and_backward, query, query, key, key, controls)
        return executed - 3 * batch_size * self.cost(sizes, call).ideal_flops

    def control_params(self, layer: Any) -> int:
        """Returns the size of the variant's controls."""
        if not self.variant.has_controls:
            return 0
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(layer.controls)))
