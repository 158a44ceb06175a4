"""Efficient attention variants behind one Flax interface."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attention_variants.flax_adapter import attention_fn as attention_fn
    from attention_variants.interface import AttentionVariant as AttentionVariant
    from attention_variants.interface import Cost as Cost
    from attention_variants.module import MultiHeadAttention as MultiHeadAttention
    from attention_variants.parameters import Undecayed as Undecayed
    from attention_variants.positions import make_position as make_position
    from attention_variants.registry import VARIANTS as VARIANTS
    from attention_variants.registry import make_variant as make_variant
    from attention_variants.sharded import context_parallel as context_parallel

__version__ = "0.1.0"

# Imported on first use, because a caller of the FLOP counter alone does not need Flax.
_HOMES = {
    "AttentionVariant": "interface",
    "Cost": "interface",
    "MultiHeadAttention": "module",
    "Undecayed": "parameters",
    "VARIANTS": "registry",
    "attention_fn": "flax_adapter",
    "context_parallel": "sharded",
    "make_position": "positions",
    "make_variant": "registry",
}
__all__ = [*_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
