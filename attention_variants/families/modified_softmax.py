"""Attention to every key by other weights than a softmax of the logits: what such variants share."""

import dataclasses

from attention_variants.families.every_key import EveryKeyVariant


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModifiedSoftmaxVariant(EveryKeyVariant):
    """Attention over all keys or earlier ones. A subclass overrides `_attend` and `weigh`, or more.

    Attributes:
      block_size: tokens per block of the engine: speed only, the function is the same.
    """

    normalised = False
    family = "modified softmax"
