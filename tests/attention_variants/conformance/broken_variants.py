"""Variants with one fault each, and cases that are small, for the laws to catch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from attention_variants import arrays, patterns
from attention_variants.conformance import Case
from attention_variants.engines.top_k import best_of_rows
from attention_variants.families.delta_rule import DeltaControls
from attention_variants.variants.delta_product import DeltaProductAttention
from attention_variants.variants.differential import DifferentialAttention
from attention_variants.variants.full import FullAttention
from attention_variants.variants.gated_delta import GatedDeltaAttention
from attention_variants.variants.linear import LinearAttention
from attention_variants.variants.lsh import LshAttention
from attention_variants.variants.rwkv6 import Rwkv6Attention
from attention_variants.variants.sliding_window import SlidingWindowAttention
from attention_variants.variants.state_space import StateSpaceAttention
from attention_variants.variants.strided_sparse import StridedSparseAttention
from attention_variants.variants.topk import TopKAttention


class OneLength(Case):
    def lengths(self) -> tuple[int, ...]:
        return (self.length,)


# One mode each, so that a law compiles once.
class Window(SlidingWindowAttention):
    supports_bidirectional = supports_cross = False


class Linear(LinearAttention):
    supports_bidirectional = supports_cross = False


class Strided(StridedSparseAttention):
    supports_bidirectional = supports_cross = False


class Lsh(LshAttention):
    supports_bidirectional = False


class BothSides(FullAttention):
    supports_causal = supports_cross = False


class LinearBothSides(LinearAttention):
    supports_causal = supports_cross = False


WINDOW, LINEAR, STRIDED = Window(window_size=5), Linear(chunk_size=7), Strided(stride=4)
STATE_SPACE, LSH = StateSpaceAttention(chunk_size=7), Lsh(bucket_size=3, num_buckets=4, num_hashes=2)


class Differential(DifferentialAttention):
    supports_bidirectional = supports_cross = False


class TopK(TopKAttention):
    supports_bidirectional = False


TOP_K, DIFFERENTIAL = TopK(num_keys=3), Differential()
GATED_DELTA, RWKV = GatedDeltaAttention(chunk_size=7), Rwkv6Attention(chunk_size=7)
DELTA_PRODUCT = DeltaProductAttention(chunk_size=7)


class WiderWindow(Window):
    def block_pattern(self, query_length, key_length, causal):
        return patterns.window(self.window_size + 1, causal)


class NarrowerWindow(Window):
    def block_pattern(self, query_length, key_length, causal):
        return patterns.window(self.window_size - 1, causal)


class SeesTheFuture(Window):
    def block_pattern(self, query_length, key_length, causal):
        return patterns.Band(before=self.window_size - 1, after=1)


class ShowsTheFuture(Window):
    def pattern(self, query_length, key_length, causal):
        return patterns.Band(before=self.window_size - 1, after=1).matrix(query_length, key_length)


class WeightsOutsidePattern(Window):
    def _dense_weights(self, query, key, **options):
        return SlidingWindowAttention(window_size=6)._dense_weights(query, key, **options)


class ReadsLessThanItShows(Linear):
    def kernel(self, query, key, controls):
        near = patterns.Band(before=3, after=0).matrix(query.shape[1], key.shape[1])
        return super().kernel(query, key, controls) * near[None, None]


class BoastsOfAnotherState(Window):
    state_order = "window_size * head_dim * value_dim"


class DescribesItsState(Window):
    state_order = "a window of keys and values"


class DeclaresTheStateOfFull(Window):
    state_order = "length * (head_dim + value_dim)"


class BoastsOfRelativeRope(Linear):
    rotation_is_relative = True


class DeniesRelativeRope(Window):
    rotation_is_relative = False


class TurnsHalvesUnlike(Differential):
    rotated_parts = 1


class NotNormalised(Linear):
    def _dense_weights(self, query, key, **options):
        return 2 * super()._dense_weights(query, key, **options)


class IgnoresMask(BothSides):
    def _attend(self, query, key, value, *, key_mask, **options):
        return super()._attend(query, key, value, key_mask=None, **options)


class FeaturesOfMaskedKeys(LinearBothSides):
    def _attend(self, query, key, value, *, key_mask, **options):
        return super()._attend(query, key, value, key_mask=None, **options)


class KeepsMaskedValues(Window):
    def __call__(self, query, key, value, *, key_mask=None, causal=True, bias=None, controls=None):
        return self._attend(query, key, value, causal=causal, key_mask=key_mask, bias=bias, controls=controls)


class OneBufferTwice(Window):
    def _init_cache(self, *sizes_and_dtype):
        cache = super()._init_cache(*sizes_and_dtype)
        return cache._replace(value=cache.key)


class WidensItsCache(Linear):
    def extend(self, cache, query, key, value, **options):
        out, cache = super().extend(cache, query, key, value, **options)
        return out, cache._replace(memory=cache.memory.astype(jnp.promote_types(cache.memory.dtype, value.dtype)))


class AcceptsAnyMaxLength(Linear):
    def init_cache(self, *sizes_and_dtype):
        return self._init_cache(*sizes_and_dtype)


class KeepsMaskedControls(StateSpaceAttention):
    def _zero_masked_controls(self, controls, key_mask):
        return controls


class NeedsJaxArrays(Window):
    def __call__(self, query, key, value, **options):
        return super().__call__(query, key.at[:, :0].set(0), value, **options)


class ShortCache(Window):
    def cache_size(self, max_length):
        return min(self.window_size - 2, max_length)


class StuckCounter(Linear):
    def _extend(self, cache, query, key, value, **options):
        out, new = super()._extend(cache, query, key, value, **options)
        return out, new._replace(length=cache.length)


class ForgetsThePast(Linear):
    def _extend(self, cache, query, key, value, **options):
        return super()._extend(cache._replace(normaliser=0 * cache.normaliser), query, key, value, **options)


class CostWithoutNormaliser(Linear):
    def cost(self, query_length, key_length, heads, causal):
        cost = super().cost(query_length, key_length, heads, causal)
        missing = 2 * query_length * heads.num_heads * heads.head_dim
        return cost._replace(executed_flops=cost.executed_flops - missing)


class CostOfHalfACache(Window):
    def cost(self, query_length, key_length, heads, causal):
        cost = super().cost(query_length, key_length, heads, causal)
        return cost._replace(cache_bytes=cost.cache_bytes // 2)


class CostOfFloatsOnly(Lsh):
    """The integers of the cache, where keys hash to, are left out."""

    def cost(self, query_length, key_length, heads, causal):
        cost = super().cost(query_length, key_length, heads, causal)
        return cost._replace(cache_bytes=heads.token_bytes * key_length)


class CostOfEqualWidths(Window):
    def cost(self, query_length, key_length, heads, causal):
        cost = super().cost(query_length, key_length, heads, causal)
        return cost._replace(cache_bytes=2 * 4 * self.cache_size(key_length) * heads.num_kv_heads * heads.head_dim)


class CacheOfEqualWidths(Window):
    def _init_cache(self, batch, max_length, heads, dtype):
        return super()._init_cache(batch, max_length, heads._replace(value_dim=heads.head_dim), dtype)


class FlopsOfEqualWidths(Linear):
    def cost(self, query_length, key_length, heads, causal):
        return super().cost(query_length, key_length, heads._replace(value_dim=heads.head_dim), causal)


class OutputOfHeadDim(Window):
    def _attend(self, query, key, value, **options):
        return super()._attend(query, key, value, **options)[..., : query.shape[3]]


class BoastsOfIdealCost(Window):
    def cost(self, query_length, key_length, heads, causal):
        cost = super().cost(query_length, key_length, heads, causal)
        return cost._replace(ideal_flops=0)


class ClaimsSubquadratic(FullAttention):
    supports_bidirectional = supports_cross = False
    claims_growth = True


class QuadraticMemory(Linear):
    """The FLOPs keep their promise; a mask that is made whole does not."""

    def _attend(self, query, key, value, **options):
        length = query.shape[1]
        distance = (jnp.arange(length)[:, None] - jnp.arange(length)[None, :]).astype(query.dtype)
        decay = jnp.sort(jnp.sin(distance * query[0, 0, 0, 0]), axis=0)
        return super()._attend(query, key, value, **options) + decay.sum()


class TilesHeads(Window):
    def _attend(self, query, key, value, **options):
        group = query.shape[2] // key.shape[2]
        return super()._attend(query, jnp.tile(key, (1, 1, group, 1)), jnp.tile(value, (1, 1, group, 1)), **options)


class NoMaximum(Window):
    def _attend(self, query, key, value, *, causal, key_mask, bias, controls):
        logits = jnp.exp(arrays.dense_logits(query, key))
        weights = jnp.where(self.pattern(query.shape[1], key.shape[1], causal)[None, None], logits, 0.0)
        weights = weights / weights.sum(-1, keepdims=True)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, arrays.repeat_heads(value, query.shape[2]))


class CapsLogits(Window):
    """Finite at any input, and right at ordinary ones."""

    def _attend(self, query, key, value, *, causal, key_mask, bias, controls):
        logits = jnp.clip(arrays.dense_logits(query, key), -50.0, 50.0)
        seen = self.pattern(query.shape[1], key.shape[1], causal)[None, None]
        weights = arrays.masked_softmax(logits, jnp.asarray(seen))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, arrays.repeat_heads(value, query.shape[2]))


class LastOfEqualKeys(TopK):
    """The first of equal keys is chosen, in all but the definition."""

    def _dense_weights(self, query, key, *, causal, key_mask, bias, controls):
        logits = arrays.dense_logits(query, key)
        permitted = jnp.tril(jnp.ones(logits.shape[2:], bool))[None, None]
        chosen = best_of_rows(logits[..., ::-1], permitted[..., ::-1], self.num_keys)[..., ::-1]
        return arrays.masked_softmax(logits, chosen)


class RoundedPositions(Window):
    """In bfloat16, 257 is 256: right in float32, and right at short lengths."""

    def _attend(self, query, key, value, *, causal, key_mask, bias, controls):
        positions = jnp.arange(query.shape[1]).astype(query.dtype)
        distance = positions[:, None] - positions[None, :]
        seen = (distance >= 0) & (distance < self.window_size)
        weights = arrays.masked_softmax(arrays.dense_logits(query, key), seen[None, None])
        return jnp.einsum("bhqk,bkhd->bqhd", weights, arrays.repeat_heads(value, query.shape[2]))


class MixesTheBatch(Linear):
    def _attend(self, query, key, value, **options):
        out = super()._attend(query, key, value, **options)
        return out + 0.01 * out.mean(axis=0, keepdims=True)


class PromotesItsOutput(Window):
    def _attend(self, query, key, value, **options):
        return super()._attend(query, key, value, **options) * query[..., :1]


class WithoutEquality(Window):
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class IgnoresBias(Linear):
    def _check(self, query, key, value, *, bias, **options):
        super()._check(query, key, value, bias=None, **options)


class OnlyOnCpu(Window):
    def _attend(self, query, key, value, **options):
        gram = jnp.einsum("bqhd,bqhe->bhde", query, query, preferred_element_type=jnp.float32)
        rank = jnp.abs(jax.lax.linalg.eig(jax.lax.stop_gradient(gram))[0]).max()  # XLA has it for CPU alone
        return super()._attend(query, key, value, **options) / rank.astype(value.dtype)


class AsksPython(Window):
    def _attend(self, query, key, value, **options):
        out = super()._attend(query, key, value, **options)
        return out * jax.pure_callback(lambda: 1.0, jax.ShapeDtypeStruct((), jnp.float32)).astype(out.dtype)


class SkipsFurtherSteps(DeltaProductAttention):
    def _attend(self, query, key, value, *, controls, **options):
        controls = controls._replace(write_strength=controls.write_strength.at[..., 1:].set(0.0))
        return super()._attend(query, key, value, controls=controls, **options)


class SumsItsWrites(DeltaProductAttention):
    def _dense_weights(self, query, key, **options):
        weights = super()._dense_weights(query, key, **options)
        return weights.reshape(*weights.shape[:3], -1, self.num_steps).sum(-1)


class MakesAnIdleParameter(StateSpaceAttention):
    def make_controls(self, *sizes, rngs):
        module = super().make_controls(*sizes, rngs=rngs)
        module.idle = nnx.Param(jnp.ones(3))
        return module


class DeclaresNoControls(StateSpaceAttention):
    controls_type = None


class DeclaresOtherControls(StateSpaceAttention):
    controls_type = DeltaControls


class ControlsOfOneToken(StateSpaceAttention):
    def make_controls(self, *sizes, rngs):
        module = super().make_controls(*sizes, rngs=rngs)
        return lambda x: jax.tree.map(lambda leaf: leaf[0, 0], module(x))


class ControlsOfAContext(StateSpaceAttention):
    supports_cross = True


class AcceptsAnyControls(StateSpaceAttention):
    def _check_controls(self, controls, query):
        if controls is None:
            raise ValueError("controls are needed; got None.")


class NeverForgetsAll(StateSpaceAttention):
    def recurrence(self, query, key, controls, positions):
        return super().recurrence(query, key, controls._replace(log_decay=controls.log_decay.clip(-5.0)), positions)


class IgnoresControls(Linear):
    def _check(self, query, key, value, *, controls, **options):
        super()._check(query, key, value, controls=None, **options)


def reads_ahead(part: type) -> Callable[[pytest.MonkeyPatch], None]:
    """Returns what plants into a part around attention that it takes the next token for this one."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        call = part.__call__
        patch.setattr(part, "__call__", lambda self, x, *rest: call(self, jnp.roll(x, -1, axis=1), *rest))

    plant.__name__ = f"{part.__name__}ReadsAhead"
    return plant
