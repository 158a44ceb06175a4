"""Exponents that are fitted over lengths."""

import pytest

from experiments.benchmarks import attention_tables, scaling
from experiments.benchmarks.attention import Sizes, Timing


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_a_power_of_the_length_is_found(power):
    found = scaling.fit([(length, 3 * length**power) for length in (128, 512, 1024)])
    assert [found.value, found.low, found.high] == pytest.approx([power] * 3)


def test_the_spread_says_where_no_power_fits():
    """Over lengths that double, a middle point above a line leaves the slope and widens the spread."""
    found = scaling.fit([(64, 1.0), (128, 4.0), (256, 4.0)])
    assert found == scaling.Exponent(pytest.approx(1.0), pytest.approx(0.0), pytest.approx(2.0))


@pytest.mark.parametrize("points", [[], [(8, 1.0)], [(8, 1.0), (16, 2.0)], [(8, 0.0), (16, 2.0), (32, None)]])
def test_two_points_fit_any_power(points):
    assert scaling.fit(points) is None


def timings(*contenders):
    """Returns timings of (name, power of time, power of memory) at three lengths, the longest first."""
    return [
        Timing(name, length, length**1.0, length**time / 7, 3, length**memory, forward_bytes=length**2)
        for length in (400, 200, 100)
        for name, time, memory in contenders
    ]


def test_each_contender_has_its_exponents():
    given = timings(("a", 2, 1), ("b", 1, 2))
    short = Timing("c", 100, 1.0, 1.0, None, None)
    first, second = scaling.of([*given, short])
    assert (first.variant, second.variant, first.lengths) == ("a", "b", (100, 200, 400))
    fields = ("forward_time", "gradient_time", "forward_memory", "gradient_memory")
    values = [[getattr(each, field).value for field in fields] for each in (first, second)]
    assert values == [pytest.approx([1, 2, 2, 1]), pytest.approx([1, 1, 2, 2])]


@pytest.mark.parametrize("style", ["text", "markdown"])
def test_exponents_are_a_table_of_their_own(style):
    given = timings(("a", 2, 1))
    text = attention_tables.render(given, scaling.of(given), style, Sizes())
    (line,) = [line for line in text.splitlines() if "100 to 400" in line]
    assert line.count("2.00 (2.00 to 2.00)") == 2 and line.count("1.00 (1.00 to 1.00)") == 2
    assert "Exponents" not in attention_tables.render(given[:1], scaling.of(given[:1]), style, Sizes())


def test_caption_and_spread_say_what_was_measured():
    timing = Timing("a", 100, 1.0, 4.0, 3, 4, gradient_quartiles=(3.5, 4.7), resident_bytes=2_340_000_000)
    text = attention_tables.render([timing], [], "text", Sizes(dtype="bfloat16", longest_call=2.5))
    assert "bfloat16" in text and "float32" not in text and "once a call took 2.5 s" in text
    assert " 30% " in text and "2.34 GB" in text and "Process: " in text
