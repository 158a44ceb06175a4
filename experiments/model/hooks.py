"""Where a forward pass can be looked at, or changed: hooks that the model calls at every layer."""

from typing import Any, NamedTuple

from experiments.components.mixers import Stream


class Site(NamedTuple):
    """Which layer of a model, and what in it."""

    layer: int
    part: str = "mixer"  # or "cross", attention to a context; "encoder", the mixer of a layer that reads the context

    def __str__(self) -> str:
        return f"{self.part} {self.layer + 1}" if self.part != "mixer" else f"layer {self.layer + 1}"


class Hooks:
    """Neither looks nor changes; subclasses override what they need."""

    def mix(self, site: Site, mixer: Any, x: Stream, **arguments: Any) -> Stream:
        """Returns what a mixer adds to the residual stream.

        Args:
          site: where.
          mixer: the layer of the mixer, such as a `MultiHeadAttention`.
          x: what it reads, normalised.
          **arguments: the others of its call.
        """
        return mixer(x, **arguments)

    def stream(self, site: Site, x: Stream) -> Stream:
        """Returns the residual stream behind a layer; that of layer -1 is the embedding."""
        return x


NONE = Hooks()
