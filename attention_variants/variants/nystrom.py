"""Nystrom attention: softmax attention rebuilt from its values at a few landmarks."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, masked_softmax, repeat_heads, zero_masked
from attention_variants.checks import check_integer
from attention_variants.families.bidirectional import BidirectionalVariant
from attention_variants.interface import Cost, HeadSizes
from attention_variants.layer_options import LayerOptions

_MOST_ITERATIONS = 12  # (13 / 4)^12 is 1e6; times the rounding of float32, a tenth of the entries


@dataclasses.dataclass(frozen=True, kw_only=True)
class NystromAttention(BidirectionalVariant):
    """Softmax attention approximated through landmarks, the means of segments of the sequence.

    ::

        output = softmax(Q L_K^T) Z softmax(L_Q K^T) V,   products scaled by 1 / sqrt(head_dim)
        L_Q, L_K: means of Q and K over num_landmarks segments
        Z: pseudo-inverse of A = softmax(L_Q L_K^T) by iteration, Z_0 = A^T / (|A|_1 |A|_inf),
        Z_(n+1) = Z_n (13 - A Z_n (15 - A Z_n (7 - A Z_n))) / 4

    The unmasked tokens are cut into segments as evenly as possible, so that padding changes nothing; with fewer tokens
    than landmarks, each token is a segment. Weights may be negative and sum to 1 only where the iteration has
    converged.

    Range: where landmarks are equal or nearly so, A is singular, and every step may multiply the rounding error in its
    null space by 13 / 4. The default 6 steps cost up to three digits there. More than 12 could lose all digits, and are
    refused.

    Attributes:
      num_landmarks: segments.
      num_iterations: steps of the iteration, at most 12.

    References:
      Xiong et al. 2021, "Nystromformer", arXiv:2102.03902, equations 10, 13 and 14 (64 landmarks, 6 steps; the scheme
      is of Razavi et al. 2014). There, the length is padded to a multiple of num_landmarks, and padding enters the
      means. The published layer adds a depthwise convolution of the values to the output: the `skip` of `paper_layer`.
    """

    num_landmarks: int = 64
    num_iterations: int = 6

    normalised = False
    claims_growth = True
    family = "low rank"
    cost_order = "length * num_landmarks + num_landmarks^3"
    state_order = "none: bidirectional only"
    paper = "Xiong et al. 2021, arXiv:2102.03902"
    size_field = "num_landmarks"
    paper_layer = LayerOptions(skip=33)
    examples = {16: "num_landmarks=4", 128: "num_landmarks=32"}

    def __post_init__(self) -> None:
        check_integer("num_landmarks", self.num_landmarks, 1)
        check_integer("num_iterations", self.num_iterations, 1, _MOST_ITERATIONS)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Ideal is the cheaper of this and of all pairs."""
        length, landmarks = query_length, min(self.num_landmarks, query_length)
        means = 2 * (heads.num_heads + heads.num_kv_heads) * length * landmarks * heads.head_dim
        kernels = heads.pair_flops * (2 * length + landmarks) * landmarks  # and their products with the values
        inverse = 2 * heads.num_heads * 4 * self.num_iterations * landmarks**3
        executed = means + kernels + inverse
        return Cost(executed, min(executed, heads.pair_flops * length**2), cache_bytes=0)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        dtype, (batch, length, num_heads, head_dim) = accumulation_dtype(query.dtype), query.shape
        if key_mask is None:
            key_mask = jnp.ones((batch, length), bool)
        segments = _segments(key_mask, min(self.num_landmarks, length))
        exists = segments.any(-1)  # [batch, landmarks]
        means = segments.astype(dtype) / jnp.maximum(segments.sum(-1, keepdims=True), 1).astype(dtype)
        query, key, value = (array.astype(dtype) for array in (query, key, value))
        query = query.reshape(batch, length, key.shape[2], -1, head_dim) / math.sqrt(head_dim)
        marks_query = jnp.einsum("bmn,bnhgd->bhgmd", means, jnp.where(key_mask[:, :, None, None, None], query, 0.0))
        marks_key = jnp.einsum("bmn,bnhd->bhmd", means, key)
        both = exists[:, :, None] & exists[:, None, :]
        logits = jnp.einsum("bhgmd,bnhd->bhgmn", marks_query, key)
        from_keys = masked_softmax(logits, (exists[:, :, None] & key_mask[:, None, :])[:, None, None])
        between = masked_softmax(jnp.einsum("bhgld,bhmd->bhglm", marks_query, marks_key), both[:, None, None])
        logits = jnp.einsum("bnhgd,bhmd->bhgnm", query, marks_key)
        to_queries = masked_softmax(logits, exists[:, None, None, None, :])
        out = pseudo_inverse(between, self.num_iterations) @ jnp.einsum("bhgmn,bnhd->bhgmd", from_keys, value)
        return jnp.einsum("bhgnm,bhgmd->bnhgd", to_queries, out).reshape(batch, length, num_heads, -1)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        dtype, (batch, length, num_heads, head_dim) = accumulation_dtype(query.dtype), query.shape
        seen = jnp.ones((batch, length), bool) if key_mask is None else key_mask
        rank, count = jnp.cumsum(seen, axis=1) - 1, seen.sum(axis=1, keepdims=True)
        query, key = query.astype(dtype), repeat_heads(key, num_heads).astype(dtype)
        landmarks, marks_query, marks_key, exists = min(self.num_landmarks, length), [], [], []
        for n in range(landmarks):  # token r of `count` belongs to segment n where n <= r * landmarks / count < n + 1
            member = seen & (n * count <= rank * landmarks) & (rank * landmarks < (n + 1) * count)
            size = jnp.maximum(member.sum(axis=1), 1)[:, None, None].astype(dtype)
            marks_query.append(zero_masked(query, member).sum(axis=1) / size)
            marks_key.append(zero_masked(key, member).sum(axis=1) / size)
            exists.append(member.any(axis=1))

        def kernel(left: Array, right: Array, rows: Array, columns: Array) -> Array:
            logits = jnp.einsum("bqhd,bkhd->bhqk", left, right, precision="highest") / math.sqrt(head_dim)
            return masked_softmax(logits, (rows[:, :, None] & columns[:, None, :])[:, None])

        mark_query, mark_key, marks = jnp.stack(marks_query, 1), jnp.stack(marks_key, 1), jnp.stack(exists, 1)
        a = kernel(mark_query, mark_key, marks, marks)
        norms = a.sum(-2).max(-1) * a.sum(-1).max(-1)
        z = jnp.swapaxes(a, -1, -2) / jnp.where(norms == 0, 1.0, norms)[..., None, None]
        for _ in range(self.num_iterations):
            az = a @ z
            z = (13 * z - z @ (15 * az - 7 * az @ az + az @ az @ az)) / 4
        everyone = jnp.ones_like(seen)
        return kernel(query, mark_key, everyone, marks) @ z @ kernel(mark_query, key, marks, seen)


def pseudo_inverse(matrix: Float[Array, "*batch n n"], num_iterations: int) -> Float[Array, "*batch n n"]:
    """Approximates the pseudo-inverse of matrices with entries >= 0 whose rows sum to 1, or are 0 like their column."""
    columns = matrix.sum(-2).max(-1)  # |A|_1; |A|_inf is 1
    start = jnp.swapaxes(matrix, -1, -2) / jnp.where(columns == 0, 1.0, columns)[..., None, None]
    unit = jnp.eye(matrix.shape[-1], dtype=matrix.dtype).reshape((1,) * (matrix.ndim - 2) + matrix.shape[-2:])

    def step(_: Any, z: Array) -> Array:
        product = matrix @ z
        return z @ (13 * unit - product @ (15 * unit - product @ (7 * unit - product))) / 4

    return lax.fori_loop(0, num_iterations, step, start)


def _segments(mask: Bool[Array, "batch length"], num_segments: int) -> Bool[Array, "batch segments length"]:
    """Returns the unmasked tokens of each segment: in order, as even as possible; some are empty if tokens are few."""
    rank = jnp.cumsum(mask, axis=1) - 1
    segment = rank * num_segments // jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    return (segment[:, None, :] == jnp.arange(num_segments)[None, :, None]) & mask[:, None, :]
