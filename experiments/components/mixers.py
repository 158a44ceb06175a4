"""What may mix the tokens of a layer in place of attention: a gated short convolution, and recurrent networks."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float

from attention_variants.checks import check_integer
from experiments.config.schema import MOST_TAPS

Stream = Float[Array, "batch length model_dim"]

_SCALAR_BYTES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerMixer(abc.ABC):
    """A frozen set of hyperparameters, named by a spec wherever that of an attention variant may stand."""

    summary: ClassVar[str]
    paper: ClassVar[str]

    @abc.abstractmethod
    def make_layer(self, model_dim: int, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the layer, with `__call__`, `init_cache` and `extend` like those of `MultiHeadAttention`."""

    @abc.abstractmethod
    def reach(self, length: int) -> Bool[np.ndarray, "length length"]:
        """Returns which outputs [row] depend on which inputs [column]."""

    @abc.abstractmethod
    def state_bytes(self, model_dim: int) -> int:
        """Returns the bytes that decoding one sequence carries, 4 a scalar."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedConvolution(LayerMixer):
    """The layer mixer `conv`: y = conv(u) * Linear(u) + u, with a causal depthwise convolution.

    It looks back in a model that reads both ways, too, as the convolution in front of attention's projections does.

    References:
      Arora et al. 2023, "Zoology", arXiv:2312.04927, the BaseConv layer; Arora et al. 2024, "Based", arXiv:2402.18668,
      which uses it with 3 taps before attention.
    """

    kernel_size: int = 3  # tokens that the convolution sees, the present one included

    summary = "gated short convolution: conv(u) * Linear(u) + u"
    paper = "Arora et al. 2023, arXiv:2312.04927"

    def __post_init__(self) -> None:
        check_integer("kernel_size", self.kernel_size, 1, MOST_TAPS)

    def make_layer(self, model_dim: int, rngs: nnx.Rngs) -> nnx.Module:
        """See `LayerMixer`."""
        return GatedConvolutionLayer(self, model_dim, rngs)

    def reach(self, length: int) -> Bool[np.ndarray, "length length"]:
        """Returns the band of the taps."""
        return causal_taps(length, self.kernel_size)

    def state_bytes(self, model_dim: int) -> int:
        """Charges all taps, as published counts do, though the present token needs no keeping."""
        return _SCALAR_BYTES * self.kernel_size * model_dim


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Recurrent(LayerMixer):
    """A recurrent cell of width model_dim, token after token."""

    cell: ClassVar[Any]
    states: ClassVar[int]  # vectors of width model_dim that it carries

    def make_layer(self, model_dim: int, rngs: nnx.Rngs) -> nnx.Module:
        """See `LayerMixer`."""
        cell = self.cell(model_dim, model_dim, rngs=rngs)
        return RecurrentLayer(type(self).__name__.lower(), cell, self.states, model_dim)

    def reach(self, length: int) -> Bool[np.ndarray, "length length"]:
        """Returns everything up to the present token."""
        return np.tril(np.ones((length, length), bool))

    def state_bytes(self, model_dim: int) -> int:
        """See `LayerMixer`."""
        return _SCALAR_BYTES * self.states * model_dim


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTM(_Recurrent):
    """The layer mixer `lstm`: a long short-term memory, Flax's cell with its matrices fused.

    References:
      Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8); with the forget gate of
      Gers et al. 2000.
    """

    cell = nnx.OptimizedLSTMCell
    states = 2
    summary = "long short-term memory"
    paper = "Hochreiter and Schmidhuber 1997"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRU(_Recurrent):
    """The layer mixer `gru`: a gated recurrent unit, Flax's cell, whose reset gate acts on the product with the state.

    References:
      Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", arXiv:1406.1078; there the reset
      gate acts on the state before it is multiplied.
    """

    cell = nnx.GRUCell
    states = 1
    summary = "gated recurrent unit"
    paper = "Cho et al. 2014, arXiv:1406.1078"


MIXERS: dict[str, type[LayerMixer]] = {"conv": GatedConvolution, "lstm": LSTM, "gru": GRU}


class ConvolutionCache(NamedTuple):
    """What a gated convolution carries while decoding."""

    history: Float[Array, "batch past model_dim"]  # its last kernel_size - 1 inputs


class _CausalLayer(nnx.Module):
    """A layer whose whole-sequence form is one long continuation of nothing."""

    directed: str | None = None  # the spec of a layer that has no place in a model that reads both ways

    def __call__(self, u: Stream, *, causal: bool = True, positions: Any = None) -> Stream:
        """Mixes a whole sequence; `positions` are for attention and not used here."""
        if not causal and self.directed is not None:
            raise NotImplementedError(
                f"the layer mixer {self.directed} is causal, but this model reads in both directions; use attention."
            )
        return self.extend(self.init_cache(u.shape[0], u.shape[1], u.dtype), u)[0]

    def init_cache(self, batch: int, max_length: int, dtype: Any) -> Any:
        """Returns the cache of an empty sequence; its size does not depend on `max_length`."""
        raise NotImplementedError

    def extend(self, cache: Any, u: Stream) -> tuple[Stream, Any]:
        """Continues a sequence by one or more tokens."""
        raise NotImplementedError


class GatedConvolutionLayer(_CausalLayer):
    """The parameters of a `GatedConvolution`."""

    def __init__(self, spec: GatedConvolution, model_dim: int, rngs: nnx.Rngs):
        kernel_init = nnx.initializers.normal(spec.kernel_size**-0.5)  # keeps the scale of u
        self.kernel = nnx.Param(kernel_init(rngs.params(), (spec.kernel_size, model_dim)))
        self.gate = nnx.Linear(model_dim, model_dim, rngs=rngs)

    def init_cache(self, batch: int, max_length: int, dtype: Any) -> ConvolutionCache:
        """See `_CausalLayer`."""
        past, model_dim = self.kernel.shape[0] - 1, self.kernel.shape[1]
        return ConvolutionCache(jnp.zeros((batch, past, model_dim), dtype))

    def extend(self, cache: ConvolutionCache, u: Stream) -> tuple[Stream, ConvolutionCache]:
        """See `_CausalLayer`."""
        kernel, length = self.kernel[...], u.shape[1]
        padded = jnp.concatenate([cache.history, u], axis=1)
        mixed = sum(padded[:, tap : tap + length] * kernel[None, None, tap] for tap in range(kernel.shape[0]))
        gate = self.gate(u.reshape(-1, u.shape[2])).reshape(u.shape)  # on one axis: see model.flat
        return mixed * gate + u, ConvolutionCache(padded[:, length:])


class RecurrentCache(NamedTuple):
    """What a recurrent network carries."""

    states: tuple[Float[Array, "batch model_dim"], ...]


class RecurrentLayer(_CausalLayer):
    """A Flax cell, run over the tokens of a sequence; its output is the hidden state."""

    def __init__(self, name: str, cell: Any, states: int, model_dim: int):
        self.directed, self.cell, self.states, self.model_dim = name, cell, states, model_dim

    def init_cache(self, batch: int, max_length: int, dtype: Any) -> RecurrentCache:
        """See `_CausalLayer`."""
        return RecurrentCache((jnp.zeros((batch, self.model_dim), dtype),) * self.states)

    def extend(self, cache: RecurrentCache, u: Stream) -> tuple[Stream, RecurrentCache]:
        """See `_CausalLayer`."""

        def step(states: tuple[Array, ...], x: Array) -> tuple[tuple[Array, ...], Array]:
            carry, out = self.cell(states if len(states) > 1 else states[0], x)
            return (carry if len(states) > 1 else (carry,)), out

        states, out = lax.scan(step, cache.states, jnp.moveaxis(u, 1, 0))
        return jnp.moveaxis(out, 0, 1), RecurrentCache(jax.tree.map(jnp.asarray, states))


def causal_taps(length: int, taps: int) -> Bool[np.ndarray, "length length"]:
    """Returns the band of a causal convolution: the position itself and the taps - 1 before it."""
    back = np.arange(length)[:, None] - np.arange(length)
    return (back >= 0) & (back < taps)
