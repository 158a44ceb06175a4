"""Patterns written out as matrices, for definitions; they share no code with the pieces for skipping blocks."""

import numpy as np


def every_key(query_length: int, key_length: int, causal: bool) -> np.ndarray:
    """Returns all True, or the lower triangle where causal; bool [query_length, key_length]."""
    everything = np.ones((query_length, key_length), bool)
    return np.tril(everything) if causal else everything


def near_keys(query_length: int, key_length: int, window_size: int, causal: bool) -> np.ndarray:
    """Returns the `window_size` keys that end with the query's own if causal, and otherwise lie around it.

    Around it means window_size // 2 keys before it and (window_size - 1) // 2 after it.
    """
    query_position, key_position = np.arange(query_length)[:, None], np.arange(key_length)[None, :]
    first = query_position - (window_size - 1 if causal else window_size // 2)
    return (key_position >= first) & (key_position < first + window_size)
