"""Kinds of parameters, declared where they are made, for optimizers that do not treat all alike."""

from flax import nnx


class Undecayed(nnx.Param):
    """A parameter that weight decay must not reach, because 0 is nothing that it should tend to.

    Scales, offsets, rates, tables of biases, weights of positions, vectors whose product is a number, and maps that
    begin as the identity. Kernels of linear maps and of convolutions, and embeddings, are plain `nnx.Param`. An
    optimizer outside this repository finds the parameters by `nnx.state(layer, Undecayed)`.
    """
