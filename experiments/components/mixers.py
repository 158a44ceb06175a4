"""What mixes the tokens of a layer: attention, a convolution or a recurrent network, all under one protocol."""

import abc
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attention_variants.heads import head_sizes
from attention_variants.interface import Cost, HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.positions import NoPosition, Position
from experiments.components.reach import Reach, Runs, spread

Stream = Float[Array, "batch length model_dim"]


class LayerSizes(NamedTuple):
    """What a layer has in addition to its mixer: widths, and what stands around attention."""

    model_dim: int
    num_heads: int
    num_kv_heads: int
    position: Position = NoPosition()
    options: LayerOptions = LayerOptions()
    head_dim: int | None = None  # None: as the options say
    value_dim: int | None = None  # None: as the options say

    @property
    def heads(self) -> HeadSizes:
        """Heads of attention and their widths; raises ValueError for sizes that do not fit."""
        return head_sizes(
            self.model_dim, self.num_heads, self.num_kv_heads, self.head_dim, self.value_dim, self.options
        )


class Call(NamedTuple):
    """The shape of one call of a layer on one sequence."""

    query_length: int
    key_length: int
    causal: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixer(abc.ABC):
    """A frozen set of hyperparameters, named by a spec in `model.attention`. It holds no arrays."""

    attends: ClassVar[bool] = False  # whether positions and `LayerOptions` act in its layer
    summary: ClassVar[str]
    paper: ClassVar[str]

    @abc.abstractmethod
    def spec(self) -> str:
        """Returns the shortest spec; equal mixers have equal specs."""

    @abc.abstractmethod
    def make_layer(self, sizes: LayerSizes, rngs: nnx.Rngs) -> Any:
        """Returns the layer, with `__call__`, `init_cache` and `extend` like those of `MultiHeadAttention`."""

    @abc.abstractmethod
    def runs(self, sizes: LayerSizes, length: int, causal: bool) -> tuple[Runs, ...]:
        """Returns which outputs depend on which inputs, the residual stream included, as consecutive steps."""

    def check_length(self, length: int, causal: bool) -> None:
        """Raises ValueError where `runs` would take too long for a row of this length."""
        return

    def reach(self, sizes: LayerSizes, length: int, causal: bool) -> Reach:
        """Returns `runs` as a matrix: which outputs [row] depend on which inputs [column]."""
        return functools.reduce(
            lambda moved, step: spread(step, moved), self.runs(sizes, length, causal), np.eye(length, dtype=bool)
        )

    @abc.abstractmethod
    def cost(self, sizes: LayerSizes, call: Call) -> Cost:
        """Returns what mixing one sequence costs; an attention's projections are not part of it.

        `cache_bytes` is all that decoding carries; for a convolution, the inputs it reads again, one fewer than taps.
        """

    def portable(self) -> Self:
        """Returns the same mixer in operations that every platform has: what is counted, and measured at the start."""
        return self

    def surplus_flops(self, layer: Any, sizes: LayerSizes, call: Call, batch_size: int) -> int:
        """Returns the FLOPs of one training step beyond the ideal, for a `layer` whose parameters may be shapes.

        0 where the mixer computes nothing that its definition does not ask for.
        """
        return 0

    def decoding_surplus(self, layer: Any, sizes: LayerSizes, length: int, new: int) -> int:
        """Returns the FLOPs beyond the ideal for the last `new` tokens of one sequence, with the others in the cache.

        Args:
          layer: whose parameters may be shapes.
          sizes: of the layer.
          length: of the whole sequence, for which the cache is made.
          new: tokens that are read at once.
        """
        return 0

    def control_params(self, layer: Any) -> int:
        """Returns the number of parameters that a variant and its options add to those that all variants share."""
        return 0

    def as_published(self, sizes: LayerSizes, depth: int) -> tuple[Self, LayerSizes]:
        """Returns the mixer of layer `depth`, and its sizes, with what its paper puts around it."""
        return self, sizes
