"""The number and the widths of the heads of a layer."""

import math

from attention_variants.checks import check_integer
from attention_variants.interface import HeadSizes
from attention_variants.layer_options import LayerOptions


def head_sizes(
    model_dim: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    value_dim: int | None = None,
    options: LayerOptions = LayerOptions(),  # noqa: B008 - frozen
) -> HeadSizes:
    """Returns the heads of a layer.

    Args:
      model_dim: width of the layer's input.
      num_heads: query heads.
      num_kv_heads: None: as many as num_heads.
      head_dim: None: `options.key_expansion` * model_dim / num_heads.
      value_dim: None: head_dim if that is given, or else `options.value_expansion` * model_dim / num_heads.
      options: what surrounds the attention.

    Raises:
      ValueError: a size is not a positive integer, or one does not divide the other.
    """
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    given = {"head_dim": head_dim, "value_dim": value_dim}
    sizes = {"model_dim": model_dim, "num_heads": num_heads, "num_kv_heads": num_kv_heads}
    for name, size in (sizes | {name: size for name, size in given.items() if size is not None}).items():
        check_integer(name, size, 1)
    if num_heads % num_kv_heads:
        raise ValueError(
            f"`num_kv_heads` must divide `num_heads`; got num_kv_heads {num_kv_heads} and num_heads {num_heads}."
        )
    if value_dim is None:
        value_dim = head_dim or _share(model_dim, num_heads, "value_expansion", options.value_expansion)
    if head_dim is None:
        head_dim = _share(model_dim, num_heads, "key_expansion", options.key_expansion)
    return HeadSizes(num_heads, num_kv_heads, head_dim, value_dim)


def _share(model_dim: int, num_heads: int, name: str, expansion: float) -> int:
    """Returns the width of one head."""
    width = round(expansion * model_dim)
    if not math.isclose(width, expansion * model_dim) or width % num_heads:  # 0.14 * 50 is not 7 in floats
        times = "" if expansion == 1 else f" times `{name}` {expansion}"
        raise ValueError(
            f"`num_heads` must divide `model_dim`{times}; got num_heads {num_heads} and model_dim {model_dim}."
        )
    return width // num_heads
