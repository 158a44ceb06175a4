"""Checks several cases at once, one process each, and reports the outcome, a line per law."""

import concurrent.futures
import functools
import gc
import multiprocessing
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import jax

from attention_variants.conformance import Case, check

HOLDS, BROKEN = "  holds ", "  BROKEN"  # how the line of a law begins
_XLA_FLAGS = {  # an unknown flag would end the process
    "--xla_cpu_parallel_codegen_split_count=1": (0, 13),  # a small program in many parts compiles a third longer
    "--xla_cpu_use_fusion_emitters=false": (0, 11),
}  # each with the first version of JAX that may not know it
_MAPS = pathlib.Path("/proc/self/maps")
_MOST_MAPS = 40_000  # of 65530; a compilation without room left ends the process


def configure() -> None:
    """Sets JAX up, before its first computation, for the laws, which compile much, compute little and need devices.

    Without optimisations, with each program in one part, with XLA's older emitters where they still exist, and without
    the garbage collector constantly scanning JAX's many small objects, the laws take a third of the time.
    """
    gc.set_threshold(100_000, 50, 50)
    set_before = os.environ.get("XLA_FLAGS", "").split()
    known = [flag for flag, end in _XLA_FLAGS.items() if jax.__version_info__ < end]
    os.environ["XLA_FLAGS"] = " ".join([*set_before, *(flag for flag in known if flag not in set_before)])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)


def limit_programs() -> None:
    """Frees compiled programs if there are many: they hold memory maps, of which Linux grants a process 65530."""
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()


def check_cases(cases: Mapping[str, Case], laws: Sequence[str], jobs: int) -> Iterator[str]:
    """Yields the lines of all cases in their order; with several jobs, one case at a time."""
    if jobs == 1:
        for name, case in cases.items():
            yield from _check_one(laws, name, case)
        return
    # Fresh processes: a forked one would inherit JAX's threads without their locks.
    spawn = multiprocessing.get_context("spawn")
    try:
        pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=spawn, initializer=configure)
    except (OSError, NotImplementedError):  # no semaphores, as where /dev/shm cannot be written
        yield from check_cases(cases, laws, jobs=1)
        return
    with pool:
        whole = functools.partial(_check_whole, laws)
        for lines in pool.map(whole, cases.keys(), cases.values()):
            yield from lines


def _check_whole(laws: Sequence[str], name: str, case: Case) -> list[str]:
    return list(_check_one(laws, name, case))


def _check_one(laws: Iterable[str], name: str, case: Case) -> Iterator[str]:
    """Yields what is printed about one case, each line as soon as it is known."""
    yield f"{name} at length {case.length}"
    for result in check(case, laws):
        word = HOLDS if result.broken is None else BROKEN
        yield f"{word} {result.law} ({result.seconds:.1f} s)"
        if result.broken:
            yield f"         {result.broken}"
    limit_programs()
