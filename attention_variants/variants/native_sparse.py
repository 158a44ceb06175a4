"""Native sparse attention: compressed blocks, chosen blocks and a window, joined by learned gates."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants import patterns
from attention_variants.arrays import accumulation_dtype, dense_logits, masked_softmax
from attention_variants.checks import check_integer
from attention_variants.engines import compression
from attention_variants.engines.block_softmax import BlockPlan, block_softmax, make_plan
from attention_variants.engines.blocks import block_of_size
from attention_variants.engines.cached_softmax import attend_cached, attend_window
from attention_variants.engines.top_k import of_size_one
from attention_variants.families.block_choice import BlockChoiceVariant
from attention_variants.families.key_value_caches import empty_cache, empty_pair, put
from attention_variants.interface import Cost, HeadSizes
from attention_variants.parameters import Undecayed


class NativeSparseControls(NamedTuple):
    """What is learned in addition to queries, keys and values."""

    gates: Float[Array, "batch length num_heads 3"]  # of the compressed, the chosen and the window branch
    key_weights: Float[Array, "1 1 num_kv_heads block_size"]  # by which a block of keys is compressed
    value_weights: Float[Array, "1 1 num_kv_heads block_size"]


class GatesAndWeights(nnx.Module):
    """x -> gates sigmoid(W x + b), and compression weights, initially about 1 / block_size."""

    def __init__(self, model_dim: int, num_heads: int, num_kv_heads: int, block_size: int, *, rngs: nnx.Rngs):
        self.gates = nnx.Linear(model_dim, 3 * num_heads, rngs=rngs)
        weights = (1 + 0.1 * jax.random.normal(rngs.params(), (2, num_kv_heads, block_size))) / block_size
        self.key_weights, self.value_weights = Undecayed(weights[0]), Undecayed(weights[1])

    def __call__(self, x: Float[Array, "batch length model_dim"]) -> NativeSparseControls:
        """Returns gates and compression weights."""
        gates = jax.nn.sigmoid(self.gates(x)).reshape(*x.shape[:2], -1, 3)
        return NativeSparseControls(gates, self.key_weights[None, None], self.value_weights[None, None])


class CompressedCache(NamedTuple):
    """All keys and values, slot s holding position s, and the blocks compressed from them so far."""

    key: Float[Array, "batch max_length num_kv_heads head_dim"]
    value: Float[Array, "batch max_length num_kv_heads value_dim"]
    block_key: Float[Array, "batch blocks num_kv_heads head_dim"]
    block_value: Float[Array, "batch blocks num_kv_heads value_dim"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeSparseAttention(BlockChoiceVariant):
    """The gated sum of softmax attention to compressed blocks, to the keys of chosen blocks and to a window; causal.

    ::

        output_i = gate_i1 sum_B p_iB sum_(j in B) v_j value_j + gate_i2 chosen_i + gate_i3 window_i
        p_iB     = softmax_B(query_i . key_B / sqrt(head_dim)),   key_B = sum_(j in B) k_j key_j,   B finished at i

    k and v weight each position of a block, per key-value head. chosen_i is softmax attention to the query's own block
    and the num_blocks - 1 earlier ones with the largest p_iB, a choice without gradient; window_i is softmax attention
    to window_size keys.

    Attributes:
      block_size: keys per block.
      num_blocks: blocks of the second branch, the query's own included.
      window_size: keys of the third branch, the query's own included.

    References:
      Yuan et al. 2025, "Native Sparse Attention", arXiv:2502.11089, equations 5 to 12. There, an MLP compresses
      overlapping blocks, a group of query heads chooses together by the sum of its p, the first block and two local
      ones are always chosen, and each branch has its own keys. Ours compresses linearly; every head chooses alone.
    """

    window_size: int = 128

    supports_bidirectional = False
    normalised = False
    controls_type = NativeSparseControls
    cost_order = "length * (num_blocks * block_size + window_size + length / block_size)"
    paper = "Yuan et al. 2025, arXiv:2502.11089"
    examples = {16: "block_size=4,num_blocks=2,window_size=3", 128: "block_size=16,num_blocks=2,window_size=16"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("window_size", self.window_size, 1)

    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """Returns the module that makes gates and compression weights."""
        return GatesAndWeights(model_dim, heads.num_heads, heads.num_kv_heads, self.block_size, rngs=rngs)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Ideal charges the compression, finished blocks, chosen ones and the window."""
        plans = self._plans(query_length)
        widths = heads.num_kv_heads, heads.head_dim + heads.value_dim
        compress = compression.compress_flops(key_length, self.block_size, *widths)
        executed, ideal = self.chosen_cost(query_length, heads, causal)
        executed += compress + heads.pair_flops * sum(plan.executed_pairs() for plan in plans)
        pairs = sum(plan.pattern.count(plan.query_length, plan.key_length) for plan in plans)
        ideal += compress + heads.pair_flops * pairs
        return Cost(executed, ideal, heads.token_bytes * (key_length + plans[0].key_length))

    def _plans(self, length: int) -> tuple[BlockPlan, BlockPlan]:
        """Returns the block engine's plans for the first and the third branch."""
        compressed = make_plan(compression.FinishedBlocks(self.block_size), length, -(-length // self.block_size), 128)
        near = patterns.window(self.window_size, causal=True)
        return compressed, make_plan(near, length, length, block_of_size(self.window_size))

    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> CompressedCache:
        """Returns an empty cache, whose compressed blocks are float32 whatever `dtype`."""
        empty = empty_cache(batch, max_length, heads, dtype)
        blocks = -(-max_length // self.block_size)
        sums = empty_pair(batch, blocks, heads, accumulation_dtype(dtype))
        return CompressedCache(empty.key, empty.value, *sums, empty.length, empty.max_length)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        gates, key_weights, value_weights = _parts(controls)
        block_key, block_value = compression.compress(key, key_weights), compression.compress(value, value_weights)
        mask = None if key_mask is None else compression.any_key(key_mask, self.block_size)
        plans, wide = self._plans(query.shape[1]), query.astype(block_key.dtype)
        compressed, _ = block_softmax(plans[0], wide, block_key, block_value, key_mask=mask)
        chosen = self.attend_chosen(query, key, value, block_key, block_mask=mask, key_mask=key_mask)
        window, _ = block_softmax(plans[1], query, key, value, key_mask=key_mask)
        return _join(gates, compressed, chosen, window)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        gates, key_weights, value_weights = _parts(controls)
        logits, members = dense_logits(query, key), self.members(key.shape[1], key_mask)
        compressed = compression.dense_weights(logits, members, key_weights, value_weights)
        scores = compression.dense_scores(dense_logits(of_size_one(query), key), members, key_weights)
        near = np.triu(np.tril(np.ones(logits.shape[2:], bool)), 1 - self.window_size)
        window = masked_softmax(logits, jnp.asarray(near)[None, None] & members.any(1)[:, None, None, :])
        chosen = self.chosen_weights(logits, scores, members, causal)
        return _join(jnp.moveaxis(gates, 2, 1), compressed, chosen, window)

    def _extend(
        self, cache: CompressedCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, CompressedCache]:
        gates, key_weights, value_weights = _parts(controls)
        first, cache = cache.length, _append(cache, key, value, key_weights, value_weights)
        positions, blocks = first + jnp.arange(query.shape[1]), jnp.arange(cache.block_key.shape[1])
        finished = compression.FinishedBlocks(self.block_size).visible
        compressed = attend_cached(query, cache.block_key, cache.block_value, positions, blocks, finished)
        chosen = self.attend_chosen(query, cache.key, cache.value, cache.block_key, first_position=first)
        window = attend_window(query, cache.key, cache.value, self.window_size, first)
        return _join(gates, compressed, chosen, window), cache


def _append(
    cache: CompressedCache, key: Array, value: Array, key_weights: Array, value_weights: Array
) -> CompressedCache:
    """Returns the cache with the keys and values of new tokens."""
    first = cache.length
    return CompressedCache(
        put(cache.key, key, first),
        put(cache.value, value, first),
        compression.add_to_blocks(cache.block_key, key, key_weights, first),
        compression.add_to_blocks(cache.block_value, value, value_weights, first),
        first + key.shape[1],
        cache.max_length,
    )


def _join(gates: Array, compressed: Array, chosen: Array, window: Array) -> Array:
    gates = gates.astype(chosen.dtype)[..., None, :]
    return gates[..., 0] * compressed + gates[..., 1] * chosen + gates[..., 2] * window


def _parts(controls: NativeSparseControls) -> tuple[Array, Array, Array]:
    return controls.gates, controls.key_weights[0, 0], controls.value_weights[0, 0]
