"""Variants by name. A new variant is one import and one line here."""

from typing import Any

from attention_variants import specs
from attention_variants.interface import AttentionVariant
from attention_variants.variants.bigbird import BigBirdAttention
from attention_variants.variants.full import FullAttention
from attention_variants.variants.linear import LinearAttention
from attention_variants.variants.sliding_window import SlidingWindowAttention
from attention_variants.variants.strided_sparse import StridedSparseAttention

VARIANTS: dict[str, type[AttentionVariant]] = {
    "full": FullAttention,
    "sliding_window": SlidingWindowAttention,
    "strided_sparse": StridedSparseAttention,
    "bigbird": BigBirdAttention,
    "linear": LinearAttention,
}


def make_variant(spec: str, **fields: Any) -> AttentionVariant:
    """Builds a variant from its name or a spec string such as `sliding_window:window_size=64`.

    Raises:
      SpecError: unknown name or field, or a value of the wrong type or out of range; one line, nearest choices first.
    """
    return specs.build(spec, VARIANTS, "attention variant", **fields)
