"""Recurrences: each device processes its tokens, starting from the state that the devices before it leave.

What a device's tokens do to a state is linear in the state, and small: a decay and a sum for linear attention, a matrix
and a sum for the delta rule. Each device computes this first, all devices exchange it, and each applies it in order
from the first device to its own. So no device waits for another to process its tokens; the price is a second pass for
the delta rule, and one product of keys and values for linear attention.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attention_variants.engines import delta_rule, linear_recurrence
from attention_variants.engines.linear_recurrence import LinearState
from attention_variants.families.delta_rule import DeltaRuleVariant
from attention_variants.families.recurrent import Recurrence, RecurrentVariant
from attention_variants.sharded.exchange import incoming
from attention_variants.sharded.parts import Part


class _Step(NamedTuple):
    """What some tokens do to a state of linear attention: it decays by `left`, and `written` is added."""

    written: LinearState
    left: Float[Array, "batch num_kv_heads #head_dim"]


class _Turn(NamedTuple):
    """What some tokens do to a state of the delta rule: turn @ state + written."""

    turn: Float[Array, "batch num_kv_heads head_dim head_dim"]
    written: Float[Array, "batch num_kv_heads head_dim value_dim"]


def attend_recurrent(variant: RecurrentVariant, part: Part) -> Array:
    """Returns the output of this device's queries, by linear attention."""
    own = part.key.shape[1]
    positions = lax.axis_index(part.axis) * own + jnp.arange(own)
    found = variant.features(part.query, part.key, part.key_mask, part.controls, positions)
    if not part.causal:
        sums = linear_recurrence.write_sum(found.key, part.value, normalise=variant.normalised)
        return linear_recurrence.read_sum(found.query, lax.psum(sums, part.axis))
    step = _step(found, part.value, variant.normalised)
    start = jax.tree.map(jnp.zeros_like, step.written)
    return variant.recur(found, part.value, state=incoming(step, start, _followed, part.axis))[0]


def _step(found: Recurrence, value: Array, normalise: bool) -> _Step:
    """Returns what tokens do to a state. Log decays are summed from each token to the last, never subtracted."""
    key, (batch, own, num_kv_heads, _) = found.key, found.key.shape
    left = jnp.ones((batch, num_kv_heads, 1), key.dtype)
    if found.log_decay is not None:
        log_decay = found.log_decay if found.log_decay.ndim == 4 else found.log_decay[..., None]
        log_decay = jnp.broadcast_to(log_decay.astype(key.dtype), (batch, own, *log_decay.shape[2:]))
        since = jnp.cumsum(log_decay[:, ::-1], axis=1)[:, ::-1]  # from the token itself on
        behind = jnp.concatenate([since[:, 1:], jnp.zeros_like(since[:, :1])], axis=1)
        key, left = key * jnp.exp(behind), jnp.exp(since[:, 0])
    return _Step(linear_recurrence.write_sum(key, value, normalise=normalise), left)


def _followed(state: LinearState, step: _Step) -> LinearState:
    memory = state.memory * step.left[..., None] + step.written.memory
    if state.normaliser is None or step.written.normaliser is None:
        return LinearState(memory, None)
    return LinearState(memory, state.normaliser * step.left + step.written.normaliser)


def attend_delta_rule(variant: DeltaRuleVariant, part: Part) -> Array:
    """Returns the output of this device's queries, by the delta rule."""
    rule = variant.rule(part.query, part.key, part.value, part.controls)
    turn = _turn(rule)

    def followed(state: Array, turn: _Turn) -> Array:
        return jnp.einsum("bhde,bhef->bhdf", turn.turn, state) + turn.written

    state = incoming(turn, jnp.zeros_like(turn.written), followed, part.axis)
    return delta_rule.delta_rule(**rule, state=state)[0]


def _turn(rule: dict[str, Any]) -> _Turn:
    """Returns what tokens do to a state: the rule acts on each value channel separately.

    So channels that hold no values and start from the identity matrix end as the turn, beside those that are written.
    """
    key, value, length = rule["key"], rule["value"], rule["query"].shape[1]
    batch, writes, num_kv_heads, head_dim = key.shape
    nothing = jnp.zeros((batch, writes, num_kv_heads, head_dim), value.dtype)
    query = jnp.zeros((batch, length, num_kv_heads, head_dim), key.dtype)  # as few as possible: no output is used
    unit = jnp.broadcast_to(jnp.eye(head_dim, dtype=key.dtype), (batch, num_kv_heads, head_dim, head_dim))
    start = jnp.concatenate([jnp.zeros((*unit.shape[:3], value.shape[3]), key.dtype), unit], axis=-1)
    wide = rule | {"query": query, "value": jnp.concatenate([value, nothing], axis=-1)}
    end = delta_rule.delta_rule(**wide, state=start, return_state=True)[1]
    assert end is not None
    return _Turn(end[..., value.shape[3] :], end[..., : value.shape[3]])
