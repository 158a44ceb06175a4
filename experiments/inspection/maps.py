"""Attention maps: how much each token weighs in each output of each head, from the definition of every variant."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

from attention_variants.module import MultiHeadAttention
from experiments.components.mixers import Stream
from experiments.model.hooks import Hooks, Site
from experiments.model.transformer import Model
from experiments.tasks.base import Batch


class Map(NamedTuple):
    """The weights of one attention layer on some rows."""

    site: Site
    weights: Float[np.ndarray, "batch heads query_length writes"]  # see `AttentionVariant.dense_weights`
    values: Float[np.ndarray, "batch writes heads value_dim"]  # what they weigh: weights @ values is the heads' output
    pattern: Bool[np.ndarray, "query_length key_length"]  # what the variant may see
    writes_per_token: int
    normalised: bool  # whether the variant's weights of a query sum to 1

    @property
    def by_token(self) -> Float[np.ndarray, "batch heads query_length key_length"]:
        """The weights summed over the writes of each token."""
        *outer, writes = self.weights.shape
        return self.weights.reshape(*outer, writes // self.writes_per_token, self.writes_per_token).sum(-1)

    @property
    def shares(self) -> Float[np.ndarray, "batch heads query_length key_length"]:
        """The size of each token's weight as a share of all sizes: a distribution, whatever the variant.

        The weights of the delta rules are signed, and those of `linear` or `sigmoid` can have any sum. A query whose
        weights are all 0 has shares of 0.
        """
        sizes = np.abs(self.by_token)
        total = sizes.sum(-1, keepdims=True)
        return np.divide(sizes, total, out=np.zeros_like(sizes), where=total > 0)


class Look(NamedTuple):
    """What a model does on some rows."""

    logits: Float[np.ndarray, "batch scored vocab"]
    maps: list[Map]  # of every attention layer, in the order in which the model runs them


def look(model: Model, rows: Batch, rng: PRNGKeyArray | None = None) -> Look:
    """Runs a model on rows and keeps the weights of all its attention layers.

    The definition takes memory quadratic in the length. `rng` is for position encodings that draw; see `model_key`.
    """
    return Looker(model, rng)(model, rows)


class Looker:
    """Looks at models that differ only in their parameters, and compiles once for all of them."""

    def __init__(self, like: Model, rng: PRNGKeyArray | None = None) -> None:
        """Takes one of the models; `rng` is that of `look`."""
        self._graph, self._rng = nnx.split(like)[0], rng
        self._facts: list[_Facts] = []
        self._run = jax.jit(self._trace)

    def __call__(self, model: Model, rows: Batch) -> Look:
        """Returns what a model does on rows, see `look`."""
        logits, found = jax.tree.map(np.asarray, self._run(nnx.split(model)[1], rows))
        maps = [
            Map(fact.site, weights, values, fact.pattern, fact.writes_per_token, fact.normalised)
            for fact, (weights, values) in zip(self._facts, found, strict=True)
        ]
        return Look(logits, maps)

    def _trace(self, state: Any, rows: Batch) -> tuple[Array, list[tuple[Array, Array]]]:
        recorder = _Recorder()
        logits = forward(nnx.merge(self._graph, state), rows, recorder, self._rng)
        self._facts = recorder.facts
        return logits, recorder.found


def forward(model: Model, rows: Batch, hooks: Hooks, rng: PRNGKeyArray | None = None) -> Array:
    """Returns the logits of a model on rows; `hooks` look at the pass, or change it."""
    positions = model.position.draw(rows.inputs.shape[1], rng)
    return model(rows.inputs, rows.positions, positions, rows.context, hooks)


def evidence_keys(
    rows: Batch, lengths: tuple[int, int], first: int = 0
) -> Bool[np.ndarray, "batch query_length key_length"]:
    """Returns, for each query that is read out, the keys that hold the evidence for its answer.

    Args:
      rows: of a task.
      lengths: of queries and of keys.
      first: where the keys begin among the positions of `Batch.evidence`: the length of the row for a context, else 0.
    """
    places, evidence, weights = (np.asarray(array) for array in (rows.positions, rows.evidence, rows.weights))
    marked = np.zeros((len(places), *lengths), bool)
    for row, target in np.argwhere(weights > 0):
        own = evidence[row, target] - first
        marked[row, places[row, target], own[(own >= 0) & (own < lengths[1])]] = True
    return marked


class _Facts(NamedTuple):
    """The parts of a map that are not arrays of the pass."""

    site: Site
    pattern: Bool[np.ndarray, "query_length key_length"]
    writes_per_token: int
    normalised: bool


class _Recorder(Hooks):
    """Keeps weights and values of every attention layer."""

    def __init__(self) -> None:
        self.facts: list[_Facts] = []
        self.found: list[tuple[Array, Array]] = []

    @override
    def mix(self, site: Site, mixer: Any, x: Stream, **arguments: Any) -> Stream:
        if not isinstance(mixer, MultiHeadAttention):
            return mixer(x, **arguments)
        mixing = mixer.prepare(x, **arguments)
        weights = mixer.weights(mixing)
        self.found.append((weights, mixer.values(mixing).astype(weights.dtype)))
        variant, lengths = mixer.variant, (mixing.query.shape[1], mixing.key.shape[1])
        pattern = np.asarray(variant.pattern(*lengths, mixing.causal))
        self.facts.append(_Facts(site, pattern, variant.writes_per_token, variant.normalised))
        return mixer.finish(mixing, jnp.asarray(mixer.attend(mixing)))
