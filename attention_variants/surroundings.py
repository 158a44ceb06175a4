"""The parts that `LayerOptions` puts around attention, each with what it must remember of earlier tokens."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attention_variants.arrays import Outputs, accumulation_dtype
from attention_variants.engines.causal_convolution import causal_convolution
from attention_variants.parameters import Undecayed

Stream = Float[Array, "batch length channels"]
Past = Float[Array, "batch past channels"]

_NORM_START = 0.4  # of the learned scale: about where softmax attention over random tokens starts
_SHIFT_RANK = 32
_NORM_EPSILON, _GROUP_EPSILON = 1e-5, 64e-5


class Readings(NamedTuple):
    """What reads x, in the order of a token shift's parameters."""

    query: Array
    key: Array
    value: Array
    controls: Array
    gate: Array


class Convolution(nnx.Module):
    """A causal depthwise convolution, optionally added to its input."""

    def __init__(self, taps: int, channels: int, residual: bool, rngs: nnx.Rngs):
        # Variance 1 / taps keeps the scale of x.
        self.taps = nnx.Param(nnx.initializers.normal(taps**-0.5)(rngs.params(), (taps, channels)))
        self.residual = residual

    @property
    def past(self) -> int:
        """Number of earlier tokens that it reads."""
        return self.taps.shape[0] - 1

    def __call__(self, x: Stream, past: Past) -> tuple[Stream, Past]:
        """Returns the convolution of x, and the inputs that the next tokens read."""
        out, past = causal_convolution(x, past, self.taps[...])
        return x + out if self.residual else out, past


class TokenShift(nnx.Module):
    """Every reading is its own mixture, channel by channel, of x and the token before it.

    ::

        reading_n = x + (x_previous - x) * share_n
        lerp: share_n is learned; ddlerp: share_n + tanh((x + (x_previous - x) * share) A_n) B_n

    The shares start as in the first layer of the published model; A starts at 0, so that both forms start alike.

    References:
      Peng et al. 2024, "Eagle and Finch", arXiv:2404.05892, equations 10 to 12.
    """

    def __init__(self, dim: int, by_content: bool, rngs: nnx.Rngs):
        ramp = jnp.arange(dim, dtype=jnp.float32) / dim
        powers = Readings(query=0.5, key=1.0, value=1.0, controls=1.0, gate=0.5)  # type: ignore[arg-type]
        self.shares = Undecayed(jnp.stack([1 - ramp**power for power in powers]))
        self.share = Undecayed(1 - ramp) if by_content else None
        rank, count = _SHIFT_RANK, len(powers)
        self.down = nnx.Param(jnp.zeros((dim, count, rank), jnp.float32)) if by_content else None
        init = nnx.initializers.uniform(0.02)
        self.up = nnx.Param(init(rngs.params(), (count, rank, dim)) - 0.01) if by_content else None

    @property
    def past(self) -> int:
        """Number of earlier tokens that it reads."""
        return 1

    def __call__(self, x: Stream, past: Past) -> tuple[Readings, Past]:
        """Returns the readings of x, and its last token."""
        previous = jnp.concatenate([past.astype(x.dtype), x[:, :-1]], axis=1)
        change = previous - x
        shares = self.shares[...].astype(x.dtype)[:, None, None]
        if self.share is not None and self.down is not None and self.up is not None:
            mixed = x + change * self.share[...].astype(x.dtype)[None, None]
            inner = jnp.tanh(jnp.einsum("bld,dnr->nblr", mixed, self.down[...].astype(x.dtype)))
            shares = shares + jnp.einsum("nblr,nrd->nbld", inner, self.up[...].astype(x.dtype))
        return Readings(*(x + change * shares[n] for n in range(len(Readings._fields)))), x[:, -1:]


class Skip(nnx.Module):
    """A convolution of the values with one kernel per head, added to the output.

    References:
      One tap, which starts at 1: "D x" of Gu and Dao 2023, "Mamba", arXiv:2312.00752. More, centred: Xiong et al. 2021,
      "Nystromformer", arXiv:2102.03902, section 3.2; they start at random, together at the scale of attention.
    """

    def __init__(self, taps: int, num_heads: int, rngs: nnx.Rngs):
        init = nnx.initializers.ones if taps == 1 else nnx.initializers.normal(_NORM_START * taps**-0.5)
        self.taps = Undecayed(init(rngs.params(), (taps, num_heads)))

    @property
    def past(self) -> int:
        """Number of earlier tokens that it reads if the layer is causal."""
        return self.taps.shape[0] - 1

    def __call__(self, out: Outputs, value: Outputs, past: Past, causal: bool) -> tuple[Outputs, Past]:
        """Returns the output with the convolved values, and the values that the next tokens read."""
        batch, length, num_heads, width = out.shape
        value = value.reshape(batch, length, -1).astype(out.dtype)
        after = 0 if causal else self.past // 2
        padded = jnp.pad(value, ((0, 0), (0, after), (0, 0)))
        kernel = jnp.repeat(self.taps[...], width, axis=1)
        convolved, past = causal_convolution(padded, past, kernel)
        return out + convolved[:, after:].reshape(out.shape), past


class OutputGate(nnx.Module):
    """x -> silu or sigmoid of a projection, for every channel of the output or for every head.

    References:
      Per channel with silu: Sun et al. 2023, "RetNet", arXiv:2307.08621, equation 8; with sigmoid, per channel or head,
      after softmax: Qiu et al. 2025, arXiv:2505.06708.
    """

    def __init__(self, kind: str, model_dim: int, num_heads: int, width: int, rank: int, rngs: nnx.Rngs):
        self.down = linear(model_dim, rank, rngs) if rank else None
        self.up = linear(rank or model_dim, num_heads * width, rngs, use_bias=rank > 0)
        self.kind, self.num_heads = kind, num_heads

    def __call__(self, x: Stream) -> Outputs:
        """Returns the gates, [batch, length, num_heads, width]."""
        gate = dense(self.up, x if self.down is None else dense(self.down, x))
        act = jax.nn.silu if self.kind == "silu" else jax.nn.sigmoid
        return act(gate).reshape(*x.shape[:2], self.num_heads, -1)


class OutputNorm(nnx.Module):
    """Norm of the output per head or over all channels, with a learned scale.

    References:
      Per head: Qin et al. 2022, "The Devil in Linear Transformer", arXiv:2210.10340. Over all channels, after the gate:
      Dao and Gu 2024, "Mamba-2", arXiv:2405.21060, section 7.1. Mean and variance per head, with an epsilon of 64e-5:
      Peng et al. 2024, arXiv:2404.05892.
    """

    def __init__(self, kind: str, num_heads: int, width: int):
        self.kind = kind
        shape = (width,) if kind == "head" else (num_heads, width)
        self.scale = Undecayed(jnp.full(shape, _NORM_START, jnp.float32))
        self.offset = Undecayed(jnp.zeros(shape, jnp.float32)) if kind == "group" else None

    def __call__(self, out: Outputs) -> Outputs:
        """Returns the normalised output, in its dtype."""
        wide = out.astype(accumulation_dtype(out.dtype))
        if self.offset is not None:
            wide = wide - wide.mean(-1, keepdims=True)
        axes, epsilon = ((-2, -1) if self.kind == "all" else -1), (_GROUP_EPSILON if self.offset else _NORM_EPSILON)
        wide = wide * jax.lax.rsqrt(jnp.square(wide).mean(axes, keepdims=True) + epsilon)
        wide = wide * self._broadcast(self.scale, wide)
        if self.offset is not None:
            wide = wide + self._broadcast(self.offset, wide)
        return wide.astype(out.dtype)

    def _broadcast(self, param: nnx.Param, out: Outputs) -> Array:
        return param[...].astype(out.dtype).reshape(1, 1, -1, out.shape[3])


def linear(features_in: int, features_out: int, rngs: nnx.Rngs, *, use_bias: bool = False) -> nnx.Linear:
    """Returns a linear map that computes in the dtype of its input."""
    return nnx.Linear(features_in, features_out, use_bias=use_bias, promote_dtype=_in_input_dtype, rngs=rngs)


def dense(layer: nnx.Linear, x: Stream) -> Stream:
    """Applies `layer` over tokens flattened to one axis, which XLA on CPU runs several times faster than two."""
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def _in_input_dtype(arrays: Any, **_: Any) -> Any:
    """Flax would compute bfloat16 inputs in the float32 of the parameters; here the caller's dtype decides."""
    return tuple(None if array is None else array.astype(arrays[0].dtype) for array in arrays)
