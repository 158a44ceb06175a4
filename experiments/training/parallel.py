"""Data parallelism: devices that share every batch, in one process or in several, and what the processes agree on.

Every device has all parameters and reads its part of the rows. The program is that of a single device, with the rows of
each batch marked as sharded over the devices; XLA partitions it and adds the parts of loss and gradient. Hence the
numbers are those of one device up to rounding, in whatever order a sum over the batch is taken.

With several processes, each runs the same program on its own devices, and only the first touches the disk: it says
which run comes next (`announce`) and in which state it begins (`agree`); the others follow.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.config.run import Run

T = TypeVar("T")

WAIT, END = "wait", "end"  # words that name no run

_ROWS = "data"  # the axis of the mesh
_LONGEST_WORD = 64  # bytes of what is announced
_LOST = ("gloo", "nccl", "connection reset", "connection closed", "unavailable", "coordination service")


class OutOfStepError(RuntimeError):
    """The processes of a run no longer all do the same, so that this one cannot go on; one line."""


class LostProcessError(OutOfStepError):
    """Another process of the run is gone."""


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that share every batch. Hashable; compiled programs belong to them."""

    mesh: Mesh | None = None  # None: the default device alone, and nothing is marked

    @classmethod
    def first(cls, number: int) -> "Devices":
        """Returns the first devices of this process; one alone is what a plain run has.

        Raises:
          ValueError: there are not that many; one line.
        """
        found = jax.local_devices()
        if number > len(found):
            raise ValueError(f"--devices={number} needs {number} devices; this process has {len(found)}.")
        return cls() if number == 1 else cls(_mesh(found[:number]))

    @classmethod
    def everywhere(cls) -> "Devices":
        """Returns all devices of all processes.

        Raises:
          ValueError: processes have different numbers of them; one line.
        """
        counts = Counter(device.process_index for device in jax.devices())
        if len(set(counts.values())) > 1:
            each = ", ".join(str(count) for _, count in sorted(counts.items()))
            raise ValueError(f"all processes must have the same number of devices; they have {each}.")
        return cls(_mesh(jax.devices()))

    @property
    def number(self) -> int:
        """How many there are."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def processes(self) -> int:
        """How many processes they belong to."""
        return 1 if self.mesh is None else len({device.process_index for device in self.mesh.devices.flat})

    def check(self, runs: Sequence[Run]) -> None:
        """Raises ValueError, in one line, for a batch that cannot be shared equally."""
        for run in runs:
            for name, rows in (("train", run.train.batch_size), ("eval", run.eval.batch_size)):
                if rows % self.number:
                    near = sorted({max(rows // self.number, 1) * self.number, -(-rows // self.number) * self.number})
                    raise ValueError(
                        f"{name}.batch_size must be divisible by the number of devices that share a batch, "
                        f"{self.number}; got {rows}. Nearest: {' or '.join(map(str, near))}."
                    )

    def jit(self, function: Callable[..., T], **options: Any) -> Callable[..., T]:
        """Returns `jax.jit(function)`, whose arguments and results are replicated on every device."""
        if self.mesh is None:
            return jax.jit(function, **options)
        whole = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(function, in_shardings=whole, out_shardings=whole, **options)

    def spread(self, batch: T) -> T:
        """Marks, inside `jit`, arrays [batch, ...] as sharded over the devices by their rows."""
        if self.mesh is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, NamedSharding(self.mesh, PartitionSpec(_ROWS)))

    def place(self, tree: T) -> T:
        """Returns a pytree of arrays replicated on every device; each process passes all of them."""
        if self.mesh is None:
            return tree
        whole = NamedSharding(self.mesh, PartitionSpec())

        def put(leaf: Any) -> jax.Array:
            array = np.asarray(leaf)
            return jax.make_array_from_callback(array.shape, whole, lambda index: np.array(array[index]))

        return jax.tree.map(put, tree)

    def agree(self, state: T, rows: list[dict[str, Any]]) -> tuple[T, list[dict[str, Any]]]:
        """Returns the state and the rows of metrics that the first process gives, the state on the devices.

        Args:
          state: a pytree of arrays, of the same shapes in all processes.
          rows: JSON-able; those of the other processes do not count.
        """
        if self.processes > 1:
            leaves, structure = jax.tree.flatten(jax.device_get(state))
            arrays = [np.asarray(leaf) for leaf in leaves]
            content = _broadcast(b"".join([*(array.tobytes() for array in arrays), json.dumps(rows).encode()]))
            ends = np.cumsum([array.nbytes for array in arrays]).tolist()
            parts = [content[end - array.nbytes : end] for end, array in zip(ends, arrays, strict=True)]
            arrays = [
                np.frombuffer(part, array.dtype).reshape(array.shape) for part, array in zip(parts, arrays, strict=True)
            ]
            state, rows = jax.tree.unflatten(structure, arrays), json.loads(content[ends[-1] :])
        return self.place(state), rows


_devices = Devices()


def devices() -> Devices:
    """Returns the devices that share the batches of this process's runs: one, unless `shared_by` says otherwise."""
    return _devices


@contextlib.contextmanager
def shared_by(these: Devices) -> Iterator[None]:
    """Lets these devices share every batch of what is trained inside."""
    global _devices
    before, _devices = _devices, these
    try:
        yield
    finally:
        _devices = before


def leads() -> bool:
    """Returns whether this is the process that writes and speaks."""
    return jax.process_index() == 0 if _devices.processes > 1 else True


def check_same(what: Sequence[str]) -> None:
    """Raises ValueError, in all processes, if they were given different lists of texts; one line."""
    if _devices.processes > 1:
        digest = hashlib.sha256("\n".join([jax.__version__, *what]).encode()).digest()
        with in_step():
            digests = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
        if len(np.unique(digests, axis=0)) > 1:
            raise ValueError("all processes must be given the same command, code and jax; their runs differ.")


def announce(word: str) -> None:
    """Sends a word of at most 64 bytes to the other processes, if there are any."""
    if _devices.processes > 1:
        with in_step():
            _broadcast_word(word)


def hear() -> str:
    """Returns the next word that the first process announces."""
    with in_step():
        return _broadcast_word("")


def part() -> None:
    """Announces END if this is the first process, and leaves the others cleanly; nothing is computed after this."""
    if leads():
        announce(END)
    if _devices.processes > 1:
        jax.distributed.shutdown()


@contextlib.contextmanager
def in_step() -> Iterator[None]:
    """Wraps what all processes do together; with several, an exception in one leaves the others waiting.

    Raises:
      LostProcessError: there are several processes, and an exception inside says that another one is gone.
      OutOfStepError: there are several, and any other exception but OSError, which is passed on, was raised inside.
    """
    try:
        yield
    except (OSError, OutOfStepError):
        raise
    except Exception as error:
        if _devices.processes == 1:
            raise
        text = " ".join(str(error).split())
        if any(word in text.lower() for word in _LOST):
            raise LostProcessError(
                "another process of this run ended or cannot be reached any more; "
                "start the same command again in every process."
            ) from error
        raise OutOfStepError(f"this process cannot go on: {type(error).__name__}: {text}.") from error


def _mesh(found: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(found), (_ROWS,), axis_types=(AxisType.Auto,))


def _broadcast_word(word: str) -> str:
    padded = np.frombuffer(word.encode().ljust(_LONGEST_WORD), np.uint8)
    return bytes(multihost_utils.broadcast_one_to_all(padded)).decode().strip()


def _broadcast(content: bytes) -> bytes:
    """Returns the bytes that the first process gives."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    own = content if jax.process_index() == 0 else bytes(length)
    return bytes(multihost_utils.broadcast_one_to_all(np.frombuffer(own, np.uint8)))
