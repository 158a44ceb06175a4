"""Attention to every key with weights other than a softmax of the logits: what such variants share."""

import abc
import dataclasses

from jaxtyping import Array
from typing_extensions import override

from attention_variants.engines.block_softmax import BlockPlan
from attention_variants.families.every_key import EveryKeyVariant
from attention_variants.families.static_pattern import Given


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModifiedSoftmaxVariant(EveryKeyVariant):
    """Attention over all keys or earlier ones. A subclass defines `attend_from` and `weigh`, or more.

    Attributes:
      block_size: tokens per block of the engine; affects speed only, not the function.
    """

    normalised = False
    family = "modified softmax"

    @abc.abstractmethod
    @override
    def attend_from(
        self, plan: BlockPlan, query: Array, key: Array, value: Array, causal: bool, given: Given
    ) -> Array: ...
