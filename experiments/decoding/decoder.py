"""Decoding with a cache: a prompt at once, then one token after another, in two compiled programs."""

import functools
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from experiments.model.transformer import Model, ModelCache


class Rows(NamedTuple):
    """What is decoded."""

    tokens: Int[Array, "batch length"]  # any token where `own` is true
    own: Bool[Array, "batch length"]  # the model reads its own answer to the token before, in place of the given token
    context: Array | None = None  # what an encoder reads

    @classmethod
    def given(cls, tokens: Any, context: Array | None = None) -> Self:
        """Returns rows whose tokens are all given."""
        return cls(jnp.asarray(tokens, jnp.int32), jnp.zeros(np.shape(tokens), bool), context)


class Decoded(NamedTuple):
    """What a model read, and what it answered."""

    tokens: Int[Array, "batch length"]  # that were read
    logits: Float[Array, "batch length vocab"]
    answers: Int[Array, "batch length"]  # to each of the tokens, whether or not it was read afterwards


class Prefilled(NamedTuple):
    """What reading a prompt gives."""

    cache: ModelCache
    logits: Float[Array, "batch prompt vocab"]
    answers: Int[Array, "batch prompt"]


class Decoder:
    """Decodes rows of one shape. Building it compiles its two programs, so that calls can be timed."""

    def __init__(self, model: Model, rows: Rows, prompt: int, temperature: float = 0.0):
        """Compiles the decoding of rows shaped like `rows`.

        Args:
          model: one with a token-by-token form.
          rows: any of that shape.
          prompt: how many tokens are read at once, fewer than a row has; their `own` must be false.
          temperature: answers are drawn from softmax(logits / temperature); 0: the likeliest token.

        Raises:
          ValueError: the prompt does not fit, or the model has no position for the last token.
          NotImplementedError: the model has no token-by-token form.
        """
        length = rows.tokens.shape[1]
        if not 0 <= prompt < length or np.asarray(rows.own)[:, : max(prompt, 1)].any():
            raise ValueError(f"`prompt` must be below {length}, and before any token of `own`; got {prompt}.")
        self.prompt = prompt
        graph, state = nnx.split(model)
        prefill = functools.partial(_prefill, graph, prompt, temperature)
        proceed = functools.partial(_proceed, graph, prompt, temperature)
        shapes = jax.eval_shape(lambda: (state, rows, jax.random.key(0)))
        prefilled = jax.eval_shape(prefill, *shapes)
        self._prefill = jax.jit(prefill).lower(*shapes).compile()
        self._proceed = jax.jit(proceed).lower(shapes[0], prefilled, *shapes[1:]).compile()
        self._state = state

    def prefill(self, rows: Rows, rng: PRNGKeyArray) -> Prefilled:
        """Reads the context and the prompt."""
        return self._prefill(self._state, rows, rng)

    def proceed(self, prefilled: Prefilled, rows: Rows, rng: PRNGKeyArray) -> Decoded:
        """Reads what follows the prompt."""
        return self._proceed(self._state, prefilled, rows, rng)

    def __call__(self, rows: Rows, rng: PRNGKeyArray) -> Decoded:
        """Decodes rows; the answer at each place draws from `rng` and the place."""
        first = self.prefill(rows, rng)
        rest = self.proceed(first, rows, rng)
        parts = zip((rows.tokens[:, : self.prompt], first.logits, first.answers), rest, strict=True)
        return Decoded(*(jnp.concatenate(pair, axis=1) for pair in parts))


def _prefill(graph: Any, prompt: int, temperature: float, state: Any, rows: Rows, rng: PRNGKeyArray) -> Prefilled:
    model = nnx.merge(graph, state)
    batch, length = rows.tokens.shape
    # All that a program can check of the row's length, such as a table of positions, is checked here.
    jax.eval_shape(lambda: model.embedding(rows.tokens, model.position.draw(length)))
    cache = model.init_cache(batch, length, context=rows.context)
    if not prompt:
        vocab = jax.eval_shape(lambda: model.extend(cache, rows.tokens[:, :1])[0]).shape[2]
        return Prefilled(cache, jnp.zeros((batch, 0, vocab)), jnp.zeros((batch, 0), jnp.int32))
    logits, cache = model.extend(cache, rows.tokens[:, :prompt])
    answers = jax.vmap(functools.partial(_answer, temperature, rng), (1, 0), 1)(logits, jnp.arange(prompt))
    return Prefilled(cache, logits, answers)


def _proceed(
    graph: Any, prompt: int, temperature: float, state: Any, first: Prefilled, rows: Rows, rng: PRNGKeyArray
) -> Decoded:
    model = nnx.merge(graph, state)

    def step(carry: tuple[ModelCache, Array], at: tuple[Array, Array, Array]) -> tuple[Any, Decoded]:
        (cache, answer), (place, given, own) = carry, at
        token = jnp.where(own, answer, given)
        logits, cache = model.extend(cache, token[:, None])
        answer = _answer(temperature, rng, logits[:, 0], place)
        return (cache, answer), Decoded(token, logits[:, 0], answer)

    last = first.answers[:, -1] if prompt else rows.tokens[:, 0]
    places = jnp.arange(prompt, rows.tokens.shape[1])
    xs = places, rows.tokens[:, prompt:].T, rows.own[:, prompt:].T
    _, decoded = lax.scan(step, (first.cache, last), xs)
    return Decoded(*(jnp.moveaxis(part, 0, 1) for part in decoded))


def _answer(
    temperature: float, rng: PRNGKeyArray, logits: Float[Array, "batch vocab"], place: Int[Array, ""]
) -> Int[Array, " batch"]:
    """Returns the likeliest token, or one that is drawn for this place."""
    if temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    drawn = jax.random.categorical(jax.random.fold_in(rng, place), logits / temperature, axis=-1)
    return drawn.astype(jnp.int32)
