"""Claims that one kind of attention equals another, or has two forms: both are computed and compared."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from attention_variants.families.delta_rule import DeltaControls
from attention_variants.interface import AttentionVariant, HeadSizes
from attention_variants.registry import make_variant
from attention_variants.variants.delta_product import ProductControls
from attention_variants.variants.forgetting import ForgetControls
from attention_variants.variants.gated_linear import GatedLinearControls
from attention_variants.variants.retention import RetentionControls
from attention_variants.variants.state_space import StateSpaceControls
from experiments.certificates.certificate import Certificate, Check, equal, number

_BATCH, _LENGTH, _HEADS, _DIM = 2, 53, 3, 11  # odd, so that no block or chunk divides the length


class _Inputs(NamedTuple):
    query: Array
    key: Array
    value: Array


@functools.cache
def _inputs() -> _Inputs:
    keys = jax.random.split(jax.random.key(0), 3)
    return _Inputs(*(jax.random.normal(key, (_BATCH, _LENGTH, _HEADS, _DIM)) for key in keys))


def _uniform(seed: int, *shape: int) -> Array:
    return jax.random.uniform(jax.random.key(seed), (_BATCH, _LENGTH, _HEADS, *shape))


def _apply(spec: str, controls: Any = None, inputs: _Inputs | None = None, *, causal: bool = True) -> Array:
    variant = make_variant(spec)
    return jax.jit(functools.partial(variant, causal=causal))(*(inputs or _inputs()), controls=controls)


def _apart(one: Array, two: Array) -> float:
    return float(jnp.abs(one - two).max() / jnp.abs(two).max())


def _decoded(variant: AttentionVariant, inputs: _Inputs, controls: Any) -> Array:
    """Returns the outputs token by token, with the cache."""
    cache = variant.init_cache(_BATCH, _LENGTH, HeadSizes(_HEADS, _HEADS, _DIM, _DIM), jnp.float32)
    whole = (*inputs, controls)

    def step(cache: Any, at: Array) -> tuple[Any, Array]:
        def token(leaf: Array) -> Array:  # what all tokens share has a length of 1
            return leaf if leaf.shape[1] == 1 else jax.lax.dynamic_slice_in_dim(leaf, at, 1, axis=1)

        query, key, value, own = jax.tree.map(token, whole)
        out, cache = variant.extend(cache, query, key, value, controls=own)
        return cache, out[:, 0]

    _, out = jax.jit(lambda: jax.lax.scan(step, cache, jnp.arange(_LENGTH)))()
    return out.swapaxes(0, 1)


def _forms(spec: str, controls: Any = None) -> list[Check]:
    """Compares the parallel form with the recurrent one and with the definition by weights."""
    variant, inputs = make_variant(spec), _inputs()
    parallel = _apply(spec, controls)
    weights = variant.dense_weights(inputs.query, inputs.key, controls=controls)
    dense = jnp.einsum("bhqk,bkhd->bqhd", weights, inputs.value)
    return [
        equal("parallel and recurrent form", _apart(_decoded(variant, inputs, controls), parallel)),
        equal("parallel form and masked matrix", _apart(parallel, dense)),
    ]


def _delta_product() -> list[Check]:
    strength, further = (
        2 * _uniform(3, 2),
        _Inputs(*(jax.random.normal(jax.random.key(s), (_BATCH, _LENGTH, _HEADS, 1, _DIM)) for s in (4, 5, 6))),
    )
    ours = _apply("delta_product:num_steps=2", ProductControls(strength, further.key, further.value))

    def interleave(first: Array, second: Array) -> Array:
        return jnp.stack([first, second], axis=2).reshape(_BATCH, 2 * _LENGTH, _HEADS, _DIM)

    inputs = _inputs()
    twice = _Inputs(
        interleave(inputs.query, inputs.query),
        interleave(inputs.key, further.key[..., 0, :]),
        interleave(inputs.value, further.value[..., 0, :]),
    )
    strengths = strength.swapaxes(2, 3).reshape(_BATCH, 2 * _LENGTH, _HEADS)
    whole = _apply("delta:max_strength=2", DeltaControls(strengths), twice)
    return [equal("every second output of delta on the interleaved row", _apart(ours, whole[:, 1::2]))]


def _gated_delta() -> list[Check]:
    strength, decay = _uniform(3), -_uniform(4)
    return [
        equal(
            "gates at 1: DeltaNet",
            _apart(_apply("gated_delta", DeltaControls(strength, 0 * decay)), _apply("delta", DeltaControls(strength))),
        )
    ]


def _kimi_delta() -> list[Check]:
    strength, decay = _uniform(3), -_uniform(4)
    channels = jnp.broadcast_to(decay[..., None], (*decay.shape, _DIM))
    equal_channels = _apply("kimi_delta", DeltaControls(strength, channels))
    return [
        equal(
            "equal channels: Gated DeltaNet",
            _apart(equal_channels, _apply("gated_delta", DeltaControls(strength, decay))),
        )
    ]


def _forgetting() -> list[Check]:
    open_gates = ForgetControls(0 * _uniform(3))
    return [equal("gates at 1: softmax attention", _apart(_apply("forgetting", open_gates), _apply("full")))]


def _top_k() -> list[Check]:
    full = _apply("full")
    return [equal(f"{_LENGTH} of {_LENGTH} keys: softmax attention", _apart(_apply(f"topk:num_keys={_LENGTH}"), full))]


def _block_top_k() -> list[Check]:
    full, blocks = _apply("full"), -(-_LENGTH // 8)
    chosen = _apply(f"block_topk:block_size=8,num_blocks={blocks}")
    return [equal(f"all {blocks} blocks: softmax attention", _apart(chosen, full))]


def _linear() -> list[Check]:
    return _forms("linear:chunk_size=16")


def _retention() -> list[Check]:
    rates = np.log1p(-(2.0 ** (-5 - np.arange(_HEADS))))
    return _forms("retention:chunk_size=16", RetentionControls(jnp.asarray(rates, jnp.float32)[None, None]))


def _state_space() -> list[Check]:
    return _forms("state_space:chunk_size=16", StateSpaceControls(-_uniform(3), _uniform(4)))


def _gated_linear() -> list[Check]:
    decay = -_uniform(3, _DIM)
    head = jnp.broadcast_to(decay[..., :1], decay.shape)
    steps = StateSpaceControls(decay[..., 0], jnp.ones(decay.shape[:-1]))
    scalar = _apply("gated_linear", GatedLinearControls(head)) * math.sqrt(_DIM)
    return [
        *_forms("gated_linear:chunk_size=16", GatedLinearControls(decay)),
        equal("one gate per head: Mamba-2 with steps of 1", _apart(scalar, _apply("state_space", steps))),
    ]


def _performer() -> list[Check]:
    """The error of an estimate from m independent features falls as 1 / sqrt(m): four times as many halve it."""
    inputs = _inputs()
    query, key = inputs.query / 4, inputs.key / 4  # whose logits have the size of those of a fresh layer
    exact = make_variant("full").dense_weights(query, key, causal=False)

    def error(features: int) -> float:
        variants = [make_variant(f"performer:num_features={features},seed={seed}") for seed in range(16)]
        found = [variant.dense_weights(query, key, causal=False) for variant in variants]
        return float(jnp.sqrt(jnp.mean((jnp.stack(found) - exact[None]) ** 2)))

    errors = {features: error(features) for features in (64, 256, 1024)}
    return [
        number(f"error with {few} over error with {many} features", 2.0, errors[few] / errors[many], 0.2, 2)
        for few, many in ((64, 256), (256, 1024))
    ]


def _window() -> list[Check]:
    full = _apply("full")
    return [
        equal("window of the length: softmax attention", _apart(_apply(f"sliding_window:window_size={_LENGTH}"), full)),
        equal("blocks of the length", _apart(_apply(f"block_local:block_size={_LENGTH}"), full)),
    ]


def _certificate(
    name: str, claim: str, source: str, checks: Callable[[], Sequence[Check]], what: str = "float32"
) -> Certificate:
    configuration = f"{_BATCH} rows of {_LENGTH} random tokens, {_HEADS} heads of {_DIM}, {what}"
    return Certificate(name=name, claim=claim, source=source, configuration=configuration, checks=checks)


CERTIFICATES = (
    _certificate(
        "delta_product_interleaved",
        "DeltaProduct with n steps is DeltaNet on a row in which each token stands n times, read every n-th time.",
        "Siems et al. 2025, arXiv:2502.10297, section 3",
        _delta_product,
        "two steps, strengths up to 2, float32",
    ),
    _certificate(
        "gated_delta_open",
        "Gated DeltaNet whose gates are 1 is DeltaNet.",
        "Yang et al. 2024, arXiv:2412.06464, equation 10",
        _gated_delta,
    ),
    _certificate(
        "kimi_delta_equal_channels",
        "Kimi Delta Attention whose channels decay alike is Gated DeltaNet.",
        "Kimi Team 2025, arXiv:2510.26692, equation 1",
        _kimi_delta,
    ),
    _certificate(
        "forgetting_open",
        "Forgetting attention whose gates are 1 is softmax attention.",
        "Lin et al. 2025, arXiv:2503.02130, section 3",
        _forgetting,
    ),
    _certificate(
        "topk_every_key",
        "Top-k attention to every key is softmax attention.",
        "Gupta et al. 2021, arXiv:2106.06899, section 2",
        _top_k,
    ),
    _certificate(
        "block_topk_every_block",
        "Mixture of block attention that chooses every block is softmax attention.",
        "Lu et al. 2025, arXiv:2502.13189, section 2.2",
        _block_top_k,
    ),
    _certificate(
        "window_of_the_length",
        "A sliding window as long as the row is softmax attention.",
        "Beltagy et al. 2020, arXiv:2004.05150, section 3.1",
        _window,
    ),
    _certificate(
        "linear_is_recurrent",
        "Causal linear attention is a recurrent network.",
        "Katharopoulos et al. 2020, arXiv:2006.16236, section 3.4",
        _linear,
    ),
    _certificate(
        "retention_forms",
        "Retention has a parallel, a chunkwise and a recurrent form.",
        "Sun et al. 2023, arXiv:2307.08621, equations 5 to 8",
        _retention,
    ),
    _certificate(
        "state_space_duality",
        "A state space with a scalar decay is attention under a mask of decays.",
        "Dao and Gu 2024, arXiv:2405.21060, section 5",
        _state_space,
    ),
    _certificate(
        "gated_linear_forms",
        "Gated linear attention has a chunkwise and a recurrent form; with one gate per head it is Mamba-2.",
        "Yang et al. 2024, arXiv:2312.06635, sections 3 and 4",
        _gated_linear,
    ),
    _certificate(
        "performer_error",
        "FAVOR+ estimates the weights of softmax attention with an error of 1 / sqrt(features).",
        "Choromanski et al. 2021, arXiv:2009.14794, lemma 2",
        _performer,
        "16 draws of the features, bidirectional, float32",
    ),
)
