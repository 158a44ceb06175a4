"""Finite groups of permutations: symmetric, alternating and cyclic ones, and their direct products."""

import functools
import itertools
import math
import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

LARGEST_ORDER = 720  # squared, the number of entries in the table
_FACTOR = re.compile(r"([SAZ])([1-9]\d{0,2})")


class Group(NamedTuple):
    """A group whose elements are numbered in the order of their images; 0 is the identity."""

    images: Int[np.ndarray, "order points"]  # element a maps point p to images[a, p]
    table: Int[np.ndarray, "order order"]  # table[a, b] is a b, the map that applies b first
    classes: Int[np.ndarray, " order"]  # elements that differ only by the order of the factors they are made of

    @property
    def moved(self) -> Int[np.ndarray, " order"]:
        """How many points each element moves."""
        return (self.images != np.arange(self.images.shape[1])).sum(axis=1)


@functools.cache
def make_group(name: str) -> Group:
    """Builds a group from a name such as S5, A5, Z60 or A4xZ5; raises ValueError."""
    factors = [_FACTOR.fullmatch(factor) for factor in name.split("x")]
    sizes = [(factor[1], int(factor[2])) for factor in factors if factor]
    if None in factors or not 2 <= math.prod(_order(*size) for size in sizes) <= LARGEST_ORDER:
        raise ValueError(
            f"`group` must be S, A or Z and a number, or several of them such as A4xZ5, with 2 to {LARGEST_ORDER} "
            f"elements; got {name!r}."
        )
    images: list[tuple[int, ...]] = [()]
    for kind, points in sizes:
        images = [(*one, *(len(one) + point for point in other)) for one in images for other in _maps(kind, points)]
    every = np.array(sorted(images), np.int32)
    number = {image.tobytes(): index for index, image in enumerate(every)}
    table = np.array([[number[image.tobytes()] for image in one[every]] for one in every], np.int32)
    return Group(every, table, _classes(table))


def _order(kind: str, points: int) -> int:
    return points if kind == "Z" else math.factorial(points) // (2 if kind == "A" and points > 1 else 1)


def _maps(kind: str, points: int) -> list[tuple[int, ...]]:
    """Returns all rotations of the points, all even permutations, or all permutations."""
    if kind == "Z":
        return [tuple((point + step) % points for point in range(points)) for step in range(points)]
    every = list(itertools.permutations(range(points)))
    return [image for image in every if kind == "S" or _is_even(image)]


def _is_even(image: tuple[int, ...]) -> bool:
    return sum(one > other for one, other in itertools.combinations(image, 2)) % 2 == 0


def _classes(table: Int[np.ndarray, "order order"]) -> Int[np.ndarray, " order"]:
    """Returns the cosets of the subgroup of all a b a^-1 b^-1, numbered by their lowest element.

    In general, these generate the subgroup; in symmetric, alternating and cyclic groups and their products, they are
    all of it (Ore 1951).
    """
    inverse = (table == 0).argmax(axis=1)
    found = np.unique(table[table, inverse[table.T]])  # (a b) (b a)^-1
    return table[:, found].min(axis=1)
