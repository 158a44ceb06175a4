"""Functions for drawing and counting that several tasks share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray


def distinct(rng: PRNGKeyArray, batch_size: int, count: int, total: int) -> Int[Array, "batch count"]:
    """Draws `count` distinct numbers below `total` per row, in uniformly random order.

    Floyd's algorithm: for j = total - count .. total - 1, draw t uniform over 0..j and take t, or j if t is already
    taken; this makes every subset equally likely, and a shuffle then makes every order equally likely. Unlike that of a
    permutation of all numbers, its cost does not grow with `total`, which may be a whole vocabulary.

    References:
      Bentley and Floyd 1987, "A sample of brilliance".
    """
    draw_rng, shuffle_rng = jax.random.split(rng)
    highest = jnp.arange(total - count, total, dtype=jnp.int32)[:, None]
    draws = jax.random.randint(draw_rng, (count, batch_size), 0, highest + 1, jnp.int32)

    def take(taken: Array, step: tuple[Array, Array, Array]) -> tuple[Array, None]:
        i, j, t = step
        return taken.at[i].set(jnp.where((taken == t[None]).any(axis=0), j, t)), None

    taken = jnp.full((count, batch_size), -1, jnp.int32)
    taken, _ = jax.lax.scan(take, taken, (jnp.arange(count), highest, draws))
    order = jnp.argsort(jax.random.bits(shuffle_rng, (batch_size, count), jnp.uint32), axis=1)
    return jnp.take_along_axis(taken.T, order, axis=1)


def weighted_distinct(
    rng: PRNGKeyArray, log_weights: Float[Array, "batch total"], count: int
) -> Int[Array, "batch count"]:
    """Draws `count` distinct indices per row without replacement, in draw order.

    Probabilities are proportional to the weights, renormalised after each draw. Adding independent Gumbel noise to the
    log-weights and sorting in descending order has exactly this distribution, order included.

    References:
      Yellott 1977, "The relationship between Luce's choice axiom, Thurstone's theory ..."; Kool et al. 2019,
      arXiv:1903.06059, section 2.
    """
    noise = jax.random.gumbel(rng, log_weights.shape, jnp.float32)
    return jax.lax.top_k(log_weights + noise, count)[1]


_MANY = 2048  # draws; beyond this, convolutions of whole series take minutes


@functools.cache
def expected_highest_count(draws: int, kinds: int) -> float:
    """Returns how often, on average, the most frequent of `kinds` equally likely kinds occurs in `draws` draws.

    Divided by `draws`, it is the accuracy of answering with a row's most frequent token where the answer is one of its
    tokens. E[max] = sum over c >= 0 of P(max > c), and P(max <= c) is the chance that `kinds` independent Poisson
    counts stay at or below c, given that they add up to `draws`.
    """
    mean = draws / kinds
    counts = np.arange(draws + 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(counts[1:]))])
    poisson = np.exp(counts * np.log(mean) - mean - log_factorials)
    total = np.exp(draws * np.log(draws) - draws - log_factorials[-1])
    if draws > _MANY:
        return _expected_highest_of_many(poisson, kinds, total)
    expected = 0.0
    for highest in range(draws):
        above = 1 - _power(np.where(counts <= highest, poisson, 0.0), kinds)[draws] / total
        expected += above
        if highest > mean and above < 1e-9:
            break
    return float(expected)


def share_of_commonest(draws: int, kinds: int) -> float:
    """Returns how often a given one of `draws` draws is of their most frequent kind, see above."""
    return expected_highest_count(int(draws), kinds) / int(draws)


def _expected_highest_of_many(poisson: Float[np.ndarray, " counts"], kinds: int, total: float) -> float:
    """Returns the same sum, with the power of a series by Fourier transforms; its terms are 1 up to the mean."""
    draws, expected = len(poisson) - 1, 0.0
    for highest in range(draws):
        above = 1.0
        if highest * kinds >= draws:
            size = 2 ** (highest * kinds).bit_length()  # long enough that the power does not wrap around
            power = np.fft.irfft(np.fft.rfft(poisson[: highest + 1], size) ** kinds, size)
            above = 1 - power[draws] / total
        expected += above
        if above < 1e-9:
            break
    return float(expected)


def guessing_floors(tokens: int, kinds: int) -> dict[str, float]:
    """Returns the floors of tasks that ask for one of a row's independent, uniform tokens."""
    most_frequent = expected_highest_count(tokens, kinds) / tokens
    return {"guess a token": 1 / kinds, "guess the row's most frequent token": most_frequent}


def best_copies(
    place: Int[np.ndarray, " answers"],
    source: Int[np.ndarray, " answers"],
    length: Int[np.ndarray, " answers"],
    kinds: int,
) -> float:
    """Returns the accuracy of copying all answers at the same place from one position of their strings.

    For each place, the best position is taken. Copies from the source are right, those from elsewhere in the string by
    chance, those from beyond its end never.

    Args:
      place: what a model knows about where it is.
      source: the position in the string that each answer repeats.
      length: tokens of each answer's string, which are independent and uniform.
      kinds: how many tokens there are.
    """
    right, longest = 0.0, int(length.max())
    for there in np.split(np.argsort(place, kind="stable"), np.flatnonzero(np.diff(np.sort(place))) + 1):
        same = np.bincount(source[there], minlength=longest)
        of_length = np.bincount(length[there], minlength=longest + 1)
        inside = np.cumsum(of_length[::-1])[::-1][1:]  # strings that reach beyond each position
        right += (same + (inside - same) / kinds).max()
    return float(right / len(place))


@functools.cache
def right_when_sorted(count: int, kinds: int) -> Float[np.ndarray, " count"]:
    """Returns how often a guess at each place of `count` uniform tokens in ascending order is right.

    The guess is either the likeliest token there or the token at a fixed place before sorting. Token j in order is at
    most v if more than j of all tokens are. It equals a given token v if at most j of the others are below v and at
    least j of them are at most v.
    """
    place, kind = np.arange(count)[:, None], np.arange(kinds + 1)[None]
    at_most = scipy.stats.binom.sf(place, count, kind / kinds)
    below = scipy.stats.binom.cdf(place, count - 1, kind / kinds)
    not_above = scipy.stats.binom.sf(place - 1, count - 1, kind / kinds)
    given = (below[:, :-1] + not_above[:, 1:] - 1).mean(axis=1)
    return np.maximum(np.diff(at_most, axis=1).max(axis=1), given)


def _power(series: np.ndarray, exponent: int) -> np.ndarray:
    """Raises a power series to a power, truncated to its own length."""
    result = np.zeros_like(series)
    result[0] = 1.0
    while exponent:
        if exponent % 2:
            result = np.convolve(result, series)[: len(series)]
        series = np.convolve(series, series)[: len(series)]
        exponent //= 2
    return result
