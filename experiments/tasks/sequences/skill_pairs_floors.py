"""What pairs of skills do, and how often answers that know less than the pair are right.

Symbols are uniform and independent: an answer made from a symbol other than the right one is right by chance.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Applied(NamedTuple):
    """What each pair does: answer i is maps[pair, string[orders[pair, i]]]."""

    pairs: Int[np.ndarray, "pairs 2"]  # first and second skill; the number of all skills stands for none
    orders: Int[np.ndarray, "pairs string_length"]
    maps: Int[np.ndarray, "pairs num_symbols"]


def right(
    applied: Applied,
    order: Int[np.ndarray, "pairs string_length"],
    answer: Int[np.ndarray, "pairs #string_length num_symbols"],
) -> float:
    """Returns how often answers that read given places, and make given symbols of what stands there, are right.

    Args:
      applied: equally likely pairs.
      order: the place from which each answer is made, by pair.
      answer: the answer to each symbol there, by pair and answer.
    """
    same = (answer == applied.maps[:, None]).mean(axis=2)
    return float(np.where(order == applied.orders, same, 1 / applied.maps.shape[1]).mean())


def copied(applied: Applied) -> float:
    """Returns how often answers copied from the best place for each of them, whatever the pair, are right."""
    place = np.arange(applied.orders.shape[1])[:, None, None]  # by place, pair and answer
    unchanged = (applied.maps == np.arange(applied.maps.shape[1])).mean(axis=1)
    scores = np.where(applied.orders == place, unchanged[:, None], 1 / applied.maps.shape[1]).mean(axis=1)
    return float(scores.max(axis=0).mean())


def likeliest(
    applied: Applied, place: int, skill: int
) -> tuple[Int[np.ndarray, " string_length"], Int[np.ndarray, "string_length num_symbols"]]:
    """Returns the best answers from one symbol each, knowing one skill of the pair: the places, and what is answered.

    Args:
      applied: equally likely pairs, of which those with the skill count.
      place: of the skill in the pair.
      skill: which one.
    """
    known = applied.pairs[:, place] == skill
    orders, maps = applied.orders[known], applied.maps[known]
    length, symbols = orders.shape[1], maps.shape[1]
    taken = (orders[:, :, None] == np.arange(length)).astype(float)  # [pairs, answer, source]
    made = (maps[:, :, None] == np.arange(symbols)).astype(float)  # [pairs, symbol, answered by]
    counts = np.einsum("pis,pxy->isxy", taken, made)  # all else is right by chance, whatever is answered
    others = (1 - taken).sum(axis=0) / symbols
    source = (counts.max(axis=3).mean(axis=2) + others).argmax(axis=1)
    return source, counts[np.arange(length), source].argmax(axis=2)
