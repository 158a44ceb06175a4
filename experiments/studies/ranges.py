"""Values of a numeric field, written as a range: `log(1e-4,1e-2,4)`.

    linear(low,high,n)       n values from low to high, at equal distances
    log(low,high,n)          n values from low to high, at equal ratios
    uniform(low,high,n)      n draws, uniform between low and high
    loguniform(low,high,n)   n draws, uniform on a logarithmic scale

Values have four significant digits; those of an integer field are integers. Draws depend on the field and its range
alone: every model gets the same ones, and a larger number of draws begins with the same ones.
"""

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from attention_variants import specs

MOST_VALUES = 10_000
_DIGITS = 4  # significant ones

_EVEN: dict[str, Callable[[float, float, int], np.ndarray]] = {"linear": np.linspace, "log": np.geomspace}
_DRAWN = {"uniform": "linear", "loguniform": "log"}  # and the scale on which they are uniform
_FORM = re.compile(r"\s*([a-z_]+)\s*\((.*)\)\s*")


class Range(NamedTuple):
    """The values that a range stands for."""

    values: list[Any]
    drawn: bool  # rather than evenly spaced


def read_range(key: str, kind: type, text: str) -> Range | None:
    """Returns the values of a range, None where `text` is not written as one.

    Args:
      key: of the config field.
      kind: the field's type.
      text: one alternative of `--vary`.

    Raises:
      SpecError: the range has another form, or evenly spaced values are not all different; one line.
    """
    match = _FORM.fullmatch(text)
    if match is None or kind not in (int, float):
        return None
    name, label = match[1], f"{key}={text}"
    if name not in (*_EVEN, *_DRAWN):
        raise specs.SpecError(f"{label}: {specs.unknown('range', name, (*_EVEN, *_DRAWN))}")
    low, high, number = _numbers(label, match[2])
    if _DRAWN.get(name, name) == "log" and low <= 0:
        raise specs.SpecError(f"{label}: the lower end of a logarithmic range must be positive; got {low:g}.")
    if name in _DRAWN:
        found = _draws(key, kind, name, low, high, number)
    else:
        found = _EVEN[name](low, high, number)
    values = [_rounded(value, kind) for value in found.tolist()]
    if name in _EVEN and len(set(values)) < number:
        raise specs.SpecError(f"{label} has only {len(set(values))} different values; ask for fewer than {number}.")
    return Range(values, name in _DRAWN)


def _draws(key: str, kind: type, name: str, low: float, high: float, number: int) -> np.ndarray:
    places = _uniform(f"{key} {name} {low!r} {high!r}", number)
    if _DRAWN[name] == "log":
        return np.exp(math.log(low) + places * math.log(high / low))
    if kind is int:
        return np.floor(low + places * (high - low + 1))  # every integer is equally likely, those at the ends too
    return low + places * (high - low)


def _numbers(label: str, text: str) -> tuple[float, float, int]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3:
        raise specs.SpecError(f"{label}: a range is written (low,high,n), such as log(1e-4,1e-2,4).")
    low, high = (specs.coerce(part, float, f"{label}: low and high") for part in parts[:2])
    number = specs.coerce(parts[2], int, f"{label}: n")
    if not low < high:
        raise specs.SpecError(f"{label}: low must be less than high; got {low:g} and {high:g}.")
    if not 2 <= number <= MOST_VALUES:
        raise specs.SpecError(f"{label}: n must be from 2 to {MOST_VALUES}; got {number}.")
    return low, high, number


def _uniform(name: str, number: int) -> np.ndarray:
    """Returns numbers between 0 and 1, the first of which do not depend on how many there are."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).random(number)


def _rounded(value: float, kind: type) -> Any:
    return round(value) if kind is int else float(f"{value:.{_DIGITS}g}")
