"""What the decays of a chunk of tokens leave of what came before, for the linear recurrence.

Token i has exp(a_(j+1) + ... + a_i) left of what token j wrote, for log decays a <= 0. Only sums over the tokens
between the two are exponentiated, each summed by itself: as the difference of two longer sums, the log of a weak decay
that follows strong ones would be lost in rounding (-1e-6 next to -440 in float32), and so would its gradient. Nothing
exceeds exp(0), so nothing overflows.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Decays(NamedTuple):
    """Factors in [0, 1]; `channels` is 1 where one decay serves the whole key."""

    between: Float[Array, "batch kv_heads reader writer channels"]  # left of each key at each reader; future: 0
    from_start: Float[Array, "batch kv_heads reader channels"]  # left of the state before the chunk at each reader
    to_end: Float[Array, "batch kv_heads writer channels"]  # left of each key at the end of the chunk
    over: Float[Array, "batch kv_heads channels"]  # left of the state before the chunk at its end


def chunk_decays(
    log_decay: Float[Array, "batch kv_heads chunk channels"],
    bonus: Float[Array, "batch kv_heads chunk channels"] | None = None,
) -> Decays:
    """Returns the factors of one chunk.

    Args:
      log_decay: the log of what is left of the past when a token is written, <= 0.
      bonus: None: a token decays the past, writes, then reads. Otherwise it reads before it decays, and has weighted
        its own key by `bonus`.
    """
    chunk = log_decay.shape[2]
    earlier = jnp.tril(jnp.ones((chunk, chunk), bool), -1)[..., None]
    # between[i, j] = sum of the tokens after j up to i, for j < i.
    between = jnp.cumsum(jnp.where(earlier, log_decay[:, :, :, None], 0.0), axis=2)
    from_start = jnp.cumsum(log_decay, axis=2)
    to_end, over = jnp.exp(between[:, :, -1]), jnp.exp(from_start[:, :, -1])
    own: Any = 1.0
    if bonus is not None:
        own = bonus[:, :, :, None]
        between, from_start = _one_token_earlier(between), _one_token_earlier(from_start)
    own = jnp.where(jnp.eye(chunk, dtype=bool)[..., None], own, 0.0)
    return Decays(jnp.where(earlier, jnp.exp(between), own), jnp.exp(from_start), to_end, over)


def _one_token_earlier(sums: Array) -> Array:
    """Gives each reader, axis 2, the sums of the reader before it; the first one gets 0."""
    return jnp.concatenate([jnp.zeros_like(sums[:, :, :1]), sums[:, :, :-1]], axis=2)
