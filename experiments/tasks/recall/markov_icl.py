"""Markov chains in context: predict the distribution of the next symbol from what the row shows of its chain."""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size, next_tokens

_FLOOR_ROWS = 2048  # more than a hundred thousand targets: floors to two digits
_STEPS = 2**12  # chances are multiples of about 1 / 4096, so that symbols and targets are exact on every machine


class Drawn(NamedTuple):
    """Rows of a chain."""

    symbols: Int[Array, "batch length"]
    posterior: Float[Array, "batch length symbols"]  # of the symbol after each position
    slices: dict[str, Int[Array, "batch length"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarkovTask(FixedLength):
    """The base of tasks that ask for the distribution of the next symbol.

    Training uses every next symbol. A test compares the model's distribution with the Bayes posterior at every position
    but the first and the last, after which there is nothing to train on. The loss is the Kullback-Leibler divergence
    from the posterior, 0 for the best possible model, and an answer is right within a total variation of `tolerance`.
    The evidence is everything up to the position.
    """

    version: ClassVar[int] = 1
    tolerance: ClassVar[float | None] = 0.05
    distributions: ClassVar[bool] = True
    answers_follow: ClassVar[bool] = True
    reads_its_evidence: ClassVar[bool] = True
    every_change_counts: ClassVar[bool] = False  # some symbols change no count that matters

    length: int = 100  # symbols per row
    num_symbols: int = 3

    def __post_init__(self) -> None:
        check_size("length", self.length, 3)
        check_size("num_symbols", self.num_symbols, 2)
        if self.num_symbols > 64:
            raise ValueError(f"`num_symbols` must be at most 64; got {self.num_symbols}.")

    @property
    @override
    def vocab_size(self) -> int:
        """The symbols."""
        return self.num_symbols

    @abc.abstractmethod
    def draw(self, rng: PRNGKeyArray, batch_size: int) -> Drawn:
        """Draws rows and computes their posteriors."""

    @abc.abstractmethod
    def posteriors(self, row: list[int]) -> list[np.ndarray]:
        """Returns the posterior after each symbol of a row, for `solve`."""

    @abc.abstractmethod
    def guesses(self, symbols: Int[np.ndarray, "batch length"]) -> dict[str, Float[np.ndarray, "batch length symbols"]]:
        """Returns each shortcut's distribution after each symbol."""

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        drawn = self.draw(rng, batch_size)
        column = np.arange(self.length, dtype=np.int32)
        scored = column[1:-1]
        shape = (batch_size, len(scored))
        evidence = jnp.asarray(np.where(column[None] <= scored[:, None], column[None], -1))
        return Batch(
            inputs=drawn.symbols,
            targets=drawn.posterior[:, 1:-1],
            positions=jnp.broadcast_to(jnp.asarray(scored[None]), shape),
            weights=jnp.ones(shape, jnp.float32),
            evidence=jnp.broadcast_to(evidence[None], (*shape, self.length)),
            slices={
                "distance": jnp.zeros(shape, jnp.int32),
                **{name: value[:, 1:-1] for name, value in drawn.slices.items()},
            },
        )

    @override
    def training_batch(self, batch: Batch) -> Batch:
        """Every next symbol."""
        return next_tokens(batch, jnp.ones((len(batch.inputs), self.length - 1), jnp.float32))

    @override
    def solve(self, batch: Batch) -> Float[np.ndarray, "batch scored symbols"]:
        """Computes the posterior symbol by symbol, in float64."""
        return np.array([self.posteriors(row)[1:-1] for row in np.asarray(batch.inputs).tolist()])

    @override
    def floors(self) -> dict[str, float]:
        """How often shortcuts are close to the posterior, over a fixed large sample."""
        return {name: accuracy for name, (accuracy, _) in _shortcuts(self).items()}

    @override
    def loss_floors(self) -> dict[str, float]:
        """How far shortcuts are from the posterior, over the same sample."""
        return {name: divergence for name, (_, divergence) in _shortcuts(self).items()}

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The symbols."""
        return [(self.token_text(int(token)), "value") for token in batch.inputs[row]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarkovICL(MarkovTask):
    """In-context learning of Markov chains.

    With `length=6`; below each symbol, the probabilities of the next one::

        2     0     2     0     1     2
              .33   .50   .25   .33         of 0  <- targets
              .33   .25   .25   .33         of 1
              .33   .25   .50   .33         of 2

    Every row draws a transition matrix, its rows uniform among all distributions (Dirichlet with all parameters 1), a
    uniform first symbol, and the others from the chain. The posterior after symbol a gives b the probability
    (n_ab + 1) / (n_a + num_symbols), where n_ab counts how often b has followed a, and n_a how often any symbol has.

    Training uses every next symbol. A test compares the model's distribution with the posterior at every position but
    the first and the last, after which there is nothing to train on. The loss is the Kullback-Leibler divergence from
    the posterior, 0 for the best possible model, and an answer is right within a total variation of 0.05. The slice
    `seen` is n_a. The evidence is everything up to the position; no bound is claimed for a model that sees less. Floors
    are measured over a fixed large sample.

    References:
      Edelman et al. 2024, "The evolution of statistical induction heads", arXiv:2402.11004: on the way to the posterior
      models pass through the uniform distribution and the symbols' own counts.
    """

    summary: ClassVar[str] = "Markov chains: predict the next symbol's distribution from what has followed it so far"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"seen": "earlier occurrences of the symbol"}

    @override
    def draw(self, rng: PRNGKeyArray, batch_size: int) -> Drawn:
        matrix_rng, first_rng, next_rng = jax.random.split(rng, 3)
        shape = (batch_size, self.num_symbols, self.num_symbols)
        # Exponential variables divided by their sum are uniform among all distributions.
        weights = jnp.round(_STEPS * jax.random.exponential(matrix_rng, shape, jnp.float32)).astype(jnp.int32)
        limits = jnp.cumsum(jnp.maximum(weights, 1), axis=2, dtype=jnp.int32)
        first = jax.random.randint(first_rng, (batch_size,), 0, self.num_symbols, jnp.int32)

        def step(symbol: Array, rng: PRNGKeyArray) -> tuple[Array, Array]:
            limit = jnp.take_along_axis(limits, symbol[:, None, None], axis=1)[:, 0]
            drawn = jax.random.randint(rng, (batch_size,), 0, limit[:, -1], jnp.int32)
            following = (drawn[:, None] >= limit).sum(axis=1, dtype=jnp.int32)
            return following, following

        _, rest = jax.lax.scan(step, first, jax.random.split(next_rng, self.length - 1))
        symbols = jnp.concatenate([first[:, None], rest.T], axis=1)
        of = jax.nn.one_hot(symbols, self.num_symbols, dtype=jnp.int32)
        pairs = jnp.pad(of[:, :-1, :, None] * of[:, 1:, None, :], ((0, 0), (1, 0), (0, 0), (0, 0)))
        counts = jnp.cumsum(pairs, axis=1, dtype=jnp.int32)  # up to each position
        followed = jnp.take_along_axis(counts, symbols[..., None, None], axis=2)[:, :, 0]
        seen = followed.sum(axis=2, dtype=jnp.int32)
        posterior = (followed + 1).astype(jnp.float32) / (seen + self.num_symbols).astype(jnp.float32)[..., None]
        return Drawn(symbols, posterior, {"seen": seen})

    @override
    def posteriors(self, row: list[int]) -> list[np.ndarray]:
        """Counts pairs in a table."""
        counts, found = np.ones((self.num_symbols, self.num_symbols)), []
        for place, symbol in enumerate(row):
            if place:
                counts[row[place - 1], symbol] += 1
            found.append(counts[symbol] / counts[symbol].sum())
        return found

    @override
    def guesses(self, symbols: Int[np.ndarray, "batch length"]) -> dict[str, Float[np.ndarray, "batch length symbols"]]:
        """The uniform distribution, the symbols' counts whatever came before, and what last followed the symbol."""
        unigram = symbol_counts(symbols, self.num_symbols)
        last = np.full(unigram.shape, 1 / self.num_symbols)
        following = np.full((len(symbols), self.num_symbols), -1)  # what last followed each symbol
        rows = np.arange(len(symbols))
        for place in range(self.length):
            if place:
                following[rows, symbols[:, place - 1]] = symbols[:, place]
            known = following[rows, symbols[:, place]]
            seen = rows[known >= 0]
            last[seen, place] = (1 + np.eye(self.num_symbols)[known[seen]]) / (1 + self.num_symbols)
        return {
            "answer uniformly": np.full(unigram.shape, 1 / self.num_symbols),
            "answer with the counts of all symbols so far": unigram,
            "answer with what followed the symbol last": last,
        }


def symbol_counts(symbols: Int[np.ndarray, "batch length"], kinds: int) -> Float[np.ndarray, "batch length kinds"]:
    """Returns each symbol's count up to each position, plus one, as a share."""
    counts = 1 + np.cumsum(np.eye(kinds)[symbols], axis=1)
    return counts / counts.sum(axis=2, keepdims=True)


@functools.cache
def _shortcuts(task: MarkovTask) -> dict[str, tuple[float, float]]:
    """Returns accuracy and divergence of each shortcut, over a fixed large sample."""
    sample = jax.jit(lambda rng: task.sample(rng, _FLOOR_ROWS)._replace(evidence=jnp.zeros((0, 0, 0), jnp.int32)))
    batch = jax.tree.map(np.asarray, sample(jax.random.key(0)))
    found = {}
    for name, chances in task.guesses(batch.inputs).items():
        guess = chances[:, 1:-1]
        accuracy = float(task.is_right(guess, batch.targets).mean())
        found[name] = accuracy, float(scipy.special.rel_entr(batch.targets, guess).sum(axis=2).mean())
    return found
