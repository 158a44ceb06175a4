"""A variant whose sequence is split along its length over the devices of a mesh axis."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array
from typing_extensions import override

from attention_variants.families.delta_rule import DeltaRuleVariant
from attention_variants.families.recurrent import RecurrentVariant
from attention_variants.families.static_pattern import StaticPatternVariant
from attention_variants.interface import AttentionVariant, Cost, HeadSizes
from attention_variants.layer_options import LayerOptions
from attention_variants.sharded.keys import attend_pattern, attend_top_k
from attention_variants.sharded.parts import Part
from attention_variants.sharded.states import attend_delta_rule, attend_recurrent
from attention_variants.variants.topk import TopKAttention


class Split(NamedTuple):
    """How the sequence of some variants is split."""

    how: str
    attend: Callable[[Any, Part], Array]
    whole_controls: bool  # whether every device gets the controls of all tokens


SPLITS: dict[Any, Split] = {
    StaticPatternVariant: Split("a halo of keys, or all keys gathered", attend_pattern, True),
    TopKAttention: Split("all keys gathered", attend_top_k, True),
    RecurrentVariant: Split("decayed sums passed on", attend_recurrent, False),
    DeltaRuleVariant: Split("turned memories passed on", attend_delta_rule, False),
}
_DECLARED = (  # except `size_field`, which names a field of the variant
    *("supports_causal", "supports_bidirectional", "supports_cross", "supports_bias", "normalised", "rotated_parts"),
    *("claims_growth", "controls_type", "family", "cost_order", "state_order", "paper", "paper_position", "examples"),
)


def context_parallel(variant: AttentionVariant, mesh: Mesh, axis: str) -> "ContextParallel":
    """Returns the variant with its sequence split along the length; it is called like the variant.

    Arrays may come in any sharding; the output is split along `axis`. Other axes of the mesh are left to the compiler,
    so that a batch can be split along one of them. Values and gradients are the unsplit ones, up to rounding.

    Raises:
      ValueError: the mesh has no such axis, or axes that are not of type Auto.
      NotImplementedError: the variant cannot be split.
    """
    if axis not in mesh.axis_names:
        raise ValueError(f"`axis` must be one of the mesh's, {', '.join(map(repr, mesh.axis_names))}; got {axis!r}.")
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError("`mesh` must have axes of type Auto, as `Mesh(devices, names)` makes them; got explicit ones.")
    if not any(isinstance(variant, kind) for kind in SPLITS):
        raise NotImplementedError(
            f"{type(variant).__name__} cannot be split along the length: it chooses, sorts or projects whole rows. "
            "Softmax over static patterns and its relatives, topk, linear recurrences and delta rules can."
        )
    family = _family(variant)
    if all(getattr(type(variant), name) is not getattr(family, name) for name in ("_attend", "_dense_weights")):
        raise NotImplementedError(
            f"{type(variant).__name__} cannot be split along the length: it computes something else than its family, "
            f"{family.__name__}, and what is split is the family's computation."
        )
    if getattr(variant, "implementation", "") == "cudnn":
        raise NotImplementedError("`implementation` cudnn cannot be split along the length. Choose auto or xla.")
    return ContextParallel(variant=variant, mesh=mesh, axis=axis)


def _family(variant: AttentionVariant) -> Any:
    return next(kind for kind in SPLITS if isinstance(variant, kind))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextParallel(AttentionVariant):
    """A variant whose calls are split; see `context_parallel`. Everything else is the variant's own.

    Costs, definition and decoding are those of the variant on one device: its cache is not split. Softmax goes
    through the block engine, whatever the variant's `implementation` and its layout on one device.

    Attributes:
      variant: what is split.
      mesh: the devices.
      axis: the axis of the mesh along which the length is split.
    """

    variant: AttentionVariant
    mesh: Mesh
    axis: str

    def __post_init__(self) -> None:
        for name in _DECLARED:
            object.__setattr__(self, name, getattr(self.variant, name, None))

    def _attend(
        self, query: Array, key: Array, value: Array, *, causal: bool, key_mask: Any, bias: Any, controls: Any
    ) -> Array:
        length, number = key.shape[1], self.mesh.shape[self.axis]
        if query.shape[1] != length:
            raise NotImplementedError("attention to another sequence cannot be split along the length.")
        if length % number:
            raise ValueError(
                f"the length must be a multiple of the {number} devices along {self.axis!r} of the mesh; got {length}."
            )
        split = SPLITS[_family(self.variant)]
        whole, by_token = PartitionSpec(), PartitionSpec(None, self.axis)

        def spec(leaf: Any) -> PartitionSpec:
            return by_token if leaf.shape[1] == length and not split.whole_controls else whole

        def run(query: Array, key: Array, value: Array, key_mask: Any, bias: Any, controls: Any) -> Array:
            part = Part(query, key, value, key_mask, bias, controls, causal, self.axis)
            return split.attend(self.variant, part)

        specs = (*(by_token,) * 4, whole, jax.tree.map(spec, controls))
        # Arrays that every device holds whole get the sum of all devices' gradients; `check_vma` cannot see this
        # through engines with their own gradients.
        split_run = jax.shard_map(
            run, mesh=self.mesh, axis_names={self.axis}, in_specs=specs, out_specs=by_token, check_vma=False
        )
        # Op by op, jax 0.10 refuses a mesh that also has other axes.
        return jax.jit(split_run)(query, key, value, key_mask, bias, controls)

    @override
    def pattern(self, query_length: int, key_length: int, causal: bool) -> np.ndarray:
        return self.variant.pattern(query_length, key_length, causal)

    @override
    def cost(self, query_length: int, key_length: int, heads: HeadSizes, causal: bool) -> Cost:
        return self.variant.cost(query_length, key_length, heads, causal)

    @property
    @override
    def paper_layer(self) -> LayerOptions:
        return self.variant.paper_layer

    @property
    @override
    def portable(self) -> AttentionVariant:
        return dataclasses.replace(self, variant=self.variant.portable)

    @override
    def at_depth(self, depth: int) -> AttentionVariant:
        return dataclasses.replace(self, variant=self.variant.at_depth(depth))

    @property
    @override
    def writes_per_token(self) -> int:
        return self.variant.writes_per_token

    @property
    @override
    def has_controls(self) -> bool:
        return self.variant.has_controls

    @property
    @override
    def rotation_is_relative(self) -> bool:
        return self.variant.rotation_is_relative

    @override
    def make_controls(self, model_dim: int, heads: HeadSizes, *, rngs: Any) -> Any:
        return self.variant.make_controls(model_dim, heads, rngs=rngs)

    def _dense_weights(self, *arguments: Any, **options: Any) -> Array:
        return self.variant._dense_weights(*arguments, **options)

    @override
    def _dense_values(self, value: Array, controls: Any) -> Array:
        return self.variant._dense_values(value, controls)

    def _init_cache(self, batch: int, max_length: int, heads: HeadSizes, dtype: Any) -> Any:
        return self.variant._init_cache(batch, max_length, heads, dtype)

    def _extend(self, *arguments: Any, **options: Any) -> tuple[Array, Any]:
        return self.variant._extend(*arguments, **options)

    def _check(self, *arguments: Any, **options: Any) -> None:
        self.variant._check(*arguments, **options)
