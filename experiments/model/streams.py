"""The random streams of a run, all folded from its seed."""

import jax
from jaxtyping import PRNGKeyArray

TRAIN, VALIDATION, TEST, INIT = range(4)  # folded into the seed: three data splits, and the initial parameters
_MODEL = 2**31 - 1  # folded into a batch's key: the model's own draws; tasks split that key, which uses small numbers


def split_key(seed: PRNGKeyArray, split: int) -> PRNGKeyArray:
    """Returns the key of a split: its step or batch s is drawn from fold_in(split_key, s)."""
    return jax.random.fold_in(seed, split)


def model_key(rng: PRNGKeyArray) -> PRNGKeyArray:
    """Returns the key that the model draws with while it reads the batch drawn with `rng` itself."""
    return jax.random.fold_in(rng, _MODEL)
