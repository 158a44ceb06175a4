"""Loads the scripts of docs/ as modules."""

import importlib.util
import pathlib
from types import ModuleType

ROOT = pathlib.Path(__file__).parent.parent


def load(name: str) -> ModuleType:
    """Returns docs/`name`.py as a module, new at every call."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
