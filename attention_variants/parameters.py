"""Kinds of parameters, declared where they are made, for optimizers that do not treat all alike."""

from flax import nnx


class Undecayed(nnx.Param):
    """A parameter exempt from weight decay, because 0 is not a value that it should tend to.

    These are scales, offsets, rates, tables of biases, weights of positions, vectors whose product is a number, and
    maps that begin as the identity. Kernels of linear maps and of convolutions, and embeddings, are plain `nnx.Param`.
    An optimizer outside this repository can find them with `nnx.state(layer, Undecayed)`.
    """
