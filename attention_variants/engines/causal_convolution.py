"""A causal convolution per channel, which continues from the inputs that came before."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def causal_convolution(
    x: Float[Array, "batch length channels"],
    history: Float[Array, "batch past channels"],
    kernel: Float[Array, "taps channels"],
) -> tuple[Float[Array, "batch length channels"], Float[Array, "batch past channels"]]:
    """Returns output_t = sum_i kernel_i * x_(t - past + i), and the history of the tokens that follow.

    Args:
      x: [batch, length, channels], any length >= 1.
      history: [batch, past, channels], the last `past` = taps - 1 inputs before x; zeros at the beginning.
      kernel: [taps, channels]; the last tap reads the token itself.

    Returns:
      The output in the dtype of x, and the last `past` inputs.
    """
    kernel, length = kernel.astype(x.dtype)[:, None, None, :], x.shape[1]
    x = jnp.concatenate([history.astype(x.dtype), x], axis=1)
    out = jnp.zeros((), x.dtype)
    for i in range(kernel.shape[0]):
        out = out + x[:, i : i + length] * kernel[i]
    return out, x[:, length:]
