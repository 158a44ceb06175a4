"""Hooks that the model calls at every layer, to look at a forward pass or to change it."""

from typing import Any, NamedTuple

from experiments.components.mixers import Stream


class Site(NamedTuple):
    """A layer of a model, and which part of it."""

    layer: int
    part: str = "mixer"  # or "cross", attention to a context; "encoder", the mixer of a layer that reads the context

    def __str__(self) -> str:
        return f"{self.part} {self.layer + 1}" if self.part != "mixer" else f"layer {self.layer + 1}"


class Hooks:
    """Changes nothing; subclasses override what they need."""

    def mix(self, site: Site, mixer: Any, x: Stream, **arguments: Any) -> Stream:
        """Returns what a mixer adds to the residual stream.

        Args:
          site: where.
          mixer: the mixer's layer, such as a `MultiHeadAttention`.
          x: its input, normalised.
          **arguments: its other arguments.
        """
        return mixer(x, **arguments)

    def stream(self, site: Site, x: Stream) -> Stream:
        """Returns the residual stream after a layer; that of layer -1 is the embedding."""
        return x


NONE = Hooks()
