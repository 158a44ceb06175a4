"""What `model.norm` can name: the normalisation before every mixer and every MLP."""

import abc
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attention_variants import specs
from attention_variants.arrays import accumulation_dtype
from attention_variants.checks import check_number
from attention_variants.parameters import Undecayed

Tokens = Float[Array, "*tokens model_dim"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Norm(abc.ABC):
    """A kind of normalisation: its hyperparameters, and the layer that it makes."""

    summary: ClassVar[str]

    epsilon: float = 1e-6  # added to the mean square

    def __post_init__(self) -> None:
        check_number("epsilon", self.epsilon, 0.0, 1.0)

    @abc.abstractmethod
    def make_layer(self, model_dim: int) -> nnx.Module:
        """Returns the layer, which normalises tokens [tokens, model_dim] in float32 and returns them in their dtype."""


class RmsNorm(Norm):
    """Root-mean-square normalisation with a learned scale: x / sqrt(mean(x^2)) * scale.

    References:
      Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", arXiv:1910.07467.
    """

    summary = "root-mean-square normalisation with a scale"

    def make_layer(self, model_dim: int) -> nnx.Module:
        """Returns the layer."""
        return _Scale(self.epsilon, model_dim)


class LayerNorm(Norm):
    """Layer normalisation with a learned scale and offset.

    References:
      Ba, Kiros and Hinton 2016, "Layer Normalization", arXiv:1607.06450.
    """

    summary = "layer normalisation with a scale and an offset"

    def make_layer(self, model_dim: int) -> nnx.Module:
        """Returns the layer."""
        return _Standardise(self.epsilon, model_dim)


NORMS: dict[str, type[Norm]] = {
    "rms": RmsNorm,
    "layer": LayerNorm,
}


def make_norm(spec: str) -> Norm:
    """Builds a norm from its name or a spec string such as `rms:epsilon=1e-5`; raises SpecError."""
    return specs.build(spec, NORMS, "norm")


def rms_normalised(x: Tokens, epsilon: float = 1e-6) -> Tokens:
    """Returns x / sqrt(mean(x^2)), computed in float32, in the dtype of x."""
    wide = x.astype(accumulation_dtype(x.dtype))
    return (wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)).astype(x.dtype)


class _Scale(nnx.Module):
    def __init__(self, epsilon: float, model_dim: int):
        self.epsilon = epsilon
        self.scale = Undecayed(jnp.ones(model_dim))

    def __call__(self, x: Float[Array, "tokens model_dim"]) -> Float[Array, "tokens model_dim"]:
        wide = x.astype(accumulation_dtype(x.dtype))
        return (rms_normalised(wide, self.epsilon) * self.scale[...][None, :]).astype(x.dtype)


class _Standardise(nnx.Module):
    def __init__(self, epsilon: float, model_dim: int):
        self.epsilon = epsilon
        self.scale, self.offset = Undecayed(jnp.ones(model_dim)), Undecayed(jnp.zeros(model_dim))

    def __call__(self, x: Float[Array, "tokens model_dim"]) -> Float[Array, "tokens model_dim"]:
        wide = x.astype(accumulation_dtype(x.dtype))
        centred = rms_normalised(wide - jnp.mean(wide, axis=-1, keepdims=True), self.epsilon)
        return (centred * self.scale[...][None, :] + self.offset[...][None, :]).astype(x.dtype)
