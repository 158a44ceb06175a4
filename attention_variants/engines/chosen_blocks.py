"""Softmax attention in which every query has a short list of key blocks of its own; memory linear in length.

Nothing is gathered per query but the query itself. All (query, block) choices are sorted by block and laid into tiles
of a few queries that share one block, as a mixture of experts sends its tokens to experts; a tile is then one ordinary
matrix product. How many tiles there are depends on the choices, but never exceeds a bound known before tracing, so the
cost is exact; unused tiles do nothing. Online softmax joins the blocks of a query, as in `block_softmax`, and the
backward pass recomputes the weights of each tile from the saved log-normaliser.

The place of a query within a tile depends only on how many earlier queries chose the block: the future changes no bit.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from attention_variants.arrays import Keys, Outputs, Queries, Values, accumulation_dtype, rounded
from attention_variants.engines.block_softmax import shift_and_share
from attention_variants.engines.blocks import cut_keys

_LARGEST_TILE = 64  # queries


class _Tiles(NamedTuple):
    """Which queries meet which block, for one head."""

    rows: Int[Array, "tiles tile"]  # queries; query_length where a place is empty
    block: Int[Array, " tiles"]


def chosen_blocks_softmax(
    query: Queries,
    key: Keys,
    value: Values,
    chosen: Int[Array, "batch num_heads query_length chosen"],
    block_size: int,
    *,
    causal: bool,
    key_mask: Bool[Array, "batch key_length"] | None = None,
    first_position: int | Int[Array, ""] = 0,
) -> Outputs:
    """Softmax attention of scaled products over the keys of the chosen blocks.

    Args:
      query: [batch, query_length, num_heads, head_dim].
      key: [batch, key_length, num_kv_heads, head_dim]; masked keys hold finite values.
      value: [batch, key_length, num_kv_heads, value_dim].
      chosen: the blocks of each query and head, without repetition; -1 chooses none.
      block_size: keys per block; the last may be ragged.
      causal: whether keys past a query's position are left out.
      key_mask: [batch, key_length], True = may be attended.
      first_position: the position of the first query; the others follow it. Keys start at 0.

    Returns:
      [batch, query_length, num_heads, value_dim] in float32 (float64 for such inputs); 0 where no key is chosen.
    """
    (batch, length, num_heads, _), (_, key_length, num_kv_heads, _) = query.shape, key.shape
    blocks = -(-key_length // block_size)
    permitted = jnp.ones(key.shape[:2], bool) if key_mask is None else key_mask
    permitted = cut_keys(permitted[..., None, None], block_size)[..., 0, 0]
    key, value = (jnp.moveaxis(cut_keys(array, block_size), 3, 1) for array in (key, value))
    tile, num_tiles = _tiling(length, blocks, chosen.shape[3], block_size)
    one_head = functools.partial(_one_head, causal, (tile, num_tiles), first_position + jnp.arange(length))
    all_heads = jax.vmap(jax.vmap(jax.vmap(one_head, (0, None, None, None, 0)), (0, 0, 0, None, 0)))
    query, chosen = (
        array.reshape(batch, num_kv_heads, num_heads // num_kv_heads, length, -1)
        for array in (query.swapaxes(1, 2), chosen)
    )
    out = all_heads(query, key, value, permitted, chosen)
    return out.reshape(batch, num_heads, length, -1).swapaxes(1, 2)


def chosen_pairs(query_length: int, key_length: int, num_chosen: int, block_size: int) -> int:
    """Pairs of a query and a key whose logit and output are computed: all those of the tiles."""
    tile, num_tiles = _tiling(query_length, -(-key_length // block_size), num_chosen, block_size)
    return num_tiles * tile * block_size


def _tiling(query_length: int, blocks: int, chosen: int, block_size: int) -> tuple[int, int]:
    """Returns queries per tile and the most tiles that `chosen` distinct blocks per query can fill."""
    tile = min(_LARGEST_TILE, block_size, query_length)
    chosen = min(chosen, blocks)
    # Every block begins its own tile, and wastes most when its last tile holds a single query.
    return tile, min(query_length * chosen, (query_length * chosen + blocks * (tile - 1)) // tile)


def _one_head(
    causal: bool,
    tiling: tuple[int, int],
    positions: Array,
    query: Array,
    key: Array,
    value: Array,
    permitted: Array,
    chosen: Array,
) -> Array:
    """Query [length, dim], key and value [blocks, block, dim], permitted [blocks, block], chosen [length, chosen]."""
    tiles = _lay_tiles(chosen, len(key), *tiling)
    return _attention(causal, query, key, value, permitted, positions, tiles)


def _lay_tiles(chosen: Array, blocks: int, tile: int, num_tiles: int) -> _Tiles:
    """Lays the queries that chose a block into tiles of that block, in order, block after block."""
    length = len(chosen)
    order, in_order = _stable_order(jnp.where(chosen < 0, blocks, chosen).reshape(-1), blocks + 1)
    first = jnp.searchsorted(in_order, jnp.arange(blocks + 1))  # of the choices of each block, in `order`
    count = jnp.append(first[1:] - first[:-1], 0)
    last_tile = jnp.cumsum(-(-count // tile))
    tiles = jnp.arange(num_tiles)
    tile_block = jnp.searchsorted(last_tile[:-1], tiles, side="right")  # `blocks` for an unused tile
    first_tile = jnp.where(tile_block > 0, last_tile[tile_block - 1], 0)
    rank = (tiles - first_tile)[:, None] * tile + jnp.arange(tile)[None, :]
    query = order.at[first[tile_block][:, None] + rank].get(mode="clip") // chosen.shape[1]
    rows = jnp.where(rank < count[tile_block][:, None], query, length)
    return _Tiles(rows, jnp.minimum(tile_block, blocks - 1))


def _stable_order(labels: Array, number: int) -> tuple[Array, Array]:
    """Returns the stable sorting order of labels in [0, number), and the labels in that order."""
    size = len(labels)
    if number * size > jnp.iinfo(jnp.int32).max:
        order = jnp.argsort(labels, stable=True)
        return order, labels[order]
    # XLA on CPU sorts one array several times as fast as a pair.
    codes = jnp.sort(labels.astype(jnp.int32) * size + jnp.arange(size, dtype=jnp.int32))
    return codes % size, codes // size


def _for_tiles(tiles: _Tiles, body: Callable[[Any, Array, Array], Any], carry: Any) -> Any:
    return lax.scan(lambda carry, tile: (body(carry, *tile), None), carry, tiles)[0]


def _rows(array: Array, rows: Array, filler: float = 0.0) -> Array:
    return array.at[rows].get(mode="fill", fill_value=filler)


def _logits(
    causal: bool, query: Array, key: Array, permitted: Array, positions: Array, rows: Array, block: Array
) -> Array:
    """Logits of one tile, -inf where a key may not be seen; [tile, block]."""
    logits = _contract("qd,kd->qk", _rows(query, rows), key[block]) / math.sqrt(query.shape[-1])
    seen = permitted[block][None, :] & (rows < len(query))[:, None]
    if causal:
        keys = block * key.shape[1] + jnp.arange(key.shape[1])
        seen = seen & (keys[None, :] <= positions.at[rows].get(mode="clip")[:, None])
    return jnp.where(seen, rounded(logits), -jnp.inf)


def _contract(equation: str, left: Array, right: Array) -> Array:
    return jnp.einsum(equation, left, right, preferred_element_type=accumulation_dtype(left.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    causal: bool, query: Array, key: Array, value: Array, permitted: Array, positions: Array, tiles: _Tiles
) -> Array:
    """Online softmax over all tiles, [length, value_dim]."""
    return _online_softmax(causal, query, key, value, permitted, positions, tiles)[0]


def _online_softmax(
    causal: bool, query: Array, key: Array, value: Array, permitted: Array, positions: Array, tiles: _Tiles
) -> tuple[Array, Array, Array]:
    """The output, the largest logit, and the sum of exp(logits - largest)."""
    dtype, length = accumulation_dtype(query.dtype), len(query)
    carry = (
        jnp.zeros((length, value.shape[-1]), dtype),  # output, not yet normalised
        jnp.full(length, -jnp.inf, dtype),  # highest logit so far
        jnp.zeros(length, dtype),  # normaliser
    )

    def body(carry: Any, rows: Array, block: Array) -> Any:
        out, highest, total = carry
        logits = _logits(causal, query, key, permitted, positions, rows, block)
        old_highest = _rows(highest, rows, -jnp.inf)
        new_highest = jnp.maximum(old_highest, logits.max(-1))
        shift = jnp.where(new_highest == -jnp.inf, 0.0, new_highest)
        weights, decay = jnp.exp(logits - shift[:, None]), jnp.exp(old_highest - shift)
        new_out = _rows(out, rows) * decay[:, None] + _contract("qk,kd->qd", weights.astype(value.dtype), value[block])
        new_total = _rows(total, rows) * decay + weights.sum(-1)
        return tuple(
            old.at[rows].set(new, mode="drop")
            for old, new in ((out, new_out), (highest, new_highest), (total, new_total))
        )

    out, highest, total = _for_tiles(tiles, body, carry)
    return out / jnp.where(total == 0, 1.0, total)[:, None], highest, total


def _attention_forward(
    causal: bool, query: Array, key: Array, value: Array, permitted: Array, positions: Array, tiles: _Tiles
) -> Any:
    out, highest, total = _online_softmax(causal, query, key, value, permitted, positions, tiles)
    return out, (query, key, value, permitted, positions, tiles, out, shift_and_share(highest, total))


def _attention_backward(causal: bool, saved: Any, d_out: Array) -> Any:
    """With weights p: d logits = p * (d out . value - d out . out)."""
    query, key, value, permitted, positions, tiles, out, (shift, share) = saved
    d_out = share[:, None] * d_out  # as p is a factor of all that follows
    dtype, scale = out.dtype, 1 / math.sqrt(query.shape[-1])
    shared = (d_out * out).sum(-1)

    def body(carry: Any, rows: Array, block: Array) -> Any:
        d_query, d_key, d_value = carry
        logits = _logits(causal, query, key, permitted, positions, rows, block)
        weights = jnp.exp(logits - _rows(shift, rows)[:, None])
        rows_d_out = _rows(d_out, rows)
        d_weights = _contract("qd,kd->qk", rows_d_out, value[block].astype(dtype))
        d_logits = weights * (d_weights - _rows(shared, rows)[:, None]) * scale
        d_query = d_query.at[rows].add(_contract("qk,kd->qd", d_logits, key[block].astype(dtype)), mode="drop")
        d_key = d_key.at[block].add(_contract("qk,qd->kd", d_logits, _rows(query, rows).astype(dtype)))
        d_value = d_value.at[block].add(_contract("qk,qd->kd", weights, rows_d_out))
        return d_query, d_key, d_value

    gradients = _for_tiles(tiles, body, tuple(jnp.zeros(array.shape, dtype) for array in (query, key, value)))
    like = (gradient.astype(array.dtype) for gradient, array in zip(gradients, (query, key, value), strict=True))
    return *like, None, None, None


_attention.defvjp(_attention_forward, _attention_backward)
