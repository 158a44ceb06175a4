"""Variants by name. A new variant is one import and one line here."""

from typing import Any

from attention_variants import specs
from attention_variants.interface import AttentionVariant
from attention_variants.variants.bigbird import BigBirdAttention
from attention_variants.variants.block_local import BlockLocalAttention
from attention_variants.variants.block_topk import BlockTopKAttention
from attention_variants.variants.cosformer import CosformerAttention
from attention_variants.variants.delta import DeltaAttention
from attention_variants.variants.delta_product import DeltaProductAttention, GatedDeltaProductAttention
from attention_variants.variants.differential import DifferentialAttention
from attention_variants.variants.dilated_window import DilatedWindowAttention
from attention_variants.variants.fixed_sparse import FixedSparseAttention
from attention_variants.variants.forgetting import ForgettingAttention
from attention_variants.variants.full import FullAttention
from attention_variants.variants.gated_delta import GatedDeltaAttention
from attention_variants.variants.gated_linear import GatedLinearAttention
from attention_variants.variants.global_window import GlobalWindowAttention
from attention_variants.variants.hedgehog import HedgehogAttention
from attention_variants.variants.kimi_delta import KimiDeltaAttention
from attention_variants.variants.linear import LinearAttention
from attention_variants.variants.linformer import LinformerAttention
from attention_variants.variants.log_sparse import LogSparseAttention
from attention_variants.variants.lsh import LshAttention
from attention_variants.variants.native_sparse import NativeSparseAttention
from attention_variants.variants.nystrom import NystromAttention
from attention_variants.variants.performer import PerformerAttention
from attention_variants.variants.retention import RetentionAttention
from attention_variants.variants.rwkv6 import Rwkv6Attention
from attention_variants.variants.sigmoid import SigmoidAttention
from attention_variants.variants.sink_window import SinkWindowAttention
from attention_variants.variants.sliding_window import SlidingWindowAttention
from attention_variants.variants.softmax_sink import SoftmaxSinkAttention
from attention_variants.variants.state_space import StateSpaceAttention
from attention_variants.variants.strided_sparse import StridedSparseAttention
from attention_variants.variants.taylor import TaylorAttention
from attention_variants.variants.topk import TopKAttention

VARIANTS: dict[str, type[AttentionVariant]] = {
    "full": FullAttention,
    "sliding_window": SlidingWindowAttention,
    "dilated_window": DilatedWindowAttention,
    "global_window": GlobalWindowAttention,
    "sink_window": SinkWindowAttention,
    "block_local": BlockLocalAttention,
    "strided_sparse": StridedSparseAttention,
    "fixed_sparse": FixedSparseAttention,
    "log_sparse": LogSparseAttention,
    "bigbird": BigBirdAttention,
    "topk": TopKAttention,
    "block_topk": BlockTopKAttention,
    "lsh": LshAttention,
    "native_sparse": NativeSparseAttention,
    "linformer": LinformerAttention,
    "nystrom": NystromAttention,
    "forgetting": ForgettingAttention,
    "differential": DifferentialAttention,
    "softmax_sink": SoftmaxSinkAttention,
    "sigmoid": SigmoidAttention,
    "linear": LinearAttention,
    "performer": PerformerAttention,
    "cosformer": CosformerAttention,
    "taylor": TaylorAttention,
    "hedgehog": HedgehogAttention,
    "retention": RetentionAttention,
    "gated_linear": GatedLinearAttention,
    "state_space": StateSpaceAttention,
    "rwkv6": Rwkv6Attention,
    "delta": DeltaAttention,
    "gated_delta": GatedDeltaAttention,
    "kimi_delta": KimiDeltaAttention,
    "delta_product": DeltaProductAttention,
    "gated_delta_product": GatedDeltaProductAttention,
}


def make_variant(spec: str, **fields: Any) -> AttentionVariant:
    """Builds a variant from its name or a spec string such as `sliding_window:window_size=64`.

    Raises:
      SpecError: unknown name or field, or a value of the wrong type or out of range; one line, nearest choices first.
    """
    return specs.build(spec, VARIANTS, "attention variant", **fields)


def example_spec(name: str, length: int) -> str:
    """Returns a spec of the variant `name` whose windows, blocks and states are well below `length`.

    For example `sliding_window:window_size=32` at 128; the bare name if the variant gives no example for that length.

    Raises:
      SpecError: unknown name; one line, nearest choices first.
    """
    if name not in VARIANTS:
        raise specs.SpecError(specs.unknown("attention variant", name, VARIANTS))
    fields = VARIANTS[name].examples.get(length)
    return f"{name}:{fields}" if fields else name
