"""A run folder that training can stop and continue in: checkpoints, each one file with a digest."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from experiments.studies.lease import BusyError, Lease, leased, leftovers, traces
from experiments.studies.run_folder import RESULT, RunFolder
from experiments.studies.whole_files import storage, write_whole

KEPT_CHECKPOINTS = 2
_DIGEST_BYTES = hashlib.sha256().digest_size

Rows = list[dict[str, Any]]  # of metrics


class TrainingFolder(RunFolder):
    """One run on disk that is being trained, by one process at a time.

    Writing methods raise StorageError, and LeaseLostError if another process took over what this one had `locked`.
    """

    _lease: Lease | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Leases the folder for this process; writing methods then check that it still has the lease.

        Raises:
          BusyError: another process holds it.
        """
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with storage(self.path):
                self._lease = stack.enter_context(leased(self.path))
                for leftover in leftovers(self.path):
                    leftover.unlink(missing_ok=True)
            try:
                yield
            finally:
                self._lease = None

    def tidy(self) -> None:
        """Removes what is left of the lease of a process that died just after the run ended."""
        if traces(self.path):
            with contextlib.suppress(BusyError), self.locked():
                pass

    def check_lease(self) -> None:
        """Raises LeaseLostError if this folder was `locked` and another process took it over."""
        if self._lease is not None:
            self._lease.check()

    def forget_failure(self) -> None:
        """Removes the result of an attempt that failed, unless another process makes a new one."""
        if self.failed():
            with contextlib.suppress(BusyError), self.locked():
                (self.path / RESULT).unlink(missing_ok=True)

    def save_checkpoint(self, step: int, state: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        """Saves a pytree of arrays and the rows of metrics up to it in one file with its SHA-256; keeps the newest two.

        The rows are included because selection needs them all, and `metrics.jsonl` may be damaged meanwhile.
        """
        self._write_arrays(
            self.path / "checkpoints" / f"{step:09d}.msgpack", state, {"step": step, "rows": json.dumps(rows)}
        )
        self.prune(KEPT_CHECKPOINTS)

    def keep_parameters(self, step: int, params: Any) -> None:
        """Saves the parameters of a step permanently, in one file with its SHA-256; checkpoints come and go beside it.

        The file contains nothing else, so that training the step again gives the same file.
        """
        self._write_arrays(self.parameters_at(step), params, {"step": step})

    def load_parameters(self, step: int, like: Any) -> Any:
        """Returns the parameters of a step.

        Args:
          step: one of `kept_steps`.
          like: a pytree of arrays, or of their shapes and dtypes, with the structure of what was saved.

        Raises:
          ValueError: they are not kept, are damaged, or belong to another model; one line.
        """
        path = self.parameters_at(step)
        try:
            saved = _read_arrays(path)
            if saved["step"] != step:
                raise ValueError(f"it is that of step {saved['step']}")
            return _decode(saved, like)
        except FileNotFoundError as error:
            raise ValueError(f"run {self.path.name}: {absent(step, self.kept_steps())}") from error
        except (OSError, ValueError) as error:
            raise ValueError(f"run {self.path.name}: parameters/{path.name} cannot be used: {error}.") from error

    def load_checkpoint(self, like: Any, *, remove_damaged: bool = True) -> tuple[Any, Rows] | None:
        """Returns (state, rows of metrics) of the newest whole checkpoint, None where there is none.

        Damaged files are named and, in training, removed; otherwise they would count among the newest two forever.

        Args:
          like: a pytree of arrays, or of their shapes and dtypes, with the structure of what was saved.
          remove_damaged: False for readers, who leave it alone.
        """
        for path, saved in self._whole_checkpoints(remove_damaged):
            try:
                return _decode(saved, like), json.loads(saved["rows"])
            except ValueError as error:
                self._set_aside(path, error, remove_damaged)
        if not remove_damaged:
            return None
        if self.metrics():
            self.warn("no checkpoint is left; the run begins again.")
        return None

    def saved_rows(self) -> Rows | None:
        """Returns the rows of metrics of the newest whole checkpoint, None where there is none."""
        return next((json.loads(saved["rows"]) for _, saved in self._whole_checkpoints()), None)

    def _whole_checkpoints(self, remove_damaged: bool = True) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yields the files of the checkpoints and what they hold, newest first."""
        for path in reversed(self.checkpoints()):
            try:
                saved = _read_arrays(path)
                if "rows" not in saved:
                    raise ValueError("an earlier version wrote it")
            except (OSError, ValueError) as error:
                self._set_aside(path, error, remove_damaged)
            else:
                yield path, saved

    def _write_arrays(self, path: Path, tree: Any, facts: Mapping[str, Any]) -> None:
        self.check_lease()
        leaves = jax.tree.leaves(jax.device_get(tree))
        arrays = {f"{index:05d}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
        payload = serialization.msgpack_serialize({**facts, "arrays": arrays})
        with storage(self.path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(payload).digest() + payload)

    def _set_aside(self, path: Path, error: Exception, remove: bool) -> None:
        self.warn(f"checkpoints/{path.name} cannot be used{' and is removed' if remove else ''}: {error}.")
        with contextlib.suppress(OSError):
            if remove:
                path.unlink()


def _read_arrays(path: Path) -> dict[str, Any]:
    """Returns the content of a file of arrays; raises OSError, and ValueError if it does not match its digest."""
    content = path.read_bytes()
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its SHA-256 does not match")
    return serialization.msgpack_restore(payload)


def absent(step: int, kept: Sequence[int]) -> str:
    """Says that the parameters of a step are not among those kept."""
    if not kept:
        return "it keeps no parameters along training; train with --config.train.keep_checkpoints=every."
    near = sorted(kept, key=lambda other: abs(other - step))[:3]
    return f"it keeps no parameters of step {step}; {len(kept)} steps are kept, nearest first {str(near)[1:-1]}."


def _decode(saved: Mapping[str, Any], like: Any) -> Any:
    """Returns the pytree of a file of arrays; raises ValueError where these do not fit `like`."""
    arrays = [saved["arrays"][name] for name in sorted(saved["arrays"])]
    leaves, structure = jax.tree.flatten(like)
    if [(a.shape, a.dtype) for a in arrays] != [(np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves]:
        raise ValueError("its arrays are not those of this model")
    return jax.tree.unflatten(structure, [jax.numpy.asarray(array) for array in arrays])
