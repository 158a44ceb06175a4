"""A position bias for tokens that an engine reads in another order or leaves out."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, Int

Positions = Callable[[Int[Array, " index"]], Int[Array, " index"]]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["bias"], meta_fields=["query_positions", "key_positions"]
)
@dataclasses.dataclass(frozen=True)
class MovedBias:
    """The bias of the positions that stand at given indices; see `interface.Bias`.

    Attributes:
      bias: a bias over positions.
      query_positions: index -> position of a query.
      key_positions: index -> position of a key.
    """

    bias: Any
    query_positions: Positions
    key_positions: Positions

    def block(
        self, query_indices: Int[Array, " query"], key_indices: Int[Array, " key"]
    ) -> Float[Array, "num_heads query key"]:
        """Returns the bias [num_heads, query, key] of these indices."""
        return self.bias.block(self.query_positions(query_indices), self.key_positions(key_indices))
