"""Attention as a memory that is corrected token by token: what the delta-rule variants share.

A variant provides the module that makes its controls and, through `decay_shape`, says what decays; one whose tokens
write more than once also provides `writes_per_token`, `writes` and `_dense_values`. The fast path is the engine
`delta_rule`; `_dense_weights` follows each query back through the writes.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, repeat_heads
from attention_variants.checks import check_integer, check_number
from attention_variants.engines import delta_rule as engine
from attention_variants.interface import BYTES_PER_SCALAR, AttentionVariant, Cost, HeadSizes
from attention_variants.patterns.matrices import every_key

_SMALLEST_SQUARE = 1e-6  # keeps a zero key, such as a masked one, at zero with finite gradients


class DeltaControls(NamedTuple):
    """The learned inputs of the delta rule."""

    write_strength: Float[Array, "batch length num_kv_heads"]  # 0: writes nothing; 1: replaces; 2: reflects
    log_decay: Float[Array, "batch length num_kv_heads *head_dim"] | None = None  # <= 0; None: nothing decays


class Writes(NamedTuple):
    """What the tokens write; the writes of a token are consecutive."""

    key: Float[Array, "batch writes num_kv_heads head_dim"]  # before the feature map
    strength: Float[Array, "batch writes num_kv_heads"]


class DeltaCache(NamedTuple):
    """The memory; constant in length."""

    memory: Float[Array, "batch num_kv_heads head_dim value_dim"]  # from keys to values
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeltaRuleVariant(AttentionVariant):
    """Causal attention through a memory written by the delta rule. A subclass gives `make_controls` and the decays."""

    chunk_size: int = 64
    max_strength: float = 1.0

    supports_bidirectional = False
    supports_cross = False
    normalised = False
    claims_growth = True
    controls_type: ClassVar[type | None] = DeltaControls
    family = "delta rule"
    cost_order = "length * (chunk_size + head_dim) * head_dim"
    state_order = "head_dim * value_dim"

    def __post_init__(self) -> None:
        check_integer("chunk_size", self.chunk_size, 1)
        check_number("max_strength", self.max_strength, 0.0, 2.0, above_low=True)

    def decay_shape(self, num_kv_heads: int, head_dim: int) -> tuple[int, ...] | None:
        """Returns the shape of one token's `log_decay`; None where nothing decays."""
        return None

    def control_shapes(self, num_kv_heads: int, head_dim: int) -> dict[str, tuple[int, ...] | None]:
        """Returns the shapes of one token's controls; None for what is left out."""
        return {"write_strength": (num_kv_heads,), "log_decay": self.decay_shape(num_kv_heads, head_dim)}

    def writes(self, key: Array, controls: Any) -> Writes:
        """Returns keys and strengths of all writes; their values are `dense_values`."""
        return Writes(key, controls.write_strength)

    @property
    @override
    def rotation_is_relative(self) -> bool:
        return False  # SiLU acts channel by channel

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns the lower triangle."""
        return every_key(query_length, key_length, causal=True)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Ideal is the cheaper of all permitted pairs of a query and a write, and the token-by-token rule."""
        pairs, writes = query_length * (query_length + 1) // 2, self.writes_per_token
        decay = self.decay_shape(heads.num_kv_heads, heads.head_dim)
        executed = engine.chunked_flops(
            query_length,
            *heads,
            chunk_size=self.chunk_size,
            writes_per_token=writes,
            per_channel=decay is not None and len(decay) > 1,
        )
        recurrent = engine.recurrent_flops(query_length, *heads, writes_per_token=writes)
        return Cost(
            executed_flops=executed,
            ideal_flops=min(recurrent, heads.pair_flops * pairs * writes),
            cache_bytes=BYTES_PER_SCALAR * heads.num_kv_heads * heads.head_dim * heads.value_dim,
        )

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any:
        """The memory is float32 whatever `dtype`."""
        memory = engine.empty_state(batch, *heads[1:], dtype)
        return DeltaCache(memory, jnp.asarray(0, jnp.int32), jnp.asarray(max_length, jnp.int32))

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        return engine.delta_rule(**self.rule(query, key, value, controls))[0]

    def rule(self, query: Array, key: Array, value: Array, controls: Any) -> dict[str, Any]:
        """Returns the arguments of the engine, except the state."""
        key, strength = self.writes(key, controls)
        return {
            "query": unit_features(query),
            "key": unit_features(key),
            "value": self._dense_values(value, controls),
            "write_strength": strength,
            "log_decay": controls.log_decay,
            "chunk_size": self.chunk_size,
        }

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        """Follows u = query_i back: weight_ij = strength_j u . key_j, then u <- u - weight_ij key_j.

        Before the first write of a token, u also decays, as that token's past does.
        """
        (batch, length, num_heads, _), num_kv_heads = query.shape, key.shape[2]
        key, strength = self.writes(key, controls)
        query, key = unit_features(query), repeat_heads(unit_features(key), num_heads)
        strength = repeat_heads(strength.astype(key.dtype)[..., None], num_heads)
        log_decay = controls.log_decay
        if log_decay is None:
            log_decay = jnp.zeros((batch, length, num_kv_heads))
        log_decay = log_decay.reshape(batch, length, num_kv_heads, -1).astype(key.dtype)
        decay = jnp.ones((*key.shape[:3], log_decay.shape[3]), key.dtype)
        decay = decay.at[:, :: self.writes_per_token].set(jnp.exp(repeat_heads(log_decay, num_heads)))
        positions = jnp.arange(key.shape[1]) // self.writes_per_token

        def back(reader: Array, token: Any) -> tuple[Array, Array]:
            key, strength, decay, position = token
            seen = jnp.arange(length) >= position
            weight = jnp.einsum("bhqd,bhd->bhq", reader, key * strength, precision="highest")
            weight = jnp.where(seen, weight, 0.0)
            earlier = (reader - weight[..., None] * key[:, :, None]) * decay[:, :, None]
            return jnp.where(seen[:, None], earlier, reader), weight

        tokens = *(jnp.moveaxis(array, 1, 0) for array in (key, strength, decay)), positions
        _, weights = lax.scan(back, jnp.moveaxis(query, 1, 2), tokens, reverse=True)
        return jnp.moveaxis(weights, 0, -1)

    def _extend(
        self, cache: DeltaCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, DeltaCache]:
        rule = self.rule(query, key, value, controls)
        out, memory = engine.delta_rule(**rule, state=cache.memory, return_state=True)
        assert memory is not None
        return out, DeltaCache(memory, cache.length + key.shape[1], cache.max_length)

    def _check(
        self, query: Any, key: Any, value: Any, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> None:
        super()._check(query, key, value, causal=causal, key_mask=key_mask, bias=bias, controls=controls)
        shapes = self.control_shapes(*key.shape[2:])
        wanted = {name: None if shape is None else (*key.shape[:2], *shape) for name, shape in shapes.items()}
        given = {name: getattr(controls, name) for name in wanted}
        got = {name: None if leaf is None else leaf.shape for name, leaf in given.items()}
        if got != wanted:
            raise ValueError(f"`controls` of {type(self).__name__} must have the shapes {wanted}; got {got}.")


def unit_features(x: Float[Array, "batch length heads head_dim"]) -> Float[Array, "batch length heads head_dim"]:
    """Returns silu(x) / |silu(x)|, the feature map of queries and keys, at least in float32; 0 for 0."""
    x = jax.nn.silu(x.astype(accumulation_dtype(x.dtype)))
    return x * lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + _SMALLEST_SQUARE)
