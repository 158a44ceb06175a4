"""How well a question's place alone predicts which pair it asks for, when each pair draws a slot for its question."""

import functools

import numpy as np
from jaxtyping import Float, Int

_NEGLIGIBLE = 1e-9  # probability of what the integral leaves out
_DRAWN = 2**23  # random numbers behind `from_rank`: its error is below 0.001
_MOST_ROWS = 2**18


@functools.cache
def from_position(num_slots: int, num_pairs: int, power: float) -> float:
    """Returns the accuracy of answering each question with the pair that is most often queried in its slot.

    Slots are drawn without replacement, slot s with a probability proportional to (s + 1)^(power - 1); pair i is
    queried in the i-th of them.
    """
    return float(law(num_slots, num_pairs, power).max(axis=0).sum() / num_pairs)


@functools.cache
def from_rank(num_slots: int, num_pairs: int, power: float) -> float:
    """Returns the accuracy of answering the n-th question of a row with the pair that is most often queried n-th.

    Each half of a fixed large sample is scored by the table from n to pairs that fits the other half best.
    """
    draws = _draws(num_slots, num_pairs, power)
    rank = np.argsort(np.argsort(draws, axis=1), axis=1)
    counts = np.zeros((2, num_pairs, num_pairs), np.int64)  # by half, rank and pair
    for half, ranks in zip(counts, np.array_split(rank, 2), strict=True):
        for pair in range(num_pairs):
            half[:, pair] = np.bincount(ranks[:, pair], minlength=num_pairs)
    tables = counts.argmax(axis=2)[::-1]
    right = np.take_along_axis(counts, tables[..., None], axis=2).sum()
    return float(right / rank.size)


def law(num_slots: int, num_pairs: int, power: float) -> Float[np.ndarray, "pairs slots"]:
    """Returns the probability that pair i is queried in slot s.

    If slot s rings after an exponential time with rate w_s, its weight, then slots ring in the order of such draws. So
    pair i is queried in slot s with probability

      integral over t of w_s exp(-w_s t) P(i of the other slots ring before t),

    where each other slot rings before t with probability 1 - exp(-w t), independently. The trapezoid rule over log t
    gives it to more than six digits.
    """
    log_rates = (power - 1) * (np.log1p(np.arange(num_slots)) - np.log(num_slots if power > 1 else 1))
    log_times, step = _log_times(log_rates, num_pairs)
    rates_times = _exp(log_rates[:, None] + log_times[None])  # w t
    ringing = -np.expm1(-rates_times)
    density = step * rates_times * np.exp(-rates_times)  # of log t
    result = np.zeros((num_pairs, num_slots))

    def leave_one_out(first: int, end: int, others: Float[np.ndarray, "pairs times"]) -> None:
        """`others` is the law of the number, below num_pairs, of slots outside first..end - 1 that ring before t."""
        if end - first == 1:
            result[:, first] = others @ density[first]
            return
        middle = (first + end) // 2
        for (begin, stop), added in (((first, middle), range(middle, end)), ((middle, end), range(first, middle))):
            counted = others
            for slot in added:
                counted, rings = counted * (1 - ringing[slot]), counted[:-1] * ringing[slot]
                counted[1:] += rings
            leave_one_out(begin, stop, counted)

    leave_one_out(0, num_slots, np.eye(num_pairs, 1) * np.ones_like(log_times))
    return result


def _log_times(log_rates: Float[np.ndarray, " slots"], num_pairs: int) -> tuple[Float[np.ndarray, " times"], float]:
    """Returns log t from where hardly any slot has rung to where `num_pairs` of them have, and the step size."""
    step = min(0.25, 0.8 / num_pairs**0.5)  # the sharpest factor of the integrand is about 1 / sqrt(num_pairs) wide
    earliest = np.log(_NEGLIGIBLE) - np.log(np.exp(log_rates).sum())
    latest = np.log(-np.log(_NEGLIGIBLE)) - log_rates.min()  # by then all slots have rung
    enough = num_pairs + 7 * num_pairs**0.5 + 25  # slots expected to ring: fewer than num_pairs hardly ever do
    log_times = np.arange(earliest, latest + step, step)
    expected = np.array([-np.expm1(-_exp(log_rates + log_time)).sum() for log_time in log_times])
    return log_times[: np.searchsorted(expected, enough) + 1], step


def _exp(exponent: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return np.exp(np.minimum(exponent, 700.0))  # beyond this, all slots have rung, and float64 overflows


def _draws(num_slots: int, num_pairs: int, power: float) -> Int[np.ndarray, "rows pairs"]:
    """Draws slots as `sampling.weighted_distinct` does, in NumPy."""
    rows = min(_MOST_ROWS, max(2, _DRAWN // num_slots))
    # The old generator: its stream is frozen; that of the new one may change with NumPy.
    keys = np.random.RandomState(0).gumbel(size=(rows, num_slots)) + (power - 1) * np.log1p(np.arange(num_slots))
    first = np.argpartition(-keys, num_pairs - 1, axis=1)[:, :num_pairs]
    order = np.argsort(-np.take_along_axis(keys, first, axis=1), axis=1)
    return np.take_along_axis(first, order, axis=1)
