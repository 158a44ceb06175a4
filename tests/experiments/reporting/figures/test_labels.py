import pytest

from experiments.reporting.figures import labels


def test_spread_keeps_order_room_and_bounds():
    places = labels.spread([0.9, 0.9, 0.91, 1.0], [0.1] * 4, 0.0, 1.06)
    assert all(b - a >= 0.1 - 1e-9 for a, b in zip(places, places[1:], strict=False))
    assert places[0] >= 0.05 and places[-1] <= 1.01 + 1e-9
    low = labels.spread([0.0, 0.0, 0.01], [0.1] * 3, 0.0, 1.06)
    assert low == pytest.approx([0.05, 0.15, 0.25])
    assert labels.spread([0.2, 0.8], [0.1, 0.1], 0.0, 1.0) == [0.2, 0.8]
