"""From a config file and what the command line changes in it to the list of runs that a study is made of."""

import copy
import difflib
import importlib.util
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from attention_variants import specs
from configs import base

Config = dict[str, Any]
_NOT_VARIED = ("name", "seed", "study")  # a study's folder, its seeds and its own description


def load_config(path: str) -> Config:
    """Executes the Python file `path`, calls its `get_config()` and returns the result as a plain nested dict.

    Fields that the file leaves out take the values of configs/base.py.

    Raises:
      ValueError: one line for a file that is missing, fails, or sets a field that does not exist or has another type.
    """
    if not Path(path).is_file():
        raise ValueError(f"--config: there is no file {path!r}{_nearest_files(path)}.")
    try:
        config = _execute(path).get_config()
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or "no message"
        reason = f"{type(error).__name__}: {reason.rstrip('.')}{_failing_line(error, path)}"
        raise ValueError(f"--config: {path} failed: {reason}.") from error
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise ValueError(f"--config: get_config() of {path} must return a ConfigDict; got {type(config).__name__}.")
    return complete(config, f"--config: {path}")


def complete(config: Mapping[str, Any], label: str) -> Config:
    """Returns the defaults of configs/base.py overridden by `config`; raises ValueError where a field does not fit."""
    result = defaults()
    for key, value in flatten(config).items():
        set_field(result, key, value, label)
    return result


def defaults() -> Config:
    """Returns configs/base.py as a plain nested dict."""
    return base.get_config().to_dict()


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns {"model.attention": ..., ...}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def set_field(config: Config, key: str, value: Any, label: str) -> None:
    """Sets one field.

    Args:
      config: nested dict, changed in place.
      key: such as "model.attention".
      value: of the field's type, or a string that spells it.
      label: what the message begins with.

    Raises:
      SpecError: no such key (nearest first), a wrong type, NaN or infinity.
    """
    flat = flatten(config)
    if key not in flat:
        inside = [name for name in flat if name.startswith(f"{key}.")]
        if inside:
            raise specs.SpecError(f"{label}: {key!r} is a group; set one of its fields: {', '.join(inside)}.")
        raise specs.SpecError(f"{label}: {_unknown_key(key, flat)}")
    *groups, name = key.split(".")
    for group in groups:
        config = config[group]
    config[name] = _typed(value, type(flat[key]), f"{label}: {key}")


def apply_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """Returns `config` with every `a.b=value` of `overrides` applied; its own grid no longer varies them.

    Raises:
      SpecError: an unknown key, or a value of the wrong type.
    """
    config = copy.deepcopy(config)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise specs.SpecError(f"--config.{key} needs a value: --config.{key}=VALUE.")
        if key == "study.vary":
            raise specs.SpecError("--config.study.vary: give the grid with --vary='a.b=x|y'.")
        set_field(config, key, value.strip(), "--config")
        vary = config["study"]["vary"]
        config["study"]["vary"] = tuple(axis for axis in vary if axis.partition("=")[0].strip() != key)
    return config


def parse_vary(config: Mapping[str, Any], vary: Sequence[str]) -> dict[str, list[Any]]:
    """Returns {key: values} of a grid written as `a.b=x|y|z` each; raises SpecError."""
    grid: dict[str, list[Any]] = {}
    for item in vary:
        key, equals, alternatives = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise specs.SpecError(f"--vary must be like 'model.attention=full|linear'; got {item!r}.")
        if key.split(".")[0] in _NOT_VARIED:
            hint = "use --seeds" if key == "seed" else "vary a field of the model, the task or the training"
            raise specs.SpecError(f"--vary cannot vary {key!r}; {hint}.")
        if key in grid:
            raise specs.SpecError(f"--vary gives {key!r} twice; write all its alternatives in one, separated by '|'.")
        grid[key] = []
        for text in alternatives.split("|"):
            if not text.strip():
                raise specs.SpecError(f"--vary has an empty alternative in {item!r}.")
            trial = copy.deepcopy(dict(config))
            set_field(trial, key, text.strip(), "--vary")
            value = flatten(trial)[key]
            if value in grid[key]:
                raise specs.SpecError(f"--vary gives {key}={text.strip()} twice.")
            grid[key].append(value)
    return grid


def expand(config: Config, vary: Sequence[str] = (), seeds: int | None = None) -> list[Config]:
    """Returns the runs of a study: every cell of the grid at every seed.

    All cells of the first seed come first, so that an interrupted study already compares.

    Args:
      config: as from `load_config`.
      vary: replaces `config["study"]["vary"]` when not empty.
      seeds: replaces `config["study"]["seeds"]` when given.
    """
    vary, seeds = tuple(vary) or tuple(config["study"]["vary"]), seeds or config["study"]["seeds"]
    if seeds < 1:
        raise specs.SpecError(f"config: study.seeds must be an integer >= 1; got {seeds}.")
    grid = parse_vary(config, vary)
    for key in config["study"]["select"]:
        if key not in cell(config):
            raise specs.SpecError(f"config: study.select: {_unknown_key(key, cell(config))}")
    runs = []
    for seed, values in itertools.product(range(seeds), itertools.product(*grid.values())):
        run = copy.deepcopy(config)
        run["study"] |= {"vary": vary, "seeds": seeds}
        run["seed"] = config["seed"] + seed
        for key, value in zip(grid, values, strict=True):
            set_field(run, key, value, "--vary")
        runs.append(run)
    return runs


def cell(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the flat config without what does not tell cells of a study apart: name, seed and study."""
    return {key: value for key, value in flatten(config).items() if key.split(".")[0] not in _NOT_VARIED}


def varied_keys(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the keys in which `cells` differ, in the order of the first cell."""
    return [key for key in cells[0] if any(other[key] != cells[0][key] for other in cells)] if cells else []


def _typed(value: Any, kind: type, label: str) -> Any:
    """Returns `value` as a `kind`; a string is read, an int may stand for a float."""
    if kind is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise specs.SpecError(f"{label} must be a tuple of strings; got {value!r}.")
        return tuple(item.strip() for item in items if item.strip())
    if isinstance(value, str):
        return specs.coerce(value, kind, label)
    exact = type(value) is kind or (kind is float and type(value) is int)
    if not exact or not math.isfinite(value):
        expected = {int: "an integer", float: "a finite number", bool: "true or false", str: "a string"}[kind]
        raise specs.SpecError(f"{label} must be {expected}; got {value!r}.")
    return kind(value)


def _unknown_key(key: str, flat: Mapping[str, Any]) -> str:
    """Says that `key` is unknown, nearest first; a like name in another group is near, and so are initials ("lr")."""
    names, wanted = {name: name.split(".")[-1] for name in flat}, key.split(".")[-1]
    near = [name for name in names if wanted == "".join(word[0] for word in names[name].split("_"))]
    close_names = difflib.get_close_matches(wanted, names.values(), n=3, cutoff=0.7)
    near += [name for close in close_names for name in names if names[name] == close]
    near = list(dict.fromkeys(near + difflib.get_close_matches(key, flat, n=3, cutoff=0.75)))[:4]
    if not near:
        return specs.unknown("config key", key, flat)
    return f"unknown config key {key!r}; nearest valid keys: {', '.join(near)}."


def _execute(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("study_config", path)
    if spec is None or spec.loader is None:
        raise ImportError("expected a Python file, its name ending in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise AttributeError("it has no function get_config()")
    return module


def _failing_line(error: BaseException, path: str) -> str:
    """Returns " (line n)" of the config file where the error arose."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" (line {lines[-1]})" if lines else ""


def _nearest_files(path: str) -> str:
    files = [str(file) for folder in {Path(path).parent, Path("configs")} for file in sorted(folder.glob("*.py"))]
    close = difflib.get_close_matches(path, files, n=3, cutoff=0.4) or files[:3]
    return f"; nearest: {', '.join(close)}" if close else ""
