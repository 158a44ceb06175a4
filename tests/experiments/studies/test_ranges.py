"""Ranges stand for values of a numeric field: laid out or drawn."""

import math
import statistics

import pytest

from attention_variants.specs import SpecError
from experiments.studies.ranges import read_range


def values(text, kind=float, key="train.learning_rate"):
    return read_range(key, kind, text).values


@pytest.mark.parametrize(
    "text, kind, expected",
    [
        ("log(1e-4,1e-2,4)", float, [1e-4, 4.642e-4, 2.154e-3, 1e-2]),
        (" log( 1e-3 , 1e-1 , 3 ) ", float, [1e-3, 1e-2, 1e-1]),
        ("linear(0,1,5)", float, [0, 0.25, 0.5, 0.75, 1]),
        ("linear(-1,1,3)", float, [-1, 0, 1]),
        ("log(1,64,7)", int, [1, 2, 4, 8, 16, 32, 64]),
        ("linear(16,61,4)", int, [16, 31, 46, 61]),
    ],
)
def test_even_ranges_end_at_both_ends(text, kind, expected):
    found = read_range("train.steps", kind, text)
    assert found.values == expected and not found.drawn
    assert {type(value) for value in found.values} == {kind}


@pytest.mark.parametrize("name, middle", [("uniform", 0.5005), ("loguniform", math.sqrt(1e-3))])
def test_draws_lie_between_the_ends_around_the_middle_of_their_scale(name, middle):
    drawn = values(f"{name}(1e-3,1,997)")
    assert min(drawn) >= 1e-3 and max(drawn) <= 1 and len(set(drawn)) > 900
    assert statistics.median(drawn) == pytest.approx(middle, rel=0.2)
    assert drawn != sorted(drawn)


def test_every_integer_is_as_likely():
    drawn = values("uniform(1,4,4000)", int)
    assert set(drawn) == {1, 2, 3, 4}
    assert all(abs(drawn.count(number) - 1000) < 100 for number in range(1, 5))


def test_more_draws_begin_with_the_same_and_differ_between_fields_and_ranges():
    few, many = values("loguniform(1e-4,1e-2,5)"), values("loguniform(1e-4,1e-2,50)")
    assert many[:5] == few
    others = [values("loguniform(1e-4,1e-1,5)"), values("loguniform(1e-4,1e-2,5)", key="train.clip_norm")]
    places = [[math.log(value / 1e-4) / math.log(high / 1e-4) for value in found]
              for found, high in ((few, 1e-2), (others[0], 1e-1), (others[1], 1e-2))]  # fmt: skip
    assert all(abs(a - b) > 1e-3 for other in places[1:] for a, b in zip(places[0], other, strict=True))


@pytest.mark.parametrize(
    "text, kind, message",
    [
        ("log(1e-4,1e-2)", float, r"written \(low,high,n\)"),
        ("log()", float, r"written \(low,high,n\)"),
        ("log(1,2,3,4)", float, r"written \(low,high,n\)"),
        ("log(a,1,3)", float, "low and high must be a finite number; got 'a'"),
        ("log(1,inf,3)", float, "low and high must be a finite number; got 'inf'"),
        ("log(1,2,2.5)", float, "n must be an integer; got '2.5'"),
        ("log(0,1,3)", float, "must be positive; got 0"),
        ("loguniform(-1,1,3)", float, "must be positive; got -1"),
        ("linear(2,1,3)", float, "low must be less than high; got 2 and 1"),
        ("linear(1,1,3)", float, "low must be less than high"),
        ("linear(0,1,1)", float, "n must be from 2 to 10000; got 1"),
        ("linear(0,1,1000000)", float, "n must be from 2 to 10000; got 1000000"),
        ("linear(1,3,7)", int, "has only 3 different values; ask for fewer than 7"),
        ("lgo(1,2,3)", float, "unknown range 'lgo'; valid choices, nearest first: log"),
    ],
)
def test_a_wrong_range_is_one_line_and_names_itself(text, kind, message):
    with pytest.raises(SpecError, match=message) as caught:
        read_range("train.steps", kind, text)
    assert str(caught.value).startswith(f"train.steps={text}") and "\n" not in str(caught.value)


def test_other_values_are_no_ranges():
    assert read_range("train.learning_rate", float, "1e-3") is None
    assert read_range("model.attention", str, "log(1,2,3)") is None
