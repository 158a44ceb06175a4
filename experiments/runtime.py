"""The process: how it is set up, and what its numbers and times depend on."""

import contextlib
import ctypes
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

_PATH = re.compile(r"(?<![\w.:/~])[~/][^\s,;'\"]*")
_NO_FLAGS = ("JAX_COORDINATOR_", "JAX_COMPILATION_CACHE_", "JAX_PERSISTENT_CACHE_")


class NoDeviceError(ValueError):
    """JAX finds nothing to compute on; the message is one line."""


# glibc's names for the parameters of mallopt.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the next call; returns whether there is a glibc to tell.

    XLA on CPU allocates the temporaries of a compiled function anew at every call. Large blocks come from mmap and go
    back at once, so the kernel zeroes every page again: 82 of 210 ms for a window of length 16384 with gradient.
    Blocks of threads' own arenas always come from mmap, hence a single arena. Call it before JAX starts its threads.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1)])


def check_device() -> None:
    """Raises NoDeviceError where JAX finds nothing to compute on, as with JAX_PLATFORMS=cuda and no GPU."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # which of them depends on what is installed
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise NoDeviceError(
            f"JAX finds no device for JAX_PLATFORMS={asked!r}; unset it, or set JAX_PLATFORMS=cpu."
        ) from error


def memory_bytes() -> int:
    """Returns the memory available for computing: that of the device or, on a CPU, what this process may use."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):  # of a container; "max" where there is none
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def accelerators() -> int:
    """Returns how many devices of this process are not CPUs."""
    return sum(device.platform != "cpu" for device in jax.local_devices())


def has_cuda() -> bool:
    """Whether the devices are NVIDIA's, which CUDA_VISIBLE_DEVICES can assign to processes."""
    return "cuda" in jax.local_devices()[0].client.platform_version.lower()


def environment(devices: int = 1, processes: int = 1, lanes: int = 1) -> dict[str, Any]:
    """Returns what a run's numbers and times depend on in addition to its config: versions, devices, cores, platform.

    Args:
      devices: that share each batch.
      processes: that they belong to; named only where there are several.
      lanes: runs that are trained at once; named only where there are several.
    """
    versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **versions,
        "platform": f"{platform.system()}-{platform.machine()}",
        "backend": device.platform,
        "device": _cpu_name() if device.platform == "cpu" else device.device_kind,
        "devices": devices,
        **({"processes": processes} if processes > 1 else {}),
        **({"vmap_seeds": lanes} if lanes > 1 else {}),
        "cores": cores(),
        "flags": {  # a path may name a user, and changes no number
            name: _PATH.sub("(path)", os.environ[name]) for name in sorted(os.environ) if is_flag(name)
        },
    }


def is_flag(name: str) -> bool:
    """Returns whether a variable may change numbers or times; one that names hosts, or keeps programs, does neither."""
    return name == "XLA_FLAGS" or (name.startswith("JAX_") and not name.startswith(_NO_FLAGS))


def _cpu_name() -> str:
    """Returns the processor's name; jax only says "cpu"."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
