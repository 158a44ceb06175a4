"""A config as a whole: its sections, its flat fields, and how these are read, named and listed.

A `Config` is what was asked for: plain values and spec strings, unchecked beyond their types. What it amounts to, with
every spec built and every value checked, is a `Run` (`run.py`).
"""

import ast
import dataclasses
import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from attention_variants import specs
from attention_variants.checks import check_integer
from experiments.config.sections import (
    FIRST_SEARCH_SEED,
    MATCHES,
    NONE,
    EvalConfig,
    ModelConfig,
    PretrainConfig,
    StudyConfig,
    TrainConfig,
    check_choice,
    declare,
)

Fields = dict[str, Any]  # flat: {"model.attention": "full", ...}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What was asked for: one run, or a study whose grid is not expanded yet."""

    name: str = declare("base", "folder of the study below --results")
    task: str = declare("mqar:length=64,num_pairs=4", "spec of the task, see --list_tasks")
    seed: int = declare(0, "fixes data, initialisation and order")
    match: str = declare(
        NONE,
        "budget that all rows of a task share, by solving for widths or sizes: params, state (bytes), flops or none; "
        "--match replaces it",
        younger=True,
    )
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    pretrain: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    study: StudyConfig = dataclasses.field(default_factory=StudyConfig)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Builds a config from flat fields; those left out take their defaults.

        Raises:
          SpecError: a key is unknown, nearest first, or a value is of the wrong type, NaN or infinite.
        """
        typed = {key: read_value(key, value) for key, value in fields.items()}
        sections = {name: kind(**_within(typed, name)) for name, kind in SECTIONS.items()}
        return cls(**{key: value for key, value in typed.items() if "." not in key}, **sections)

    @classmethod
    def from_nested(cls, config: Mapping[str, Any]) -> Self:
        """Builds a config from a nested dict, such as that of a `config.json`; raises SpecError."""
        return cls.from_fields(flatten(config))

    @property
    def searches(self) -> bool:
        """Whether a run only chooses among the cells of its study, and is not reported."""
        return searches(self.seed, self.study.search_seeds)

    def fields(self) -> Fields:
        """Returns all fields, flat, in the order of their declaration."""
        return flatten(self.nested())

    def nested(self) -> dict[str, Any]:
        """Returns all fields as a nested dict."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raises ValueError, in one line, for a value out of range."""
        check_integer("seed", self.seed, 0)
        check_integer("study.search_seeds", self.study.search_seeds, 0)
        check_integer("study.match_target", self.study.match_target, 0, 2**62)
        check_choice("match", self.match, MATCHES)
        for section in (self.model, self.train, self.pretrain, self.eval):
            section.check()


SECTIONS: dict[str, Any] = {
    "model": ModelConfig,
    "train": TrainConfig,
    "pretrain": PretrainConfig,
    "eval": EvalConfig,
    "study": StudyConfig,
}
_OF_THE_STUDY = ("name", "match", "study")  # decide where runs are stored and how they are compared
_OF_THE_FOLDER = ("train.keep_checkpoints",)  # decide what of a run stays on disk


def default_fields() -> Fields:
    """Returns every field at its default, flat."""
    return Config().fields()


def searches(seed: int, search_seeds: int) -> bool:
    """Whether a run only chooses among the cells of a study with so many `study.search_seeds`."""
    return search_seeds > 0 and seed >= FIRST_SEARCH_SEED


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Fields:
    """Returns {"model.attention": ..., ...} for {"model": {"attention": ...}, ...}."""
    flat: Fields = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def decides_numbers(key: str) -> bool:
    """Whether a field decides a number of a run, and so is part of what names it."""
    return key.split(".")[0] not in _OF_THE_STUDY and key not in _OF_THE_FOLDER


def cell_fields(fields: Mapping[str, Any]) -> Fields:
    """Returns the fields that distinguish the cells of a study: those that decide numbers, except the seed."""
    return {key: value for key, value in fields.items() if decides_numbers(key) and key != "seed"}


def younger_defaults() -> Fields:
    """Returns the default of every field that some runs were made without."""
    return {key: field.default for key, field in declared().items() if field.metadata["younger"]}


@functools.cache
def declared() -> Mapping[str, Any]:
    """Returns the `dataclasses.Field` of every field by its flat key."""
    found: dict[str, Any] = {field.name: field for field in dataclasses.fields(Config) if field.name not in SECTIONS}
    for name, kind in SECTIONS.items():
        found |= {f"{name}.{field.name}": field for field in dataclasses.fields(kind)}
    return found


def varied_keys(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys in which some cells differ, in the order in which they are met; some may lack a key."""
    keys = dict.fromkeys(key for cell in cells for key in cell)
    return [key for key in keys if any(cell.get(key) != cells[0].get(key) for cell in cells)]


def describe_fields() -> str:
    """Returns the text of --list_config."""
    return "\n\n".join(
        f"{key}={_spelled(field.default)}\n  {field.metadata['meaning']}" for key, field in declared().items()
    )


def read_value(key: str, value: Any) -> Any:
    """Returns `value` in the type of the field `key`; a string is read, and an integer may stand for a float.

    Raises:
      SpecError: the key is unknown, or the value does not fit.
    """
    known = declared()
    if key not in known:
        raise specs.SpecError(unknown_key(key, known))
    kind = type(known[key].default)
    if kind is tuple:
        items = _listed(value) if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise specs.SpecError(f"{key} must be a tuple of strings; got {value!r}.")
        return tuple(item.strip() for item in items if item.strip())
    if isinstance(value, str):
        value = specs.coerce(value, kind, key)
    elif not (type(value) is kind or (kind is float and type(value) is int)) or not _is_finite(value):
        expected = {int: "an integer", float: "a finite number", bool: "true or false", str: "a string"}[kind]
        raise specs.SpecError(f"{key} must be {expected}; got {value!r}.")
    return float(value) + 0.0 if kind is float else value  # + 0.0 makes -0.0 a plain 0.0


def _is_finite(value: Any) -> bool:
    """Whether a number fits into a float; True for anything that is not a number."""
    try:
        return not isinstance(value, int | float) or math.isfinite(value)
    except OverflowError:  # an integer
        return False


def _listed(text: str) -> Any:
    """Returns the items of 'a,b', or of a Python tuple or list."""
    if text.strip()[:1] not in ("(", "["):
        return text.split(",")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def unknown_key(key: str, known: Mapping[str, Any]) -> str:
    """Returns the line that says `key` is unknown, nearest keys first.

    The same name in another section is near, and so are initials ("lr").
    """
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a section; set one of its fields: {', '.join(inside)}."
    names, wanted = {name: name.split(".")[-1] for name in known}, key.split(".")[-1]
    if wanted in _FIELDS_OF_SPECS:
        return f"unknown config key {key!r}; it is a field of a spec: {_FIELDS_OF_SPECS[wanted]}."
    near = [name for name in names if wanted == "".join(word[0] for word in names[name].split("_"))]
    close_names = difflib.get_close_matches(wanted, names.values(), n=3, cutoff=0.7)
    near += [name for close in close_names for name in names if names[name] == close]
    near = list(dict.fromkeys(near + difflib.get_close_matches(key, known, n=3, cutoff=0.75)))[:4]
    if not near:
        return specs.unknown("config key", key, known)
    return f"unknown config key {key!r}; nearest valid keys: {', '.join(near)}."


# Keys that earlier versions had, and people remember.
_FIELDS_OF_SPECS = {
    "warmup_steps": "train.schedule=cosine:warmup_steps=100",
    "weight_decay": "train.optimizer=adamw:weight_decay=0.1",
}


def _within(fields: Mapping[str, Any], section: str) -> Fields:
    prefix = f"{section}."
    return {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}


def _spelled(default: Any) -> str:
    return ",".join(default) if isinstance(default, tuple) else str(default)
