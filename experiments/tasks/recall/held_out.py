"""Keys that training never shows, to test whether a model matches keys or has memorised them."""

from attention_variants.checks import check_integer


def drawn_keys(total: int, held_out: int, unseen: bool, needed: int) -> range:
    """Returns the ids that rows draw their keys from, out of 1..`total`.

    Args:
      total: number of keys.
      held_out: how many of them, the last ones, are held out.
      unseen: draw from the held-out keys only.
      needed: distinct keys in a row.

    Raises:
      ValueError: too few keys are left; its message is one line.
    """
    check_integer("held_out_keys", held_out, 0, total)
    keys = range(total - held_out + 1, total + 1) if unseen else range(1, total - held_out + 1)
    if len(keys) < needed:
        bound = f"at least {needed}, the keys of a row" if unseen else f"at most {total - needed} here"
        raise ValueError(f"`held_out_keys` must be {bound}; got {held_out}.")
    return keys
