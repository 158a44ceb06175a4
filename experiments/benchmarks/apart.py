"""Each variant at each length in a process of its own, whose memory is then known.

XLA reports the memory of a program's temporaries. The peak of a process is higher: it includes arguments, results, what
the allocator keeps, and the libraries.
"""

import contextlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.attention import BASELINE, Sizes, Timing, compare

_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, in which the system reports the memory of a process


def resident_bytes() -> int:
    """Returns the most bytes of memory that this process has held so far."""
    with contextlib.suppress(OSError):  # Linux, where getrusage includes the parent's memory, as it was at the fork
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def measure(variants: Sequence[str], lengths: Sequence[int], sizes: Sizes) -> Iterator[Timing]:
    """Measures every variant at every length by itself, so that nothing takes turns.

    Args:
      variants: specs; the baseline is left out.
      lengths: ascending.
      sizes: of every call.

    Raises:
      MemoryError: a process failed, or was killed; one line.
    """
    first: dict[str, Timing] = {}
    for length in lengths:
        for spec in (each for each in variants if each != BASELINE):
            timing = _in_process(spec, length, sizes)
            compare(timing, None, first.setdefault(spec, timing))
            yield timing


def _in_process(spec: str, length: int, sizes: Sizes) -> Timing:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "experiments.benchmark", *_flags(spec, length, sizes), f"--output={output}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            said = ended.stderr.strip().splitlines()[-1:] or [f"its process ended with code {ended.returncode}"]
            raise MemoryError(f"{spec} at length {length}: {said[0].removeprefix('error: ')}")
        found: dict[str, Any] = json.loads(output.read_text())
    (figure,) = found["figures"]
    return Timing(**figure | {"resident_bytes": found["resident_bytes"]})


def _flags(spec: str, length: int, sizes: Sizes) -> list[str]:
    return [
        f"--variants={spec}",
        f"--lengths={length}",
        f"--batch={sizes.batch}",
        f"--num_heads={sizes.num_heads}",
        f"--head_dim={sizes.head_dim}",
        f"--causal={sizes.causal}",
        f"--repeats={sizes.repeats}",
        f"--dtype={sizes.dtype}",
        "--baseline_max_length=0",
    ]
