"""The mixers `lstm` and `gru`: recurrent networks, token after token."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from attention_variants.interface import BYTES_PER_SCALAR, Cost
from experiments.components.mixers import Call, LayerSizes, Mixer, Stream
from experiments.components.reach import Runs, prefixes


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Recurrent(Mixer):
    """A recurrent cell of width model_dim."""

    name: ClassVar[str]
    cell: ClassVar[Any]
    states: ClassVar[int]  # vectors of width model_dim that it carries
    gates: ClassVar[int]  # vectors of that width that it computes from its input, and again from its state

    def spec(self) -> str:
        """Returns the name; there are no hyperparameters."""
        return self.name

    def make_layer(self, sizes: LayerSizes, rngs: nnx.Rngs) -> "RecurrentLayer":
        """Returns the layer."""
        cell = self.cell(sizes.model_dim, sizes.model_dim, rngs=rngs)
        return RecurrentLayer(self.name, cell, self.states, sizes.model_dim)

    def runs(self, sizes: LayerSizes, length: int, causal: bool) -> tuple[Runs, ...]:
        """Returns everything up to the present token."""
        return (prefixes(length),)

    def cost(self, sizes: LayerSizes, call: Call) -> Cost:
        """Returns the cost of the gates' products."""
        flops = 2 * call.query_length * 2 * self.gates * sizes.model_dim**2
        return Cost(flops, flops, BYTES_PER_SCALAR * self.states * sizes.model_dim)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LSTM(_Recurrent):
    """A long short-term memory: Flax's cell with its matrices fused.

    References:
      Hochreiter and Schmidhuber 1997, "Long Short-Term Memory", Neural Computation 9(8); with the forget gate of
      Gers et al. 2000.
    """

    name = "lstm"
    cell = nnx.OptimizedLSTMCell
    states = 2
    gates = 4
    summary = "long short-term memory"
    paper = "Hochreiter and Schmidhuber 1997"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GRU(_Recurrent):
    """A gated recurrent unit: Flax's cell, whose reset gate acts on the product with the state.

    References:
      Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder", arXiv:1406.1078; there the reset
      gate acts on the state before it is multiplied.
    """

    name = "gru"
    cell = nnx.GRUCell
    states = 1
    gates = 3
    summary = "gated recurrent unit"
    paper = "Cho et al. 2014, arXiv:1406.1078"


class RecurrentCache(NamedTuple):
    """What a recurrent network carries while decoding."""

    states: tuple[Float[Array, "batch model_dim"], ...]


class RecurrentLayer(nnx.Module):
    """A Flax cell, run over the tokens of a sequence; its output is the hidden state."""

    def __init__(self, name: str, cell: Any, states: int, model_dim: int):
        self.name, self.cell, self.states, self.model_dim = name, cell, states, model_dim

    def __call__(self, u: Stream, *, causal: bool = True, positions: Any = None) -> Stream:
        """Mixes a whole sequence: the continuation of an empty one. `positions` change nothing here.

        Raises:
          NotImplementedError: `causal` is False.
        """
        if not causal:
            raise NotImplementedError(
                f"the mixer {self.name} is causal, but this model reads in both directions; use attention."
            )
        return self.extend(self.init_cache(u.shape[0], u.shape[1], u.dtype), u)[0]

    def init_cache(self, batch: int, max_length: int, dtype: Any) -> RecurrentCache:
        """Returns the cache of an empty sequence, float32 as its states are, whatever `max_length` and `dtype`."""
        return RecurrentCache((jnp.zeros((batch, self.model_dim), jnp.float32),) * self.states)

    def extend(self, cache: RecurrentCache, u: Stream) -> tuple[Stream, RecurrentCache]:
        """Continues a sequence by one or more tokens, in float32; the output has the dtype of u."""

        def step(states: tuple[Array, ...], x: Array) -> tuple[tuple[Array, ...], Array]:
            carry, out = self.cell(states if len(states) > 1 else states[0], x)
            return (carry if len(states) > 1 else (carry,)), out

        states, out = lax.scan(step, cache.states, jnp.moveaxis(u.astype(jnp.float32), 1, 0))
        return jnp.moveaxis(out, 0, 1).astype(u.dtype), RecurrentCache(jax.tree.map(jnp.asarray, states))
