"""Which key a query may see, as small frozen descriptions.

A `Pattern` defines at absolute positions whether a query sees a key (`visible`, elementwise, traced or not) and, for
the block engine, whether a block of queries touches a block of keys at all (`touched`) and whether it sees all of it
(`filled`). Pictures show queries as rows and keys as columns.

Window sizes follow many conventions; here `window_size` counts the keys visible, the query's own included.
`window_from_*` convert.
"""

from attention_variants.patterns.base import AllOf, AnyOf, Everything, Pattern
from attention_variants.patterns.distances import Band, EveryNth, PowersOfTwo, band_around
from attention_variants.patterns.places import Blockwise, FirstKeys, FirstQueries, LastOfBlocks, ListedBlocks

__all__ = [
    "AllOf",
    "AnyOf",
    "Band",
    "Blockwise",
    "EveryNth",
    "Everything",
    "FirstKeys",
    "FirstQueries",
    "LastOfBlocks",
    "ListedBlocks",
    "Pattern",
    "PowersOfTwo",
    "band_around",
    "causal_or_full",
    "window",
    "window_from_left",
    "window_from_one_side",
]


def causal_or_full(causal: bool) -> Pattern:
    """Returns the pattern of full attention."""
    return Band(before=None, after=0) if causal else Everything()


def window(window_size: int, causal: bool) -> Band:
    """Returns the band of `window_size` visible keys, the query's own included.

    If causal, they are the query's own and those just before it. Otherwise they lie around it, the odd one before:
    `window(4, causal=False)` shows two before, the query's own and one after.
    """
    if causal:
        return Band(before=window_size - 1, after=0)
    return Band(before=window_size // 2, after=(window_size - 1) // 2)


def window_from_left(left: int) -> int:
    """Converts a window given as keys before the query, own not counted (flash-attn and jax `(left, 0)`, zoology)."""
    return left + 1


def window_from_one_side(one_side: int) -> int:
    """Converts a symmetric window given per side (a jax integer `local_window_size`), for causal=False."""
    return 2 * one_side + 1
