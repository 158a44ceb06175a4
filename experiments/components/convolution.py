"""The mixer `conv`: a gated short convolution."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attention_variants import specs
from attention_variants.checks import check_integer
from attention_variants.engines.causal_convolution import causal_convolution
from attention_variants.interface import BYTES_PER_SCALAR, Cost
from attention_variants.surroundings import linear
from experiments.components.mixers import Call, LayerSizes, Mixer, Stream
from experiments.components.reach import Runs, causal_taps

MOST_TAPS = 64  # each is written out


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedConvolution(Mixer):
    """A gated short convolution: y = conv(u) * Linear(u) + u, with a causal depthwise convolution.

    It looks back even in a model that reads in both directions, as the convolution before attention's projections does.

    References:
      Arora et al. 2023, "Zoology", arXiv:2312.04927, the BaseConv layer; Arora et al. 2024, "Based", arXiv:2402.18668,
      which uses it with 3 taps before attention.
    """

    kernel_size: int = 3  # tokens that the convolution sees, the present one included

    summary = "gated short convolution: conv(u) * Linear(u) + u"
    paper = "Arora et al. 2023, arXiv:2312.04927"

    def __post_init__(self) -> None:
        check_integer("kernel_size", self.kernel_size, 1, MOST_TAPS)

    def spec(self) -> str:
        """Returns "conv", with the number of taps unless it is 3."""
        return specs.format_spec("conv", self)

    def make_layer(self, sizes: LayerSizes, rngs: nnx.Rngs) -> "GatedConvolutionLayer":
        """Returns the layer."""
        return GatedConvolutionLayer(self.kernel_size, sizes.model_dim, rngs)

    def runs(self, sizes: LayerSizes, length: int, causal: bool) -> tuple[Runs, ...]:
        """Returns the band of the taps."""
        return (causal_taps(length, self.kernel_size),)

    def cost(self, sizes: LayerSizes, call: Call) -> Cost:
        """Returns the cost of the gate's product; that of the taps is elementwise and not counted."""
        flops = 2 * call.query_length * sizes.model_dim**2
        return Cost(flops, flops, BYTES_PER_SCALAR * (self.kernel_size - 1) * sizes.model_dim)


class ConvolutionCache(NamedTuple):
    """What a gated convolution carries while decoding."""

    history: Float[Array, "batch past model_dim"]  # its last kernel_size - 1 inputs


class GatedConvolutionLayer(nnx.Module):
    """The parameters of a `GatedConvolution`."""

    def __init__(self, kernel_size: int, model_dim: int, rngs: nnx.Rngs):
        kernel_init = nnx.initializers.normal(kernel_size**-0.5)  # keeps the scale of u
        self.kernel = nnx.Param(kernel_init(rngs.params(), (kernel_size, model_dim)))
        self.gate = linear(model_dim, model_dim, rngs, use_bias=True)

    def __call__(self, u: Stream, *, causal: bool = True, positions: Any = None) -> Stream:
        """Mixes a whole sequence: the continuation of an empty one. `causal` and `positions` change nothing here."""
        return self.extend(self.init_cache(u.shape[0], u.shape[1], u.dtype), u)[0]

    def init_cache(self, batch: int, max_length: int, dtype: Any) -> ConvolutionCache:
        """Returns the cache of an empty sequence; its size does not depend on `max_length`."""
        past, model_dim = self.kernel.shape[0] - 1, self.kernel.shape[1]
        return ConvolutionCache(jnp.zeros((batch, past, model_dim), dtype))

    def extend(self, cache: ConvolutionCache, u: Stream) -> tuple[Stream, ConvolutionCache]:
        """Continues a sequence by one or more tokens."""
        mixed, history = causal_convolution(u, cache.history, self.kernel[...])
        # On one axis of tokens, which XLA on CPU multiplies several times faster than two.
        gate = self.gate(u.reshape(-1, u.shape[2])).reshape(u.shape)
        return mixed * gate + u, ConvolutionCache(history.astype(cache.history.dtype))
