"""Checks of fields: every message gives the expectation and the fact."""

from typing import Any

import pytest

from attention_variants import checks


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (checks.check_integer, ("n", 0, 1), "`n` must be an integer >= 1; got 0."),
        (checks.check_integer, ("n", True, 1), "`n` must be an integer >= 1; got True."),
        (checks.check_integer, ("n", 2.0, 1), "`n` must be an integer >= 1; got 2.0."),
        (checks.check_number, ("x", float("nan"), 0, 1), r"`x` must be a number in \[0, 1\]; got nan."),
        (checks.check_number, ("x", "1", 0, 1), r"`x` must be a number in \[0, 1\]; got '1'."),
        (checks.check_choice, ("c", "z", {"b", "a"}), "`c` must be one of a, b; got 'z'."),
    ],
)
def test_field_checks(check: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(*arguments)
