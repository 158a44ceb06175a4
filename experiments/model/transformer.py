"""The model that all experiments use: a small pre-norm Transformer whose layers may mix tokens in different ways."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from attention_variants.parameters import Undecayed
from attention_variants.positions import Position
from experiments.components.mixers import Stream
from experiments.components.norms import Norm, rms_normalised
from experiments.components.optimizers import AdamW
from experiments.components.schedules import Cosine
from experiments.config.run import Run
from experiments.config.sections import EvalConfig, PretrainConfig, TrainConfig
from experiments.model.hooks import NONE, Hooks, Site
from experiments.model.layers import MLP, KeptContext, Layer, flat
from experiments.model.streams import INIT, split_key
from experiments.tasks.base import Context

_EMBEDDING_SCALE = 0.02  # small, because tokens are normalised: the smaller, the faster the optimizer rotates them
_DECODER_WIDENING = 4


class Embedding(nnx.Module):
    """Embeds tokens, or the channels of images and numbers, together with their positions."""

    def __init__(self, shape: Context, position: Position, model_dim: int, keys: tuple[Array, Array], dtype: Any):
        """Builds the embedding of sequences of one shape; `keys` are those of its matrix and its table of positions.

        `dtype` is that of the vectors; everything that reads them computes in it.
        """
        self.position, self.dtype = position, jnp.dtype(dtype)
        init = nnx.initializers.normal(_EMBEDDING_SCALE)
        self.tokens = None if shape.channels else nnx.Param(init(keys[0], (shape.vocab_size, model_dim)))
        self.channels = nnx.Linear(shape.channels, model_dim, rngs=nnx.Rngs(keys[0])) if shape.channels else None
        self.table = position.make_table(model_dim, shape.length, rngs=nnx.Rngs(params=keys[1]))

    def __call__(self, inputs: Array, positions: Int[Array, " length"]) -> Stream:
        """Embeds tokens [batch, length] or channels [batch, length, channels]."""
        if self.tokens is not None:
            # Scaled like what the layers add; otherwise random mixers drown the tokens at first.
            x = rms_normalised(self.tokens[...][inputs])
        else:
            assert self.channels is not None
            x = flat(self.channels, inputs)  # not normalised: the size of a number carries the information
        return self.position.add(x, positions, self.table).astype(self.dtype)


class Encoder(nnx.Module):
    """Reads a context in both directions."""

    def __init__(self, run: Run, context: Context, rngs: nnx.Rngs):
        model_dim = run.model.model_dim
        keys = rngs.params(), rngs.params()
        self.embedding = Embedding(context, run.position, model_dim, keys, run.train.dtype)
        self.layers = nnx.List(
            [
                Layer(mixer, sizes, run, nnx.Rngs(params=rngs.params(), controls=rngs.params()))
                for mixer, sizes in run.built_encoder
            ]
        )
        self.norm: Any = run.norm.make_layer(model_dim)

    def __call__(self, inputs: Array, hooks: Hooks = NONE) -> Stream:
        """Returns what the row attends to."""
        positions = jnp.arange(inputs.shape[1])
        x = hooks.stream(Site(-1, "encoder"), self.embedding(inputs, positions))
        for number, layer in enumerate(self.layers):
            x = layer(x, causal=False, positions=positions, site=Site(number, "encoder"), hooks=hooks)
        return flat(self.norm, x)


class Decoder(nnx.Module):
    """Predicts many answers from one vector; a learned vector for each place selects the answer."""

    def __init__(self, places: int, model_dim: int, norm: Norm, rngs: nnx.Rngs):
        self.places = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (places, model_dim)))
        self.norm: Any = norm.make_layer(model_dim)
        self.mlp = MLP(model_dim, _DECODER_WIDENING * model_dim, rngs)

    def __call__(self, x: Float[Array, "batch model_dim"]) -> Stream:
        """Returns a vector for each place."""
        x = rms_normalised(x)[:, None] + self.places[...][None].astype(x.dtype)
        return x + flat(self.mlp, flat(self.norm, x))


class ModelCache(NamedTuple):
    """What the model carries while decoding."""

    length: Int[Array, ""]  # tokens seen so far
    layers: tuple[Any, ...]
    context: tuple[KeptContext | None, ...]  # of every layer


class Model(nnx.Module):
    """Normalised embeddings, layers, final norm, and the unembedding of the requested positions.

    Every layer draws from its own streams: under one seed, the parameters of two models differ only where their mixers
    differ, and those of attention variants only in their controls.
    """

    def __init__(self, run: Run, rngs: nnx.Rngs):
        """Builds the model of a run; `rngs` has the streams `params` and `controls`."""
        model, task = run.model, run.task
        self.causal, self.readout, self.position = run.causal, model.readout, run.position
        embed_key, unembed_key, table_key = rngs.params(), rngs.params(), rngs.params()
        inputs = Context(run.longest_input, 0 if task.input_channels else task.vocab_size, task.input_channels)
        self.embedding = Embedding(inputs, run.position, model.model_dim, (embed_key, table_key), run.train.dtype)
        unembed_init = nnx.initializers.normal(model.model_dim**-0.5)
        unembedding = unembed_init(unembed_key, (model.model_dim, task.vocab_size))
        self.unembedding = None if model.tied_embeddings else nnx.Param(unembedding)
        self.encoder = None if task.context is None else Encoder(run, task.context, nnx.Rngs(params=rngs.params()))
        decoder_rngs = nnx.Rngs(params=rngs.params()) if task.one_vector else None
        self.decoder = Decoder(task.num_scored(), model.model_dim, run.norm, decoder_rngs) if decoder_rngs else None
        self.layers = nnx.List(
            [
                Layer(
                    mixer,
                    sizes,
                    run,
                    nnx.Rngs(params=rngs.params(), controls=rngs.controls()),
                    reads_context=task.context is not None,
                )
                for mixer, sizes in run.built
            ]
        )
        self.norm: Any = run.norm.make_layer(model.model_dim)

    def __call__(
        self,
        inputs: Int[Array, "batch length"] | Float[Array, "batch length channels"],
        scored: Int[Array, "batch scored"],
        positions: Int[Array, " length"] | None = None,
        context: Int[Array, "batch context_length"] | Float[Array, "batch context_length channels"] | None = None,
        hooks: Hooks = NONE,
    ) -> Float[Array, "batch scored vocab"]:
        """Returns the logits at the inputs `scored` [batch, scored], in float32, and computes no others.

        The inputs are at `positions`, which `self.position.draw` gives; the default is 0, 1, 2 ... as in decoding.
        `hooks` may look at the pass, or change it.
        """
        if positions is None:
            positions = jnp.arange(inputs.shape[1])
        encoded = self._encode(context, hooks)
        x = hooks.stream(Site(-1), self.embedding(inputs, positions))
        for number, layer in enumerate(self.layers):
            site = Site(number)
            x = layer(x, causal=self.causal, positions=positions, context=encoded, site=site, hooks=hooks)
        return self.answer(x, scored)

    def answer(self, x: Stream, scored: Int[Array, "batch scored"]) -> Float[Array, "batch scored vocab"]:
        """Returns the logits at the inputs `scored`, read from the stream after the last layer."""
        return self._unembed(self._read_out(x, scored))

    def _read_out(self, x: Stream, scored: Int[Array, "batch scored"]) -> Stream:
        if self.readout == "mean":
            before = jnp.arange(x.shape[1])[None] <= scored[:, -1:]
            return jnp.mean(x, axis=1, keepdims=True, where=before[:, :, None])
        if self.decoder is not None:
            return self.decoder(jnp.take_along_axis(x, scored[:, :1, None], axis=1)[:, 0])
        return jnp.take_along_axis(x, scored[:, :, None], axis=1)

    def _encode(self, context: Array | None, hooks: Hooks = NONE) -> Stream | None:
        if (self.encoder is None) != (context is None):
            raise ValueError(f"`context` must be {'None' if self.encoder is None else 'given'} for this task's model.")
        return None if self.encoder is None or context is None else self.encoder(context, hooks)

    def init_cache(
        self, batch: int, max_length: int, dtype: Any = jnp.float32, context: Array | None = None
    ) -> ModelCache:
        """Returns an empty cache for `max_length` tokens that attend to a `context`, as in `__call__`.

        Raises:
          ValueError: `context` is missing, or is not read.
          NotImplementedError: the model has no token-by-token form: it reads in both directions, reads numbers, attends
            to the context differently at different positions, or does not read its answers at the tokens.
        """
        if not self.causal:
            raise NotImplementedError("a model that reads in both directions cannot decode token by token.")
        if self.embedding.tokens is None or self.decoder or self.readout != "position":
            raise NotImplementedError("only a model of tokens, read out where they stand, decodes token by token.")
        encoded = self._encode(context)
        if encoded is not None:
            self._check_cross(max_length, encoded.shape[1])
        return ModelCache(
            jnp.zeros((), jnp.int32),
            tuple(layer.mixer.init_cache(batch, max_length, dtype) for layer in self.layers),
            tuple(None if encoded is None else layer.keep(encoded) for layer in self.layers),
        )

    def _check_cross(self, length: int, context_length: int) -> None:
        """Raises unless every query reads all of the context, whatever its position and the other queries."""
        for layer in self.layers:
            variant = layer.cross.variant  # type: ignore[union-attr]
            if not variant.pattern(length, context_length, False).all():
                name = type(variant).__name__
                raise NotImplementedError(f"{name} shows each token another part of the context; it cannot decode.")

    def extend(
        self, cache: ModelCache, tokens: Int[Array, "batch new_length"]
    ) -> tuple[Float[Array, "batch new_length vocab"], ModelCache]:
        """Continues a sequence by one or more tokens; returns their logits and the new cache."""
        x = self.embedding(tokens, cache.length + jnp.arange(tokens.shape[1]))
        layers = []
        for layer, layer_cache, kept in zip(self.layers, cache.layers, cache.context, strict=True):
            x, layer_cache = layer.extend(layer_cache, x, kept)
            layers.append(layer_cache)
        return self._unembed(x), ModelCache(cache.length + tokens.shape[1], tuple(layers), cache.context)

    def _unembed(self, x: Stream) -> Array:
        tied = self.embedding.tokens
        matrix = self.unembedding[...] if self.unembedding is not None else tied[...].T  # type: ignore[index]

        def unembed(tokens: Array) -> Array:
            return jnp.matmul(self.norm(tokens), matrix.astype(x.dtype), preferred_element_type=jnp.float32)

        return flat(unembed, x)


def make_model(run: Run) -> tuple[nnx.GraphDef, Any]:
    """Returns (graph, initial parameters), the latter a nested dict of arrays; `nnx.merge` turns them into a model."""
    key = split_key(jax.random.key(run.seed), INIT)
    rngs = nnx.Rngs(params=jax.random.fold_in(key, 0), controls=jax.random.fold_in(key, 1))
    graph, state = nnx.split(Model(run, rngs))
    return graph, nnx.to_pure_dict(state)


def abstract_model(run: Run) -> tuple[nnx.GraphDef, Any]:
    """Returns what `make_model` does, but with shapes in place of arrays; nothing is drawn."""
    graph, state = _abstract_model(_without_training(run))
    return graph, nnx.to_pure_dict(state)


def decayed_params(run: Run) -> Any:
    """Returns a tree of bools shaped like the parameters: True where weight decay applies.

    It applies to parameters with two axes or more, unless they are declared `Undecayed`.
    """
    _, state = _abstract_model(_without_training(run))
    return nnx.to_pure_dict(jax.tree.map(_is_decayed, state, is_leaf=lambda node: isinstance(node, nnx.Variable)))


def _is_decayed(param: nnx.Variable) -> bool:
    return param.ndim >= 2 and not isinstance(param, Undecayed)


def _without_training(run: Run) -> Run:
    """Returns the run with neutral values for all that does not affect its model, so equal models share one run."""
    train, pretrain = TrainConfig(dtype=run.train.dtype), PretrainConfig()
    config = dataclasses.replace(run.cell.config, train=train, eval=EvalConfig(), pretrain=pretrain)
    return dataclasses.replace(run, config=config, optimizer=AdamW(), schedule=Cosine())


@functools.lru_cache(maxsize=256)
def _abstract_model(run: Run) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: Model(run, nnx.Rngs(params=0, controls=0))))
