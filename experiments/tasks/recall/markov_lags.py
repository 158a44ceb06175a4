"""Interleaved Markov chains: the chain is always the same, and its lag must be inferred from the row."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, check_size
from experiments.tasks.recall.markov_icl import Drawn, MarkovTask, symbol_counts

_STEPS = 2**12  # a chance is a multiple of 1 / 4096
_LOG_STEPS = 2**10  # a log chance is a multiple of 1 / 1024
_LARGEST_WEIGHT = 2**14  # of a lag: sums of products with chances stay below 2**31
_MOST_LAGS = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarkovLags(MarkovTask):
    """Interleaved Markov chains.

    With `num_symbols=2, max_lag=2`, and a matrix by which a symbol is mostly followed by the other one; in a row of lag
    2, that happens two places later::

        0 1 1 0 0 1 1 0 0
                      mostly 0   <- target

    One transition matrix, drawn by `map_seed` with rows uniform among all distributions, holds for all rows of
    training, validation and test. Every row draws a lag, uniform over 1..max_lag: its first symbols, as many as the
    lag, are uniform, and every other one follows the symbol that many places before it. The posterior weights the lags
    by the likelihood of the row so far. It is computed in integers, to about four digits, so that rows are the same on
    every machine.

    Training uses every next symbol. A test compares the model's distribution with the posterior at every position but
    the first and the last, after which there is nothing to train on. The loss is the Kullback-Leibler divergence from
    the posterior, 0 for the best possible model, and an answer is right within a total variation of 0.05. The evidence
    is everything up to the position; no bound is claimed for a model that sees less. Floors are measured over a fixed
    large sample.

    References:
      D'Angelo et al. 2025, "Selective induction heads", arXiv:2509.08184, where three layers of attention suffice.
    """

    summary: ClassVar[str] = "interleaved Markov chains: predict the next symbol's distribution at a lag to be inferred"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"lag": "lag of the row"}

    max_lag: int = 5
    map_seed: int = 5  # draws the matrix; its rows are far apart with the default, much alike with 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("max_lag", self.max_lag, 1)
        check_size("map_seed", self.map_seed, 0)
        if self.max_lag > min(_MOST_LAGS, self.length - 1):
            most = min(_MOST_LAGS, self.length - 1)
            raise ValueError(f"`max_lag` must be at most {most}; got {self.max_lag}.")

    @property
    def chances(self) -> Int[np.ndarray, "symbols symbols"]:
        """The transition matrix in steps of 1 / 4096; no chance is 0."""
        # The old generator: its stream is frozen, that of the new one may change with NumPy.
        drawn = np.random.RandomState(self.map_seed).exponential(size=(self.num_symbols, self.num_symbols))
        shares = np.cumsum(drawn, axis=1) / drawn.sum(axis=1, keepdims=True)
        limits = np.round(shares * (_STEPS - self.num_symbols)).astype(np.int32) + np.arange(1, self.num_symbols + 1)
        return np.diff(limits, axis=1, prepend=0).astype(np.int32)

    @property
    def most_often_close(self) -> Float[np.ndarray, " symbols"]:
        """The one of some posteriors that is right for most of them: rows of a matrix may be alike."""
        return _most_often_close(self)

    def _in_the_long_run(self) -> Float[np.ndarray, " symbols"]:
        """Returns the stationary distribution of the matrix."""
        return np.linalg.matrix_power(self.chances / _STEPS, 2**16)[0]

    @override
    def draw(self, rng: PRNGKeyArray, batch_size: int) -> Drawn:
        lag_rng, first_rng, next_rng = jax.random.split(rng, 3)
        lag = jax.random.randint(lag_rng, (batch_size, 1), 1, self.max_lag + 1, jnp.int32)
        first = jax.random.randint(first_rng, (self.length, batch_size), 0, self.num_symbols, jnp.int32)
        chance = jax.random.randint(next_rng, (self.length, batch_size), 0, _STEPS, jnp.int32)
        limits = jnp.asarray(np.cumsum(self.chances, axis=1), jnp.int32)

        def step(last: Array, given: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            """`last` holds the symbols at the lags 1, 2 ..."""
            place, uniform, chance = given
            source = jnp.take_along_axis(last, lag - 1, axis=1)[:, 0]
            following = (chance[:, None] >= limits[source]).sum(axis=1, dtype=jnp.int32)
            symbol = jnp.where(place < lag[:, 0], uniform, following)
            return jnp.concatenate([symbol[:, None], last[:, :-1]], axis=1), symbol

        start = jnp.zeros((batch_size, self.max_lag), jnp.int32)
        place = jnp.arange(self.length, dtype=jnp.int32)
        symbols = jax.lax.scan(step, start, (place, first, chance))[1].T
        return Drawn(symbols, self._posterior(symbols), {"lag": jnp.broadcast_to(lag, symbols.shape)})

    def _posterior(self, symbols: Int[Array, "batch length"]) -> Float[Array, "batch length symbols"]:
        """Returns the posterior after each position, in integers up to one division."""
        uniform = np.full((1, self.num_symbols), _STEPS // self.num_symbols)  # where there is no symbol that far back
        chances = np.append(self.chances, uniform, axis=0)
        logs = np.round(_LOG_STEPS * np.log(chances / _STEPS))
        of, ahead = [], []
        for lag in range(1, self.max_lag + 1):
            source = jnp.pad(symbols, ((0, 0), (lag, 0)), constant_values=self.num_symbols)  # none: uniform
            of.append(jnp.asarray(logs, jnp.int32)[source[:, : self.length], symbols])
            ahead.append(jnp.asarray(chances, jnp.int32)[source[:, 1 : self.length + 1]])
        likelihood = jnp.cumsum(jnp.stack(of), axis=2, dtype=jnp.int32)
        behind = likelihood.max(axis=0, keepdims=True) - likelihood
        weight = jnp.asarray(_weights())[jnp.minimum(behind, len(_weights()) - 1)]
        product = (weight[..., None] * jnp.stack(ahead)).sum(axis=0, dtype=jnp.int32)
        return product.astype(jnp.float32) / product.sum(axis=2, keepdims=True, dtype=jnp.int32).astype(jnp.float32)

    @override
    def posteriors(self, row: list[int]) -> list[np.ndarray]:
        """Multiplies the probabilities of the symbols so far, for each lag."""
        matrix, uniform = self.chances / _STEPS, np.full(self.num_symbols, 1 / self.num_symbols)
        likelihood, found = np.zeros(self.max_lag), []
        for place, symbol in enumerate(row):
            ahead = []
            for lag in range(1, self.max_lag + 1):
                likelihood[lag - 1] += np.log(matrix[row[place - lag]] if place >= lag else uniform)[symbol]
                ahead.append(matrix[row[place + 1 - lag]] if place + 1 >= lag else uniform)
            weights = np.exp(likelihood - likelihood.max())
            found.append(weights @ np.array(ahead) / weights.sum())
        return found

    @override
    def guesses(self, symbols: Int[np.ndarray, "batch length"]) -> dict[str, Float[np.ndarray, "batch length symbols"]]:
        """One distribution, the symbols' counts, the matrix at one lag, and its mean over all lags."""
        unigram = symbol_counts(symbols, self.num_symbols)
        ahead = np.full((self.max_lag, *unigram.shape), 1 / self.num_symbols)
        for lag in range(1, self.max_lag + 1):
            ahead[lag - 1, :, lag - 1 :] = (self.chances / _STEPS)[symbols[:, : self.length + 1 - lag]]
        guesses = {
            "answer uniformly": np.full(unigram.shape, 1 / self.num_symbols),
            "answer with the chances in the long run": np.broadcast_to(self._in_the_long_run(), unigram.shape),
            "answer with what is most often close": np.broadcast_to(self.most_often_close, unigram.shape),
            "answer with the counts of all symbols so far": unigram,
        }
        if self.max_lag > 1:  # else each of them is the task itself
            guesses |= {"assume lag 1": ahead[0], "average over all lags": ahead.mean(axis=0)}
        return guesses


@functools.cache
def _most_often_close(task: MarkovLags) -> Float[np.ndarray, " symbols"]:
    sample = jax.jit(lambda rng: task.sample(rng, 256).targets)
    posteriors = np.asarray(sample(jax.random.key(1))).reshape(-1, task.num_symbols)
    posteriors = np.random.RandomState(0).permutation(posteriors)[:4096]  # a stride could hit only one position
    some = posteriors[:64]
    return some[np.argmax([task.is_right(posteriors, each[None]).sum() for each in some])]


@functools.cache
def _weights() -> Int[np.ndarray, " steps"]:
    """Returns the weight of a lag by how far its log likelihood is below that of the likeliest one; 0 in the end."""
    behind = np.arange(_LOG_STEPS * 12)
    return np.round(_LARGEST_WEIGHT * np.exp(-behind / _LOG_STEPS)).astype(np.int32)
