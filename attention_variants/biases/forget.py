"""What forget gates add to attention logits: the log of what is left of a key when a query reads it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# Stands for the log of a closed gate. Next to it, all other gates round away, but not from `rest`. Its multiples are
# exact.
_CLOSED = -(2.0**100)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ForgetBias:
    """The sum of log gates over j < t <= i, for query i and key j <= i; see `interface.Bias`.

    It is the difference of two running sums. Both are kept in two parts, so that a weak gate after many strong ones
    keeps its digits: near -28000, float32 resolves nothing below 0.002. A closed gate, whose log is -inf, gives -inf.
    """

    sums: Any  # [batch, length, num_kv_heads], running sums, as far as they fit
    rest: Any  # [batch, length, num_kv_heads], what rounding took from them
    first: Any  # the position of the first token; None is 0
    bias: Any  # added, if not None
    group: int = dataclasses.field(metadata={"static": True})  # query heads per key-value head

    def block(self, query_positions: Int[Array, " query"], key_positions: Int[Array, " key"]) -> Array:
        """Returns the bias [batch, num_heads, query, key], which is meaningless for keys after the query."""
        block = self._difference(self.sums, query_positions, key_positions)
        block = block + self._difference(self.rest, query_positions, key_positions)
        block = block + lax.stop_gradient(jnp.where(block <= _CLOSED / 2, -jnp.inf, 0.0))
        block = jnp.repeat(block, self.group, axis=1)
        if self.bias is None:
            return block
        return block + self.bias.block(query_positions, key_positions)[None].astype(block.dtype)

    def _difference(self, sums: Array, query_positions: Array, key_positions: Array) -> Array:
        queries, keys = (
            jnp.moveaxis(sums[:, positions if self.first is None else positions - self.first], 1, 2)
            for positions in (query_positions, key_positions)
        )
        return queries[..., :, None] - keys[..., None, :]


def forget_bias(
    log_gate: Float[Array, "batch length num_kv_heads"],
    group: int,
    bias: Any = None,
    first: Int[Array, ""] | None = None,
) -> ForgetBias:
    """Returns the bias of log gates, <= 0, plus another one.

    Args:
      log_gate: [batch, length, num_kv_heads], the log of what is left of the past as this token arrives; -inf: nothing.
      group: query heads per key-value head.
      bias: what else is added to the logits.
      first: the position of the first of these tokens; None is 0.
    """
    log_gate = jnp.where(log_gate < _CLOSED, _CLOSED, log_gate)
    sums = jnp.cumsum(log_gate, axis=1)
    added = jnp.diff(sums, axis=1, prepend=0)
    rest = lax.stop_gradient(jnp.cumsum(log_gate - added, axis=1))
    return ForgetBias(sums, rest, first, bias, group)
