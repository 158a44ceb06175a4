import pytest

from experiments.reporting import text


@pytest.mark.parametrize(
    "value, unit, expected",
    [
        (None, "", "-"),
        (0, "", "0"),
        (7, "", "7"),
        (0.01234, "", "0.0123"),
        (999, "", "999"),
        (999.7, "", "1.00k"),
        (1000, "", "1k"),
        (1_234_567, "", "1.23M"),
        (33_920, "B", "33.9 kB"),
        (512, "B", "512 B"),
        (1.5e13, "", "15T"),
        (float("inf"), "", "-"),
    ],
)
def test_human(value, unit, expected):
    assert text.human(value, unit) == expected


def test_words():
    assert [text.plural(count, "run") for count in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert [text.listed(items) for items in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert text.one_line(" a\n  b\t") == "a b" and text.rate(None) == "-" and text.rate(0.98765) == "0.988"
    assert [text.setting(value) for value in (1e-05, 3, True, "full")] == ["1e-05", "3", "True", "full"]


def test_specs_are_broken_between_their_fields():
    assert text.wrap_spec("conv+full", 20) == ["conv+full"]
    assert text.wrap_spec("conv+window:size=16,sinks=4", 12) == ["conv+window:", "  size=16,", "  sinks=4"]


def test_an_environment_is_one_line():
    environment = {"device": "CPU", "cores": 2, "jax": "0.10", "python": "3.11", "flags": {"XLA_FLAGS": "--fast"}}
    assert text.describe_environment(environment) == "CPU, 2 cores, jax 0.10, python 3.11, XLA_FLAGS=--fast"
    shared = text.describe_environment(environment | {"devices": 8, "processes": 2})
    assert shared == "8 x CPU, 2 cores, 2 processes, jax 0.10, python 3.11, XLA_FLAGS=--fast"
    assert text.describe_environment({}) == "unknown device, ? cores"
