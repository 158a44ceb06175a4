"""The variant that CONTRIBUTING.md shows is one: it keeps the laws as it stands there."""

import pathlib
import re
import sys
from types import ModuleType

import pytest

from attention_variants.conformance import LAWS, Case

TEXT = (pathlib.Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
EXPENSIVE = {"matches_definition", "transformations_change_nothing", "decoding_equals_parallel"}


@pytest.fixture(scope="module")
def example() -> type:
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    module = sys.modules["example_of_contributing"] = ModuleType("example_of_contributing")  # dataclasses look there
    exec(source, module.__dict__)
    return module.DelayedWindowAttention


@pytest.mark.parametrize("law", [pytest.param(law, marks=pytest.mark.slow if law in EXPENSIVE else ()) for law in LAWS])
def test_the_example_keeps_the_laws(example: type, law: str) -> None:
    LAWS[law](Case(example(window_size=5, delay=3), limit=example(window_size=37, delay=1)))


def test_the_row_is_the_one_that_is_checked() -> None:
    assert 'limit="delayed_window:window_size=37,delay=1"' in TEXT and "delayed_window:window_size=5,delay=3" in TEXT
