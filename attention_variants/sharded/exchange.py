"""What devices that share one sequence exchange; for use inside a `shard_map` over the length axis."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

State = TypeVar("State")


def with_neighbours(array: Array, axis: str, before: int, after: int) -> Array:
    """Returns a device's tokens with `before` and `after` tokens around them: zeros, or False, where there are none.

    Args:
      array: [batch, local_length, ...], the tokens of this device.
      axis: the mesh axis along which the length is split.
      before: how many tokens before its own a device wants; they may come from several devices.
      after: how many after them.

    Returns:
      [batch, before + local_length + after, ...].
    """
    number, local = lax.axis_size(axis), array.shape[1]

    def sent(tokens: Array, hop: int) -> Array:
        pairs = [(place, place + hop) for place in range(number) if 0 <= place + hop < number]
        return lax.ppermute(tokens, axis, pairs) if pairs else jnp.zeros_like(tokens)

    earlier, later = [], []
    for hop in range(1, -(-before // local) + 1):
        earlier.append(sent(array[:, max(hop * local - before, 0) :], hop))
    for hop in range(1, -(-after // local) + 1):
        later.append(sent(array[:, : min(after - (hop - 1) * local, local)], -hop))
    return jnp.concatenate([*reversed(earlier), array, *later], axis=1)


def gathered(array: Array, axis: str) -> Array:
    """Returns the tokens of all devices, [batch, length, ...]."""
    return lax.all_gather(array, axis, axis=1, tiled=True)


def incoming(own: Any, start: State, follow: Callable[[State, Any], State], axis: str) -> State:
    """Returns the state before the first token of this device.

    Args:
      own: what the tokens of this device do to a state; a pytree.
      start: the state before the first token of the sequence.
      follow: (state, what a device's tokens do to it) -> state after them.
      axis: the mesh axis along which the length is split.
    """
    everyone, states = lax.all_gather(own, axis), [start]
    for place in range(lax.axis_size(axis) - 1):
        states.append(follow(states[-1], jax.tree.map(lambda leaf, place=place: leaf[place], everyone)))
    return jax.tree.map(lambda *each: jnp.stack(each)[lax.axis_index(axis)], *states)
