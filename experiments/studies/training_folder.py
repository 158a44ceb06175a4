"""A run folder that training can stop and continue in: checkpoints, each one file with a digest."""

import hashlib
import logging
from typing import Any

import jax
import numpy as np
from flax import serialization

from experiments.studies.run_folder import RunFolder, storage, write_whole

KEPT_CHECKPOINTS = 2
_DIGEST_BYTES = hashlib.sha256().digest_size


class TrainingFolder(RunFolder):
    """One run on disk that is being trained. Writing methods raise StorageError."""

    def save_checkpoint(self, step: int, state: Any) -> None:
        """Saves a pytree of arrays as one file with its SHA-256, and keeps the newest two."""
        leaves = jax.tree.leaves(jax.device_get(state))
        arrays = {f"{index:05d}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
        payload = serialization.msgpack_serialize({"step": step, "arrays": arrays})
        with storage(self.path):
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        path = self.path / "checkpoints" / f"{step:09d}.msgpack"
        write_whole(path, hashlib.sha256(payload).digest() + payload)
        self.prune(KEPT_CHECKPOINTS)

    def load_checkpoint(self, like: Any) -> tuple[int, Any] | None:
        """Returns (step, state) of the newest whole checkpoint, None where there is none.

        Args:
          like: a pytree of arrays, or of their shapes and dtypes, with the structure of what was saved.
        """
        for path in reversed(self.checkpoints()):
            try:
                return _decode(path.read_bytes(), like)
            except (OSError, ValueError) as error:
                logging.getLogger(__name__).warning("%s is set aside: %s", path, error)
        return None


def _decode(content: bytes, like: Any) -> tuple[int, Any]:
    """Returns (step, state) from a checkpoint's bytes; raises ValueError where they are not whole or do not fit."""
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its SHA-256 does not match, the file is damaged.")
    saved = serialization.msgpack_restore(payload)
    arrays = [saved["arrays"][name] for name in sorted(saved["arrays"])]
    leaves, structure = jax.tree.flatten(like)
    if [(a.shape, a.dtype) for a in arrays] != [(np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves]:
        raise ValueError("its arrays are not those of this model.")
    return int(saved["step"]), jax.tree.unflatten(structure, [jax.numpy.asarray(array) for array in arrays])
