"""Locality-sensitive hashing attention: every query sees the keys that fall into its bucket."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants.arrays import accumulation_dtype, dense_logits, masked_softmax
from attention_variants.checks import check_integer
from attention_variants.engines.gathered_softmax import gathered_pairs, gathered_softmax
from attention_variants.engines.lsh_buckets import bucket_mates, listed_keys
from attention_variants.families.key_value_caches import empty_cache, put
from attention_variants.interface import BYTES_PER_SCALAR, AttentionVariant, Cost, HeadSizes
from attention_variants.patterns.matrices import every_key


class BucketCache(NamedTuple):
    """All keys and values, and the buckets of the keys; slot s holds position s."""

    key: Float[Array, "batch max_length num_kv_heads head_dim"]
    value: Float[Array, "batch max_length num_kv_heads value_dim"]
    buckets: Int[Array, "batch max_length num_kv_heads num_hashes"]
    length: Int[Array, ""]  # tokens seen so far
    max_length: Int[Array, ""]  # tokens it was made for


@dataclasses.dataclass(frozen=True, kw_only=True)
class LshAttention(AttentionVariant):
    """Softmax attention over the query's own key and the nearest `bucket_size` keys of its hash bucket, in every round.

    ::

        output_i = sum_j softmax_j(query_i . key_j / sqrt(head_dim)) value_j
        over j = i and, for each round r, the last bucket_size keys j <= i with hash_r(key_j) = hash_r(query_i)
        hash_r(x) = argmax([x R_r; -x R_r]),   R_r [head_dim, num_buckets / 2] normal, fixed by the seed

    If not causal, a query sees bucket_size // 2 + 1 keys of its bucket up to its own position and
    (bucket_size - 1) // 2 after it. A single bucket with `bucket_size` w is a sliding window of w keys. The choice has
    no gradient.

    Attributes:
      bucket_size: keys of its bucket that a query sees in one round.
      num_buckets: 1, or even.
      num_hashes: rounds; a query sees the union of what they find.
      seed: fixes the rotations, which heads and layers share.

    References:
      Kitaev et al. 2020, "Reformer: The Efficient Transformer", arXiv:2001.04451, section 2. There, sorted tokens are
      cut into chunks, whose borders move with later tokens; our queries look along their bucket, so that the future
      cannot leak in. There, queries and keys are the same, and a token sees itself only if it sees nothing else; ours
      differ, and a token always sees itself. There, keys are the queries at unit length, so that the hash and the score
      agree; our keys keep their length, which the hash does not see. A key found in several rounds counts once in the
      paper too (its N_ij).
    """

    bucket_size: int = 32
    num_buckets: int = 16
    num_hashes: int = 4
    seed: int = 0

    supports_cross = False
    claims_growth = True
    family = "softmax, chosen by content"
    cost_order = "length * num_hashes * bucket_size"
    state_order = "length * (head_dim + value_dim)"
    paper = "Kitaev et al. 2020, arXiv:2001.04451"
    size_field = "bucket_size"
    examples = {16: "bucket_size=3,num_buckets=4", 128: "bucket_size=8,num_buckets=8,num_hashes=2"}

    def __post_init__(self) -> None:
        ranges = {"bucket_size": (1, 2**30), "num_buckets": (1, 2**16), "num_hashes": (1, 2**8), "seed": (0, 2**30)}
        for name, (least, most) in ranges.items():
            check_integer(name, getattr(self, name), least, most)
        if self.num_buckets > 1 and self.num_buckets % 2:
            raise ValueError(f"`num_buckets` must be 1 or even; got {self.num_buckets}.")

    @property
    @override
    def rotation_is_relative(self) -> bool:
        return False  # a hash depends on the direction of a key

    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        """Returns all True, or the lower triangle where causal: any of these keys may share a bucket."""
        return every_key(query_length, key_length, causal)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        """Ideal charges hashing and the most keys that a query can see."""
        hashed = query_length * heads.num_heads + key_length * heads.num_kv_heads
        hashing = 2 * hashed * heads.head_dim * self.num_hashes * (self.num_buckets // 2)
        listed = listed_keys(key_length, self.num_hashes, self.bucket_size)
        candidates = np.arange(1, query_length + 1) if causal else np.full(query_length, key_length)
        return Cost(
            executed_flops=hashing + heads.pair_flops * gathered_pairs(query_length, listed),
            ideal_flops=hashing + heads.pair_flops * int(np.minimum(candidates, listed).sum()),
            cache_bytes=key_length * (heads.token_bytes + BYTES_PER_SCALAR * heads.num_kv_heads * self.num_hashes),
        )

    @override
    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> BucketCache:
        empty = empty_cache(batch, max_length, heads, dtype)
        buckets = jnp.zeros((batch, max_length, heads.num_kv_heads, self.num_hashes), jnp.int32)
        return BucketCache(empty.key, empty.value, buckets, empty.length, empty.max_length)

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        return self._read(query, key, value, self._hash(key), causal, key_mask)

    def _read(
        self, query: Array, key: Array, value: Array, buckets: Array, causal: bool, key_mask: Any, first: Any = 0
    ) -> Array:
        """Attention of queries from position `first` on; keys start at position 0 and hash to `buckets`."""
        sizes = self.num_buckets, self._reach(causal)
        mates = bucket_mates(self._hash(query), buckets, *sizes, key_mask=key_mask, first_position=first)
        return gathered_softmax(query, key, value, mates)

    def _reach(self, causal: bool) -> tuple[int, int]:
        """Returns how many keys of its bucket a query sees up to its position, and how many after it."""
        return (self.bucket_size, 0) if causal else (self.bucket_size // 2 + 1, (self.bucket_size - 1) // 2)

    def _hash(self, x: Array) -> Array:
        """[batch, length, heads, head_dim] -> bucket in every round, [batch, length, heads, num_hashes]."""
        if self.num_buckets == 1:
            return jnp.zeros((*x.shape[:3], self.num_hashes), jnp.int32)
        shape = x.shape[3], self.num_hashes, self.num_buckets // 2
        rotations = np.random.RandomState(self.seed).standard_normal(shape).astype(np.float32)
        x = lax.stop_gradient(x.astype(accumulation_dtype(x.dtype)))
        rotated = jnp.einsum("blhd,drn->blhrn", x, jnp.asarray(rotations, x.dtype), precision="highest")
        return jnp.argmax(jnp.concatenate([rotated, -rotated], axis=-1), axis=-1).astype(jnp.int32)

    def _dense_weights(
        self, query: Array, key: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        query_length, key_length, num_heads = query.shape[1], key.shape[1], query.shape[2]
        buckets = jnp.repeat(self._hash(key), num_heads // key.shape[2], axis=2)
        mates = jnp.moveaxis(self._hash(query)[:, :, None] == buckets[:, None], 3, 1)  # head first, round last
        permitted = jnp.ones((1, key_length), bool) if key_mask is None else key_mask
        mates = mates & permitted[:, None, None, :, None]
        earlier = jnp.asarray(np.tril(np.ones((query_length, key_length), bool)))[None, None, :, :, None]
        before, after = self._reach(causal)
        nearest_before = jnp.cumsum((mates & earlier)[..., ::-1, :], axis=3)[..., ::-1, :] <= before
        nearest_after = jnp.cumsum(mates & ~earlier, axis=3) <= after
        seen = (mates & jnp.where(earlier, nearest_before, nearest_after)).any(-1)
        seen = seen | jnp.eye(query_length, key_length, dtype=bool)[None, None]
        return masked_softmax(dense_logits(query, key), seen & permitted[:, None, None, :])

    def _extend(
        self, cache: BucketCache, query: Array, key: Array, value: Array, *, bias: Any, controls: Any
    ) -> tuple[Array, BucketCache]:
        first = cache.length
        keys, values, buckets = (
            put(slots, new, first)
            for slots, new in ((cache.key, key), (cache.value, value), (cache.buckets, self._hash(key)))
        )
        out = self._read(query, keys, values, buckets, True, None, first)
        return out, BucketCache(keys, values, buckets, first + key.shape[1], cache.max_length)
