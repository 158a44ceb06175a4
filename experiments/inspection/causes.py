"""What a part of a model is there for: what happens without it, or with its state from another row.

References:
  Michel et al. 2019, "Are sixteen heads really better than one?", arXiv:1905.10650 (heads set to zero); Wang et al.
  2022, "Interpretability in the wild", arXiv:2211.00593 (means over rows); Meng et al. 2022, "Locating and editing
  factual associations in GPT", arXiv:2202.05262 (states of another run put in place). A mean here is over all rows and
  queries.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from typing_extensions import override

from attention_variants.module import MultiHeadAttention
from experiments.components.mixers import Stream
from experiments.inspection.maps import forward
from experiments.model.hooks import Hooks, Site
from experiments.model.objective import read_out
from experiments.model.transformer import Model
from experiments.tasks.base import Batch, Task
from experiments.training.evaluation import by_slice

ZERO, MEAN = "zero", "mean"


class Score(NamedTuple):
    """How a model does on some rows."""

    accuracy: float
    slices: dict[str, dict[str, Any]]  # see `evaluation.by_slice`


@dataclasses.dataclass(frozen=True)
class Ablation(Hooks):
    """Removes what a mixer adds, or one head of an attention layer."""

    site: Site
    head: int | None = None  # None: all that the mixer adds
    by: str = ZERO  # or MEAN

    @override
    def mix(self, site: Site, mixer: Any, x: Stream, **arguments: Any) -> Stream:
        if site != self.site:
            return mixer(x, **arguments)
        if self.head is None:
            return self._instead(mixer(x, **arguments))
        if not isinstance(mixer, MultiHeadAttention):
            raise ValueError(f"{site} has no heads; its mixer is {type(mixer).__name__}.")
        mixing = mixer.prepare(x, **arguments)
        out = mixer.attend(mixing)
        if not 0 <= self.head < out.shape[2]:
            raise ValueError(f"{site} has the heads 0 to {out.shape[2] - 1}; got {self.head}.")
        return mixer.finish(mixing, out.at[:, :, self.head].set(self._instead(out[:, :, self.head])))

    def _instead(self, out: Array) -> Array:
        return jnp.zeros_like(out) if self.by == ZERO else jnp.broadcast_to(out.mean((0, 1)), out.shape)


@dataclasses.dataclass(frozen=True)
class CutEdges(Hooks):
    """Removes what some tokens contribute to some queries in one head, by the variant's definition.

    The other weights stay as they are; they are not renormalised.
    """

    site: Site
    head: int | None  # None: all heads
    edges: Any  # bool [batch, query_length, key_length], True: cut

    @override
    def mix(self, site: Site, mixer: Any, x: Stream, **arguments: Any) -> Stream:
        if site != self.site:
            return mixer(x, **arguments)
        mixing = mixer.prepare(x, **arguments)
        weights, values = mixer.weights(mixing), mixer.values(mixing)
        cut = jnp.repeat(jnp.asarray(self.edges), mixer.variant.writes_per_token, axis=2)[:, None]
        if self.head is not None:
            cut = cut & (jnp.arange(weights.shape[1]) == self.head)[None, :, None, None]
        out = mixer.attend(mixing)
        return mixer.finish(mixing, out - jnp.einsum("bhqk,bkhd->bqhd", jnp.where(cut, weights, 0), values))


@dataclasses.dataclass(frozen=True)
class Patch(Hooks):
    """Replaces a model's residual stream by that of other rows, after one layer, at one position of each row."""

    site: Site
    positions: Int[Array, " batch"]
    states: Float[Array, "batch length model_dim"]

    @override
    def stream(self, site: Site, x: Stream) -> Stream:
        if site != self.site:
            return x
        here = jnp.arange(x.shape[1])[None] == self.positions[:, None]
        return jnp.where(here[:, :, None], self.states, x)


class Streams(Hooks):
    """Keeps the residual stream after every layer."""

    def __init__(self) -> None:
        """Starts with no streams."""
        self.found: dict[Site, Array] = {}

    @override
    def stream(self, site: Site, x: Stream) -> Stream:
        self.found[site] = x
        return x


def score(model: Model, task: Task, rows: Batch, hooks: Hooks) -> Score:
    """Returns the accuracy of a model on rows, as a whole and by slice, while `hooks` change the pass."""
    graph, state = nnx.split(model)
    run = jax.jit(lambda state, rows: read_out(forward(nnx.merge(graph, state), rows, hooks), rows, task))
    answers = jax.tree.map(np.asarray, run(state, rows))
    scored = answers.weights > 0
    weights = answers.weights[scored].astype(np.float64)
    correct = answers.correct[scored]
    slices = {name: by_slice(values[scored], correct, weights) for name, values in answers.slices.items()}
    return Score(float(np.average(correct, weights=weights)), slices)


def patched(
    model: Model, rows: Batch, others: Batch, positions: Int[np.ndarray, " batch"]
) -> dict[Site, Float[np.ndarray, "batch scored vocab"]]:
    """Returns the logits on `rows` with the state of one position taken from `others`, for each layer's stream.

    Args:
      model: the model.
      rows: those whose answers are read.
      others: as many rows, from which the states come.
      positions: of each row, where the state is replaced.
    """
    graph, state = nnx.split(model)
    sites = [Site(number) for number in range(-1, len(model.layers))]
    places = jnp.asarray(positions)

    def streams(state: Any, others: Batch) -> list[Array]:
        kept = Streams()
        forward(nnx.merge(graph, state), others, kept)
        return [kept.found[site] for site in sites]

    def answer(site: Site, state: Any, rows: Batch, states: Array) -> Array:
        return forward(nnx.merge(graph, state), rows, Patch(site, places, states))

    found = jax.jit(streams)(state, others)
    answers = jax.jit(answer, static_argnums=0)
    return {site: np.asarray(answers(site, state, rows, own)) for site, own in zip(sites, found, strict=True)}
