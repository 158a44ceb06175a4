"""Softmax attention to the query's own block and to the best others: what variants that choose blocks share.

A variant gives every block a key by which queries score it, in `_attend` and, from the definition, in `_dense_weights`.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from attention_variants.arrays import KeyMask, Keys, Outputs, Queries, Values, masked_softmax
from attention_variants.checks import check_integer
from attention_variants.engines.chosen_blocks import chosen_blocks_softmax, chosen_pairs
from attention_variants.engines.top_k import best_of_rows, scoring_flops, top_candidates
from attention_variants.interface import AttentionVariant, HeadSizes
from attention_variants.patterns.matrices import every_key

Members = Bool[Array, "#batch blocks length"]  # the unmasked keys of every block


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockChoiceVariant(AttentionVariant):
    """Attends to the query's own block and the `num_blocks - 1` best others; if causal, only finished earlier ones.

    Each query and head chooses for itself, without gradient; ties go to the earlier block. A block with no unmasked key
    is not a candidate.
    """

    block_size: int = 64
    num_blocks: int = 4

    supports_cross = False
    claims_growth = True
    family = "softmax, chosen by content"
    state_order = "length * (head_dim + value_dim)"
    size_field = "num_blocks"

    def __post_init__(self) -> None:
        check_integer("block_size", self.block_size, 1)
        check_integer("num_blocks", self.num_blocks, 1)

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True, or the lower triangle where causal: any of these keys may be in a chosen block."""
        return every_key(query_length, key_length, causal)

    def attend_chosen(
        self,
        query: Queries,
        key: Keys,
        value: Values,
        block_key: Float[Array, "batch blocks num_kv_heads head_dim"],
        *,
        block_mask: Bool[Array, "batch blocks"] | None = None,
        key_mask: KeyMask | None = None,
        causal: bool = True,
        first_position: int | Int[Array, ""] = 0,
    ) -> Outputs:
        """Chooses by query . block_key and attends; see `top_candidates` and `chosen_blocks_softmax`."""

        def is_candidate(position: Array, block: Array) -> Array:
            own = position // self.block_size
            return block < own if causal else block != own

        own = (first_position + jnp.arange(query.shape[1])) // self.block_size
        chosen = jnp.broadcast_to(own, (query.shape[0], query.shape[2], len(own)))[..., None]
        if self.num_blocks > 1:
            others = top_candidates(
                query,
                block_key,
                self.num_blocks - 1,
                is_candidate,
                candidate_mask=block_mask,
                first_position=first_position,
            )
            chosen = jnp.concatenate([chosen, others], axis=-1)
        return chosen_blocks_softmax(
            query, key, value, chosen, self.block_size, causal=causal, key_mask=key_mask, first_position=first_position
        )

    def chosen_cost(self, length: int, heads: HeadSizes, causal: bool) -> tuple[int, int]:
        """Returns executed and ideal FLOPs of `attend_chosen`; ideal leaves out the choice and what is masked."""
        blocks, position = -(-length // self.block_size), np.arange(length)
        executed = heads.pair_flops * chosen_pairs(length, length, self.num_blocks, self.block_size)
        if self.num_blocks > 1:
            executed += scoring_flops(length, blocks, heads.num_heads, heads.head_dim)
        own, others = position // self.block_size, self.num_blocks - 1
        if causal:
            seen = position % self.block_size + 1 + np.minimum(own, others) * self.block_size
        else:  # the last block may be shorter
            seen = np.minimum(self.block_size, length - own * self.block_size) + others * self.block_size
            seen = np.minimum(seen, length)
        return executed, heads.pair_flops * int(seen.sum())

    def members(self, length: int, key_mask: KeyMask | None) -> Members:
        """Returns which unmasked keys are in which block; for definitions."""
        block = np.arange(length) // self.block_size
        member = jnp.asarray(np.arange(block[-1] + 1)[:, None] == block[None, :])[None]
        return member if key_mask is None else member & key_mask[:, None, :]

    def chosen_weights(
        self,
        logits: Float[Array, "batch num_heads length length"],
        scores: Float[Array, "batch num_heads length blocks"],
        members: Members,
        causal: bool,
    ) -> Float[Array, "batch num_heads length length"]:
        """Returns the weights over the own block and the best ones; for definitions."""
        length, blocks = logits.shape[3], np.arange(scores.shape[3])
        own = np.arange(length) // self.block_size
        is_own = own[:, None] == blocks[None, :]
        others = blocks[None, :] < own[:, None] if causal else ~is_own
        candidates = jnp.asarray(others)[None, None] & members.any(2)[:, None, None, :]
        best = best_of_rows(lax.stop_gradient(scores), candidates, self.num_blocks - 1)
        chosen = best | jnp.asarray(is_own)[None, None]
        seen = jnp.asarray(self.pattern(length, length, causal))[None, None] & members.any(1)[:, None, None, :]
        return masked_softmax(logits, seen & chosen[..., own])
