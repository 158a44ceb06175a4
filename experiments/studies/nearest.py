"""The integer at which a function of integers comes nearest to zero."""

from collections.abc import Callable

_EXACT = 1e-3  # near enough to stop
_FIRST_FACTOR, _LARGEST_FACTOR = 1.25, 8.0  # of the steps of a search that has not met the zero


def nearest(error: Callable[[int], float | None], start: int, most: int) -> tuple[int, float | None]:
    """Returns the place of least |error| among those from 1 to `most` that a search visits, and its error.

    The search leaves `start` in the direction in which the error falls, with growing steps, until it changes sign, and
    then halves the interval. For a function that rises or falls throughout, it finds the nearest place of all.

    Args:
      error: None where there is no value, which is taken as the end of the range.
      start: from 1 to `most`, where there is a value.
      most: the last place.
    """
    tried: dict[int, float | None] = {}

    def at(place: int) -> float | None:
        if place not in tried:
            tried[place] = error(place)
        return tried[place]

    first = at(start)
    if first is not None and first != 0:
        for upwards in (first < 0, first > 0):
            bracket = _bracket(at, start, most, upwards)
            if bracket is not None:
                _halve(at, *bracket)
                break
    known = {place: off for place, off in tried.items() if off is not None}
    best = min(known, key=lambda place: abs(known[place]), default=start)
    return best, known.get(best)


def _bracket(at: Callable[[int], float | None], start: int, most: int, upwards: bool) -> tuple[int, int] | None:
    """Returns two places between which the error changes sign, or ends; None if it does not fall that way."""
    near, factor = start, _FIRST_FACTOR
    while True:
        far = min(most, max(near + 1, round(near * factor))) if upwards else max(1, min(near - 1, round(near / factor)))
        before, after = at(near), at(far)
        if after is None or before is None or (after > 0) != (before > 0):
            return (near, far) if far != near else None
        if abs(after) > abs(before) or far == near:
            return None
        near, factor = far, min(factor**2, _LARGEST_FACTOR)


def _halve(at: Callable[[int], float | None], near: int, far: int) -> None:
    """Tries places between two until they are neighbours, or one is near enough."""
    side = (at(near) or 0.0) > 0
    while abs(near - far) > 1:
        middle = (near + far) // 2
        off = at(middle)
        if off is not None and abs(off) <= _EXACT:
            return
        if off is None or (off > 0) != side:
            far = middle
        else:
            near = middle
