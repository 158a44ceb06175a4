"""The layers of a model: norms, MLPs, and what mixes tokens, within a sequence or with another one."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from attention_variants import specs
from attention_variants.interface import AttentionVariant
from attention_variants.module import MultiHeadAttention
from attention_variants.registry import VARIANTS, make_variant
from experiments.components.mixers import MIXERS, LayerMixer, Stream
from experiments.config.schema import ModelConfig

Mixer = AttentionVariant | LayerMixer


def layer_mixers(config: ModelConfig) -> tuple[Mixer, ...]:
    """Returns the mixer of every layer: the specs of `config.attention`, laid over the layers in turn.

    Raises:
      ValueError: a spec names nothing we have, there are more specs than layers, or a setting that only attention
        uses is given to a model without.
    """
    mixers = _build(config.attention)
    num_layers = config.num_layers or len(mixers)
    if num_layers < len(mixers):
        raise ValueError(
            f"model.num_layers must be 0 or at least {len(mixers)}, one layer for each spec of model.attention "
            f"{config.attention!r}; got {num_layers}."
        )
    if all(isinstance(mixer, LayerMixer) for mixer in mixers):
        _check_without_attention(config)
    return tuple(mixers[layer % len(mixers)] for layer in range(num_layers))


def encoder_mixers(config: ModelConfig) -> tuple[Mixer, ...]:
    """Returns the mixer of every layer that reads a context; raises ValueError."""
    try:
        return _build(config.encoder)
    except ValueError as error:
        raise ValueError(f"model.encoder: {error}") from error


def cross_variant(config: ModelConfig) -> AttentionVariant:
    """Returns what attends to a context; raises ValueError."""
    try:
        return make_variant(config.cross_attention)
    except ValueError as error:
        raise ValueError(f"model.cross_attention: {error}") from error


def _build(text: str) -> tuple[Mixer, ...]:
    mixers_by_name: dict[str, type[Mixer]] = {**VARIANTS, **MIXERS}
    return tuple(specs.build(spec, mixers_by_name, "attention variant") for spec in specs.split_layers(text))


def _check_without_attention(config: ModelConfig) -> None:
    """Raises ValueError for what only attention could make use of."""
    useless = {
        f"model.position={config.position}": config.encoding().acts_in_attention(),
        f"model.short_conv={config.short_conv}": config.short_conv > 0,
        f"model.qk_norm={config.qk_norm}": config.qk_norm,
    }
    for setting in (setting for setting, given in useless.items() if given):
        raise ValueError(f"{setting} acts in attention layers; model.attention {config.attention!r} has none.")


class MLP(nnx.Module):
    """Linear, GELU, Linear."""

    def __init__(self, model_dim: int, mlp_dim: int, rngs: nnx.Rngs):
        self.up = nnx.Linear(model_dim, mlp_dim, rngs=rngs)
        self.down = nnx.Linear(mlp_dim, model_dim, rngs=rngs)

    def __call__(self, x: Float[Array, "tokens model_dim"]) -> Float[Array, "tokens model_dim"]:
        """Applies itself to tokens on one axis."""
        return self.down(jax.nn.gelu(self.up(x)))


class Norm(nnx.Module):
    """Root-mean-square normalisation with a learned scale."""

    def __init__(self, model_dim: int):
        self.scale = nnx.Param(jnp.ones(model_dim))

    def __call__(self, x: Float[Array, "tokens model_dim"]) -> Float[Array, "tokens model_dim"]:
        """Returns x / sqrt(mean(x^2)) * scale, of tokens on one axis."""
        return rms_normalised(x) * self.scale[...][None, :]


class Layer(nnx.Module):
    """x + mixer(norm(x)), with a context x + cross(norm(x), context), then x + mlp(norm(x)) if there is an MLP."""

    def __init__(self, mixer: Mixer, config: ModelConfig, rngs: nnx.Rngs, cross: AttentionVariant | None = None):
        # The MLP's key comes first, so that it is the same whatever the mixer draws.
        mlp_rngs = nnx.Rngs(params=rngs.params())
        self.cross_norm = Norm(config.model_dim) if cross else None
        self.cross = _make_cross(cross, config, rngs) if cross else None
        self.norm = Norm(config.model_dim)
        self.mixer: Any = _make_mixer(mixer, config, rngs)
        self.mlp_norm = Norm(config.model_dim) if config.mlp_dim else None
        self.mlp = MLP(config.model_dim, config.mlp_dim, mlp_rngs) if config.mlp_dim else None

    def __call__(
        self, x: Stream, *, causal: bool, positions: Int[Array, " length"], context: Stream | None = None
    ) -> Stream:
        """Applies the layer to a whole sequence whose tokens stand at `positions`."""
        x = x + self.mixer(flat(self.norm, x), causal=causal, positions=positions)
        if self.cross is not None and self.cross_norm is not None:
            x = x + self.cross(flat(self.cross_norm, x), context=context, causal=False)
        return self._feed_forward(x)

    def extend(self, cache: Any, x: Stream) -> tuple[Stream, Any]:
        """Continues a sequence by one or more tokens."""
        mixed, cache = self.mixer.extend(cache, flat(self.norm, x))
        return self._feed_forward(x + mixed), cache

    def _feed_forward(self, x: Stream) -> Stream:
        if self.mlp is None or self.mlp_norm is None:
            return x
        return x + flat(self.mlp, flat(self.mlp_norm, x))


def _make_mixer(mixer: Mixer, config: ModelConfig, rngs: nnx.Rngs) -> nnx.Module:
    if isinstance(mixer, LayerMixer):
        return mixer.make_layer(config.model_dim, rngs)
    return MultiHeadAttention(
        mixer,
        config.model_dim,
        config.num_heads,
        num_kv_heads=config.num_kv_heads or None,
        position=config.encoding(),
        qk_norm=config.qk_norm,
        short_conv=config.short_conv,
        rngs=rngs,
    )


def _make_cross(variant: AttentionVariant, config: ModelConfig, rngs: nnx.Rngs) -> MultiHeadAttention:
    """Positions of two sequences have no common origin, so that cross-attention is given none."""
    return MultiHeadAttention(
        variant,
        config.model_dim,
        config.num_heads,
        num_kv_heads=config.num_kv_heads or None,
        qk_norm=config.qk_norm,
        rngs=nnx.Rngs(params=rngs.params(), controls=rngs.params()),
    )


def rms_normalised(x: Float[Array, "*tokens model_dim"]) -> Float[Array, "*tokens model_dim"]:
    """Returns x / sqrt(mean(x^2))."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def flat(function: Any, x: Stream) -> Array:
    """Applies `function` to tokens flattened to one axis, which XLA on CPU runs several times faster than two."""
    return function(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
