"""One run as it was stored: what its folder, or its line of an archive, holds."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from experiments.config.schema import cell_fields, default_fields, flatten, searches
from experiments.studies import legacy, run_folder

# Times are compared only between runs that agree in these.
_TIMING = (
    *("device", "devices", "processes", "vmap_seeds", "cores", "backend", "jax", "jaxlib", "python", "platform"),
    "flags",
)
_CHOOSES_BACKEND = "JAX_PLATFORMS"  # a flag whose only effect is the backend, which is recorded by itself


@dataclasses.dataclass(frozen=True)
class Record:
    """What one run folder, or one line of an archive, holds."""

    config: dict[str, Any]
    manifest: dict[str, Any]
    result: dict[str, Any] | None  # None where the run has not ended
    metrics: list[dict[str, Any]]  # empty where it has not ended
    studies: tuple[str, ...] = ()  # that have it, where several are read as one

    @property
    def ended(self) -> bool:
        """Whether the run is done or diverged."""
        return run_folder.has_ended(self.result)

    @property
    def searches(self) -> bool:
        """Whether the run only chooses, and is not reported."""
        return searches(self.config.get("seed", 0), self.config.get("study", {}).get("search_seeds", 0))

    @property
    def environment(self) -> dict[str, Any]:
        """What times depend on."""
        return timing((self.result or {}).get("environment") or self.manifest.get("environment") or {})

    @functools.cached_property
    def flat(self) -> dict[str, Any]:
        """What the seeds of a cell share, as their configs spell it, and the version; None where that is unknown.

        It has every field, even those that are younger than the run.
        """
        version = (self.result or {}).get("version", self.manifest.get("version"))
        return cell_fields(default_fields() | flatten(legacy.config_of_today(self.config))) | {"version": version}


def timing(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parts of a run's environment that times depend on."""
    flags = {name: value for name, value in environment.get("flags", {}).items() if name != _CHOOSES_BACKEND}
    known = {**environment, "flags": flags}
    return {key: known[key] for key in _TIMING if key in environment}


def devices_text(environment: Mapping[str, Any]) -> str | None:
    """Returns the device, None if it is unknown, and the number of devices if several shared a batch.

    Several count as another device, because they add up the parts of a batch in another order.
    """
    device, devices = environment.get("device"), environment.get("devices", 1)
    return device if devices == 1 or device is None else f"{devices} x {device}"


def place_text(environment: Mapping[str, Any]) -> str | None:
    """Returns the device, or devices, and whether a run was trained there together with others; None for no device.

    `--vmap_seeds` may sum in another order, as other devices do. The number of lanes is left to the environment.
    """
    device = devices_text(environment)
    return f"{device} by --vmap_seeds" if device and "vmap_seeds" in environment else device
