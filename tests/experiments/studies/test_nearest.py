"""The search for the integer at which a function comes nearest to zero, against trying every integer."""

import pytest

from experiments.studies.nearest import nearest

MOST = 300
RISING = {
    "a line": lambda place: place / 77 - 1,
    "a line that is met exactly": lambda place: place / 64 - 1,
    "a square": lambda place: place**2 / 5000 - 1,
    "steps": lambda place: (place // 7) / 9 - 1,
    "all below": lambda place: place / 1000 - 1,
    "all above": lambda place: place + 3.0,
}


@pytest.mark.parametrize("start", [1, 2, 63, 64, 65, 200, MOST])
@pytest.mark.parametrize("name", RISING)
@pytest.mark.parametrize("falling", [False, True])
def test_no_place_is_nearer(name, start, falling):
    function = RISING[name]
    visited = []

    def error(place):
        visited.append(place)
        return -function(place) if falling else function(place)

    place, off = nearest(error, start, MOST)
    best = min(abs(function(other)) for other in range(1, MOST + 1))
    assert off == error(place) and 1 <= place <= MOST
    assert abs(off) == pytest.approx(best, abs=1e-3)
    assert len(set(visited)) < 30 and min(visited) >= 1 and max(visited) <= MOST


@pytest.mark.parametrize("end", [70, 76, 90, 1000])
def test_where_there_is_no_value_the_range_ends(end):
    """Places from `end` on cannot be; the last that can be is found where the zero lies behind it."""
    place, off = nearest(lambda place: None if place >= end else place / 77 - 1, 10, MOST)
    assert place == min(77, end - 1) and off == place / 77 - 1


def test_without_any_value_there_is_none():
    assert nearest(lambda place: None, 5, MOST) == (5, None)
