"""From a config file, and what the command line changes in it, to a `Config` and the cells of a sweep.

A config file has `get_config()`, and may have `sweep(add)`, which calls `add` for each cell of the sweep:

    def sweep(add):
        for width in (32, 64, 128):
            add({"model.model_dim": width, "model.num_heads": width // 32})
"""

import difflib
import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from attention_variants import specs
from experiments.config import schema
from experiments.config.schema import Config, Fields


class Loaded(NamedTuple):
    """What a config file says."""

    config: Config
    sweep: tuple[Fields, ...]  # what each cell of its sweep sets, flat; empty without one


def load_config(path: str) -> Config:
    """Returns the config of a file, without its sweep; see `load`."""
    return load(path).config


def load(path: str) -> Loaded:
    """Executes the Python file `path`, and calls its `get_config()` and, if there is one, its `sweep(add)`.

    Fields that the file leaves out take their defaults.

    Raises:
      ValueError: one line for a file that is missing, fails, or sets a field that does not exist or has another type.
    """
    path = os.path.expanduser(path)  # the shell does not expand it after "--config="
    if not Path(path).is_file():
        raise ValueError(f"--config: there is no file {path!r}{_nearest_files(path)}.")
    cells: list[Any] = []
    try:
        module = _execute(path)
        config = module.get_config()
        if isinstance(config, ml_collections.ConfigDict):
            config = config.to_dict()  # fails for a required placeholder that is not set
        if hasattr(module, "sweep"):
            module.sweep(cells.append)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) or "no message"
        reason = f"{type(error).__name__}: {reason.rstrip('.')}{_failing_line(error, path)}"
        raise ValueError(f"--config: {path} failed: {reason}.") from error
    if not isinstance(config, Mapping):
        raise ValueError(f"--config: get_config() of {path} must return a ConfigDict; got {type(config).__name__}.")
    label = f"--config: sweep(add) of {path}"
    if hasattr(module, "sweep") and not cells:
        raise ValueError(f"{label} adds nothing; it must call add({{'model.attention': 'full'}}) or the like.")
    return Loaded(build(schema.flatten(config), f"--config: {path}"), tuple(_read_cell(cell, label) for cell in cells))


def check_varied(key: str) -> None:
    """Raises SpecError for a field that does not distinguish cells."""
    if key == "seed" or not schema.decides_numbers(key):
        hint = "use --seeds" if key == "seed" else "vary a field of the model, the task or the training"
        raise specs.SpecError(f"cannot vary {key!r}; {hint}.")


def _read_cell(cell: Any, label: str) -> Fields:
    """Returns what a cell sets, typed; raises SpecError, in one line."""
    if not isinstance(cell, Mapping) or not cell:
        raise specs.SpecError(f"{label}: add takes a dict such as {{'model.attention': 'full'}}; got {cell!r}.")
    try:
        fields = {key: schema.read_value(key, value) for key, value in schema.flatten(cell).items()}
        for key in fields:
            check_varied(key)
    except specs.SpecError as error:
        raise specs.SpecError(f"{label}: {error}") from error
    return fields


def build(fields: Mapping[str, Any], label: str) -> Config:
    """Returns the config of some flat fields; a SpecError begins with `label`."""
    try:
        return Config.from_fields(fields)
    except specs.SpecError as error:
        raise specs.SpecError(f"{label}: {error}") from error


def apply_overrides(config: Config, overrides: Iterable[str], select: Sequence[str] | None = None) -> Config:
    """Returns `config` with every `a.b=value` of `overrides` applied; its own grid no longer varies them.

    Args:
      config: what to change.
      overrides: each sets one field.
      select: replaces `study.select` if given.

    Raises:
      SpecError: an unknown key, or a value of the wrong type.
    """
    fields = config.fields()
    for override in overrides:
        key, value = _split(override)
        fields |= {key: value}
        fields["study.vary"] = tuple(axis for axis in fields["study.vary"] if axis.partition("=")[0].strip() != key)
    if select is not None:
        fields |= {"study.select": tuple(select)}
    return build(fields, "--config")


def without_overridden(sweep: Iterable[Fields], overrides: Iterable[str]) -> tuple[Fields, ...]:
    """Returns the cells of a sweep without the fields that `overrides` set; of cells that are then equal, one stays."""
    keys = {_split(override)[0] for override in overrides}
    left = [{key: value for key, value in cell.items() if key not in keys} for cell in sweep]
    return tuple(cell for index, cell in enumerate(left) if cell and cell not in left[:index])


def default_config() -> ml_collections.ConfigDict:
    """Returns every field at its default, for config files to change."""
    return ml_collections.ConfigDict(Config().nested())


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals:
        known = schema.declared()
        if key not in known:
            raise specs.SpecError(f"--config: {schema.unknown_key(key, known)}")
        raise specs.SpecError(f"--config.{key} needs a value: --config.{key}=VALUE.")
    if key == "study.vary":
        raise specs.SpecError("--config.study.vary: a grid may hold commas, so give it with --vary='a.b=x|y'.")
    return key, value.strip()


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
