"""Variants by name, and the examples that they give of themselves."""

import pytest

from attention_variants import specs
from attention_variants.registry import VARIANTS, example_spec, make_variant

EXAMPLES = [(name, length) for name, kind in VARIANTS.items() for length in kind.examples]


def test_an_example_is_a_spec_and_a_length_without_one_gives_the_name() -> None:
    assert example_spec("sliding_window", 128) == "sliding_window:window_size=32"
    assert example_spec("sliding_window", 16) == "sliding_window:window_size=4"
    assert example_spec("full", 128) == "full" and example_spec("sliding_window", 17) == "sliding_window"


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(specs.SpecError, match="unknown attention variant 'slidin_window'.*: sliding_window, "):
        example_spec("slidin_window", 128)


@pytest.mark.parametrize(("name", "length"), EXAMPLES)
def test_windows_and_blocks_of_an_example_end_within_its_length(name: str, length: int) -> None:
    spec = example_spec(name, length)
    assert type(make_variant(spec)) is VARIANTS[name]
    for field, size in specs.parse_spec(spec)[1].items():
        # What a variant is made for may be the whole length.
        assert int(size) <= (length if field in ("max_length", "horizon") else length // 2), f"{field} of {name}"


def test_every_static_pattern_gives_an_example_of_both_lengths() -> None:
    """`log_sparse` is sparse at 16 tokens as it stands."""
    static = {name for name, kind in VARIANTS.items() if kind.family == "softmax, static pattern"}
    assert {name for name, length in EXAMPLES if length == 128} >= static
    assert {name for name, length in EXAMPLES if length == 16} >= static - {"log_sparse"}
