"""Spec strings: a name and its fields in one command-line word.

`sliding_window:window_size=64` names a class in a registry and overrides one field; further fields follow after a comma
(`bigbird:window_size=64,num_random=2`). Variants, tasks and positions all share this grammar. Specs joined by `+` are
assigned to the layers of a model in turn.
"""

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_LAYER_SEPARATOR = re.compile(r"\+(?=\s*[A-Za-z_])")  # not the sign of an exponent, as in 1e+3
_WORDS_FOR_BOOL = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class SpecError(ValueError):
    """A spec string that names nothing known; the message is one line and gives the nearest valid choices."""


def nearest_first(word: str, choices: Iterable[str]) -> list[str]:
    """Returns all `choices`: those that begin with `word`, those most like it, those with it inside, then the rest."""
    choices, plain = sorted(choices), word.strip().lower()
    close = difflib.get_close_matches(word, choices, n=len(choices) or 1, cutoff=0.6)
    begin = [choice for choice in choices if plain and choice.lower().startswith(plain)]
    inside = [choice for choice in choices if len(plain) > 2 and plain in choice.lower()]
    return list(dict.fromkeys([*begin, *close, *inside, *choices]))


def listed(names: Iterable[str], most: int | None = None) -> str:
    """Returns names in a row, kept apart even if one has a comma; beyond `most`, says how many are left out."""
    names = list(names)
    shown = names[:most]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ("; " if any("," in name for name in shown) else ", ").join(shown) + more


def unknown(kind: str, word: str, choices: Iterable[str]) -> str:
    """Returns the one-line message that `word` is no `kind`, nearest valid choices first."""
    ordered = nearest_first(word, choices)
    return f"unknown {kind} {word!r}; valid choices, nearest first: {listed(ordered) or '(none)'}."


def split_layers(spec: str) -> tuple[str, ...]:
    """Splits a hybrid `a:x=1+b` into the specs of its layers."""
    parts = tuple(part.strip() for part in _LAYER_SEPARATOR.split(spec))
    if not all(parts) or any(part.endswith("+") for part in parts):
        raise SpecError(f"{spec!r} has an empty layer; write specs joined by '+', such as 'full+linear'.")
    return parts


def parse_spec(spec: str) -> tuple[str, dict[str, str]]:
    """Splits `name:field=value,field=value` into the name and its fields, values still strings."""
    name, separator, rest = spec.strip().partition(":")
    fields: dict[str, str] = {}
    if not name or (separator and not rest.strip()):
        raise SpecError(f"{spec!r} is not a spec; expected 'name' or 'name:field=value,field=value'.")
    for item in rest.split(",") if separator else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            own = " A class of your own is registered first." if item.strip()[:1].isupper() else ""
            raise SpecError(
                f"{spec!r} is not a spec; expected 'name:field=value', got {item.strip()!r} for a field.{own}"
            )
        if key in fields:
            raise SpecError(f"{spec!r} gives the field {key!r} twice.")
        fields[key] = value
    return name, fields


def coerce(text: str, kind: Any, label: str) -> Any:
    """Turns the string `text` into a value of type `kind` (bool, int, float, str, or one of them or None).

    Raises:
      SpecError: names `label`, the expected type and the text; NaN and infinity are refused.
    """
    options = typing.get_args(kind)
    if type(None) in options:
        if text.lower() == "none":
            return None
        (kind,) = (option for option in options if option is not type(None))
    if kind is bool and text.lower() in _WORDS_FOR_BOOL:
        return _WORDS_FOR_BOOL[text.lower()]
    try:
        if kind is int:
            return int(text)
        if kind is float and math.isfinite(float(text)):
            return float(text)
        if kind is str:
            return text
    except ValueError:
        pass
    expected = {int: "an integer", float: "a finite number", bool: "true or false"}.get(kind, str(kind))
    raise SpecError(f"{label} must be {expected}; got {text!r}.")


def build(spec: str, registry: Mapping[str, type[T]], kind: str, **fields: Any) -> T:
    """Builds the dataclass that `spec` names in `registry`.

    Args:
      spec: a name, or a spec string.
      registry: name -> frozen dataclass.
      kind: the noun for messages, such as "attention variant".
      **fields: further field values, already typed; they override those in the spec.

    Raises:
      SpecError: unknown name or field, or a value of the wrong type or out of range. One line, nearest choices first.
    """
    name, texts = parse_spec(spec)
    if name not in registry:
        raise SpecError(unknown(kind, name, registry))
    cls = registry[name]
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for field in (*texts, *fields):
        if field not in kinds:
            raise SpecError(unknown(f"field of {kind} {name!r}:", field, kinds))
    values = {field: coerce(text, hints[field], f"{name}: `{field}`") for field, text in texts.items()}
    try:
        return cls(**(values | fields))
    except (ValueError, TypeError) as error:
        raise SpecError(f"{name}: {' '.join(str(error).split())}") from error


def format_spec(name: str, instance: Any) -> str:
    """Returns the shortest spec of `instance`: its name and the fields that differ from their defaults."""
    changed = [
        f"{field.name}={getattr(instance, field.name)}"
        for field in dataclasses.fields(instance)
        if getattr(instance, field.name) != field.default
    ]
    return f"{name}:{','.join(changed)}" if changed else name


def spec_of(instance: Any, registry: Mapping[str, type]) -> str:
    """Returns the shortest spec of `instance`, an object of a class in `registry`; equal objects have equal specs."""
    name = next(name for name, kind in registry.items() if kind is type(instance))
    return format_spec(name, instance)
