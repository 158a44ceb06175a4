"""Any attention variant as the mixer of a layer."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from attention_variants import specs
from attention_variants.cost import count_flops
from attention_variants.interface import BYTES_PER_SCALAR, AttentionVariant, Cost
from attention_variants.layer_options import LayerOptions
from attention_variants.module import MultiHeadAttention
from attention_variants.positions import NoPosition, make_position
from attention_variants.registry import VARIANTS
from experiments.components.mixers import Call, LayerSizes, Mixer
from experiments.components.reach import Runs, causal_taps, check_pattern, pattern_runs, taps_around, union

_DEFAULTS = dataclasses.asdict(LayerOptions())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attention(Mixer):
    """Multi-head attention by a variant, with positions and `LayerOptions` if asked for."""

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
            head_dim=sizes.head_dim,
            value_dim=sizes.value_dim,
            position=sizes.position,
            options=sizes.options,
            rngs=rngs,
        )

    def runs(self, sizes: LayerSizes, length: int, causal: bool) -> tuple[Runs, ...]:
        """Returns the convolutions and the token shift, then the pattern with the residual stream and the skip."""
        options = sizes.options
        taps = options.short_conv, 2 if options.token_shift != "none" else 0, options.qkv_conv
        before = [causal_taps(length, number) for number in taps if number > 1]
        own = taps_around(length, max(options.skip, 1), causal)
        return (*before, union(pattern_runs(self.variant, length, length, causal), own))

    def check_length(self, length: int, causal: bool) -> None:
        """Raises ValueError where the pattern is too scattered for a row of this length."""
        check_pattern(self.variant, length, causal)

    def cost(self, sizes: LayerSizes, call: Call) -> Cost:
        """Returns the variant's cost; its state includes what convolutions and token shift keep of earlier tokens."""
        heads, options = sizes.heads, sizes.options
        cost = self.variant.cost(call.query_length, call.key_length, heads, call.causal)
        query_heads, key_heads = (1, 1) if options.qk_shared else heads[:2]
        further = (self.variant.writes_per_token - 1) * heads.num_kv_heads
        keys, values = key_heads + further, heads.num_kv_heads + further
        projected = (query_heads + keys) * heads.head_dim + values * heads.value_dim
        kept = max(options.short_conv - 1, 0) * sizes.model_dim + max(options.qkv_conv - 1, 0) * projected
        kept += (options.token_shift != "none") * sizes.model_dim
        kept += max(options.skip - 1, 0) * heads.num_heads * heads.value_dim
        return cost._replace(cache_bytes=cost.cache_bytes + BYTES_PER_SCALAR * kept)

    def portable(self) -> "Attention":
        """Returns the mixer of the variant's portable form."""
        return dataclasses.replace(self, variant=self.variant.portable)

    def surplus_flops(self, layer: Any, sizes: LayerSizes, call: Call, batch_size: int) -> int:
        """Returns what forward and backward pass execute, less three times the ideal.

        Every product of the forward pass has two in the backward pass, and an ideal one recomputes nothing. At least 0:
        what chooses keys has no gradient, so less than three times the ideal may be executed.
        """
        query, key, value, controls = _inputs(layer, sizes, batch_size, call.query_length, call.key_length)
        output = jax.ShapeDtypeStruct((*query.shape[:3], sizes.heads.value_dim), jnp.float32)

        def attend(query: Any, key: Any, value: Any, controls: Any) -> Any:
            return self.variant(query, key, value, causal=call.causal, controls=controls)

        def forward_and_backward(output_gradient: Any, *inputs: Any) -> Any:
            return jax.vjp(attend, *inputs)[1](output_gradient)

        executed = count_flops(forward_and_backward, output, query, key, value, controls)
        return max(0, executed - 3 * batch_size * self.cost(sizes, call).ideal_flops)

    def decoding_surplus(self, layer: Any, sizes: LayerSizes, length: int, new: int) -> int:
        """Returns what `extend` executes, less what these tokens add to the ideal of the whole sequence.

        At least 0: where the ideal charges for pairs, because a recurrence costs more in a short row, one more token
        may add more to the ideal than the recurrence takes.
        """
        query, key, value, controls = _inputs(layer, sizes, 1, new, new)
        cache = jax.eval_shape(lambda: self.variant.init_cache(1, length, sizes.heads, jnp.float32))

        def extend(cache: Any, query: Any, key: Any, value: Any, controls: Any) -> Any:
            return self.variant.extend(cache, query, key, value, controls=controls)

        ideals = [self.cost(sizes, Call(n, n, True)).ideal_flops if n else 0 for n in (length, length - new)]
        return max(0, count_flops(extend, cache, query, key, value, controls) - (ideals[0] - ideals[1]))

    def control_params(self, layer: Any) -> int:
        """Returns the size of the variant's controls, and of what the options draw from their stream."""
        parts = (layer.controls, *layer.parts())
        return sum(leaf.size for part in parts if part is not None for leaf in jax.tree.leaves(nnx.state(part)))

    def as_published(self, sizes: LayerSizes, depth: int) -> tuple["Attention", LayerSizes]:
        """Returns the variant of that depth with its `paper_layer`; options and position of `sizes` take precedence."""
        own = {name: value for name, value in dataclasses.asdict(sizes.options).items() if value != _DEFAULTS[name]}
        variant = self.variant.at_depth(depth)
        position = sizes.position if sizes.position != NoPosition() else make_position(variant.paper_position)
        options = dataclasses.replace(variant.paper_layer, **own)
        return dataclasses.replace(self, variant=variant), sizes._replace(position=position, options=options)


def _inputs(layer: Any, sizes: LayerSizes, batch: int, query_length: int, key_length: int) -> tuple[Any, ...]:
    """Returns the shapes of query, key, value and controls in a layer, whose parameters may be shapes."""
    heads = sizes.heads

    def shape(*axes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *axes), jnp.float32)

    controls = None
    if layer.controls is not None:
        graph, params = nnx.split(layer.controls)
        x = shape(query_length, sizes.model_dim)
        controls = jax.eval_shape(lambda params, x: nnx.merge(graph, params)(x), params, x)
    query = shape(query_length, heads.num_heads, heads.head_dim)
    key = shape(key_length, heads.num_kv_heads, heads.head_dim)
    return query, key, shape(key_length, heads.num_kv_heads, heads.value_dim), controls
