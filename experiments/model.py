"""The one model of every experiment: a small pre-norm Transformer whose layers may mix tokens in different ways."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from attention_variants import specs
from attention_variants.interface import AttentionVariant
from attention_variants.module import MultiHeadAttention
from attention_variants.registry import VARIANTS
from experiments.mixers import MIXERS, LayerMixer, Stream
from experiments.settings import ModelConfig, Settings
from experiments.tasks.base import Task

INIT_STREAM = 3  # of fold_in(key(seed), .); 0, 1 and 2 are training, validation and test data


Mixer = AttentionVariant | LayerMixer


def layer_mixers(config: ModelConfig) -> tuple[Mixer, ...]:
    """Returns the mixer of every layer: the specs of `config.attention`, laid over the layers in turn.

    Raises:
      ValueError: a spec names nothing we have, there are more specs than layers, or a setting that only attention
        uses is given to a model without.
    """
    mixers_by_name: dict[str, type[Mixer]] = {**VARIANTS, **MIXERS}
    mixers: tuple[Mixer, ...] = tuple(
        specs.build(spec, mixers_by_name, "attention variant") for spec in specs.split_layers(config.attention)
    )
    num_layers = config.num_layers or len(mixers)
    if num_layers < len(mixers):
        raise ValueError(
            f"model.num_layers must be 0 or at least {len(mixers)}, one layer for each spec of model.attention "
            f"{config.attention!r}; got {num_layers}."
        )
    if all(isinstance(mixer, LayerMixer) for mixer in mixers):
        _check_without_attention(config)
    return tuple(mixers[layer % len(mixers)] for layer in range(num_layers))


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
        return _rms_normalised(x) * self.scale[...][None, :]


class Layer(nnx.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x)) if there is an MLP."""

    def __init__(self, mixer: Mixer, config: ModelConfig, rngs: nnx.Rngs):
        # The MLP's key comes first, so that it is the same whatever the mixer draws.
        mlp_rngs = nnx.Rngs(params=rngs.params())
        self.norm = Norm(config.model_dim)
        self.mixer: Any = _make_mixer(mixer, config, rngs)
        self.mlp_norm = Norm(config.model_dim) if config.mlp_dim else None
        self.mlp = MLP(config.model_dim, config.mlp_dim, mlp_rngs) if config.mlp_dim else None

    def __call__(self, x: Stream, *, causal: bool, positions: Int[Array, " length"]) -> Stream:
        """Applies the layer to a whole sequence whose tokens stand at `positions`."""
        return self._feed_forward(x + self.mixer(_flat(self.norm, x), causal=causal, positions=positions))

    def extend(self, cache: Any, x: Stream) -> tuple[Stream, Any]:
        """Continues a sequence by one or more tokens."""
        mixed, cache = self.mixer.extend(cache, _flat(self.norm, x))
        return self._feed_forward(x + mixed), cache

    def _feed_forward(self, x: Stream) -> Stream:
        if self.mlp is None or self.mlp_norm is None:
            return x
        return x + _flat(self.mlp, _flat(self.mlp_norm, x))


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


class ModelCache(NamedTuple):
    """What the model carries while decoding."""

    length: Int[Array, ""]  # tokens seen so far
    layers: tuple[Any, ...]


class Model(nnx.Module):
    """Normalised embeddings, layers, final norm, and the unembedding of the positions that are asked for.

    Every layer draws from streams of its own: under one seed the parameters of two models differ only where their
    mixers do, and those of attention variants only in their controls.
    """

    def __init__(self, config: ModelConfig, task: Task, rngs: nnx.Rngs, max_length: int = 0):
        """Builds the model.

        Args:
          config: its sizes and mixers.
          task: gives vocabulary, length and direction.
          rngs: streams `params` and `controls`.
          max_length: tokens it must be able to read, if more than the task's.
        """
        # Small, because tokens are normalised: the smaller an embedding, the faster the optimizer turns it.
        embed_init, unembed_init = nnx.initializers.normal(0.02), nnx.initializers.normal(config.model_dim**-0.5)
        self.causal = task.causal and not config.bidirectional
        self.position = config.encoding()
        self.embedding = nnx.Param(embed_init(rngs.params(), (task.vocab_size, config.model_dim)))
        unembedding = unembed_init(rngs.params(), (config.model_dim, task.vocab_size))
        self.unembedding = None if config.tied_embeddings else nnx.Param(unembedding)
        longest = max(task.input_length, max_length)
        self.table = self.position.make_table(config.model_dim, longest, rngs=nnx.Rngs(params=rngs.params()))
        self.layers = nnx.List(
            [
                Layer(mixer, config, nnx.Rngs(params=rngs.params(), controls=rngs.controls()))
                for mixer in layer_mixers(config)
            ]
        )
        self.norm = Norm(config.model_dim)

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        scored: Int[Array, "batch scored"],
        positions: Int[Array, " length"] | None = None,
    ) -> Float[Array, "batch scored vocab"]:
        """Returns the logits at the tokens `scored` [batch, scored], and computes no others.

        The tokens stand at `positions`, which `self.position.draw` gives; without them at 0, 1, 2 ... as in decoding.
        """
        if positions is None:
            positions = jnp.arange(tokens.shape[1])
        x = self._embed(tokens, positions)
        for layer in self.layers:
            x = layer(x, causal=self.causal, positions=positions)
        return self._unembed(jnp.take_along_axis(x, scored[:, :, None], axis=1))

    def init_cache(self, batch: int, max_length: int, dtype: Any = jnp.float32) -> ModelCache:
        """Returns an empty cache for `max_length` tokens.

        Raises:
          NotImplementedError: the task reads in both directions, which has no token-by-token form.
        """
        if not self.causal:
            raise NotImplementedError("a model that reads in both directions cannot decode token by token.")
        return ModelCache(
            jnp.zeros((), jnp.int32), tuple(layer.mixer.init_cache(batch, max_length, dtype) for layer in self.layers)
        )

    def extend(
        self, cache: ModelCache, tokens: Int[Array, "batch new_length"]
    ) -> tuple[Float[Array, "batch new_length vocab"], ModelCache]:
        """Continues a sequence by one or more tokens; returns their logits and the new cache."""
        x = self._embed(tokens, cache.length + jnp.arange(tokens.shape[1]))
        layers = []
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            x, layer_cache = layer.extend(layer_cache, x)
            layers.append(layer_cache)
        return self._unembed(x), ModelCache(cache.length + tokens.shape[1], tuple(layers))

    def _embed(self, tokens: Array, positions: Array) -> Stream:
        """Normalises tokens to the scale of what the layers add: otherwise random mixers drown them at first."""
        return self.position.add(_rms_normalised(self.embedding[...][tokens]), positions, self.table)

    def _unembed(self, x: Stream) -> Array:
        matrix = self.embedding[...].T if self.unembedding is None else self.unembedding[...]
        return _flat(lambda tokens: self.norm(tokens) @ matrix, x)


def make_model(settings: Settings) -> tuple[nnx.GraphDef, Any]:
    """Returns (graph, initial parameters), the latter a nested dict of arrays; `nnx.merge` makes a model of them."""
    streams = jax.random.fold_in(jax.random.key(settings.seed), INIT_STREAM)
    rngs = nnx.Rngs(params=jax.random.fold_in(streams, 0), controls=jax.random.fold_in(streams, 1))
    return _split(Model(settings.model, settings.task, rngs, settings.longest_input()))


def abstract_model(settings: Settings) -> tuple[nnx.GraphDef, Any]:
    """Returns what `make_model` does with shapes in place of arrays, drawing nothing."""
    rngs = {"params": 0, "controls": 0}
    return _split(
        nnx.eval_shape(lambda: Model(settings.model, settings.task, nnx.Rngs(**rngs), settings.longest_input()))
    )


def _split(model: Model) -> tuple[nnx.GraphDef, Any]:
    graph, state = nnx.split(model)
    return graph, nnx.to_pure_dict(state)


def _rms_normalised(x: Float[Array, "*tokens model_dim"]) -> Float[Array, "*tokens model_dim"]:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-6)


def _flat(function: Any, x: Stream) -> Array:
    """Applies `function` to tokens flattened to one axis, which XLA on CPU runs several times faster than two."""
    return function(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
