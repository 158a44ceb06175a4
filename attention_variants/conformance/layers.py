"""A law about whole layers: a variant with what its paper puts around it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attention_variants.conformance.inputs import BATCH, NUM_HEADS, NUM_KV_HEADS, Case, expect_close, modes
from attention_variants.layer_options import LayerOptions
from attention_variants.module import MultiHeadAttention

_MODEL_DIM = 4 * NUM_HEADS  # halves and doubles of it divide among the heads


def paper_layer_decodes_and_pads(case: Case) -> None:
    """With its `paper_layer`, a layer decodes what it computes at once, and padding changes no output or gradient."""
    variant = case.variant
    if variant.paper_layer == LayerOptions():
        return
    layer = MultiHeadAttention(
        variant,
        _MODEL_DIM,
        NUM_HEADS,
        num_kv_heads=NUM_KV_HEADS,
        options=variant.paper_layer,
        rngs=nnx.Rngs(params=0, controls=1),
    )
    x = jnp.asarray(np.random.RandomState(0).standard_normal((BATCH, case.length, _MODEL_DIM)), jnp.float32)
    for causal in modes(variant):
        whole = compare_padding(layer, x, causal)
        if causal:
            expect_close("decoding", decode(layer, x), whole, 2e-5)


def compare_padding(layer: MultiHeadAttention, x: Any, causal: bool) -> Any:
    """Expects the layer to give the same on x with and without padding of NaN, gradients too; returns the output."""
    graph, state = nnx.split(layer)

    def run(state: Any, x: Any, key_mask: Any) -> Any:
        out = nnx.merge(graph, state)(x, causal=causal, key_mask=key_mask)[:, :length]
        return jnp.square(out).sum(), out

    length, both = x.shape[1], jax.jit(jax.value_and_grad(run, has_aux=True))
    padded = jnp.concatenate([x, jnp.full_like(x[:, :3], jnp.nan)], axis=1)
    seen = jnp.broadcast_to(jnp.arange(length + 3) < length, padded.shape[:2])
    (_, plain), gradient = both(state, x, jnp.ones(x.shape[:2], bool))
    (_, out), gradient_behind_mask = both(state, padded, seen)
    expect_close(f"padding, causal={causal}", out, plain, 2e-5)
    expect_close(f"gradients with padding, causal={causal}", gradient_behind_mask, gradient, 2e-4)
    return plain


def decode(layer: MultiHeadAttention, x: Any) -> Any:
    """Returns the outputs of decoding single tokens and pieces: programs of three sizes."""
    extend, cache, outs, start = jax.jit(layer.extend), layer.init_cache(*x.shape[:2]), [], 0
    for size in (1, 1, 5, x.shape[1] - 8, 1):
        out, cache = extend(cache, x[:, start : start + size])
        outs.append(out)
        start += size
    return jnp.concatenate(outs, axis=1)
