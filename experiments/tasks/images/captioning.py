"""Captioning: an encoder reads an image, a decoder names its shapes."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, UInt8
from typing_extensions import override

from attention_variants.checks import check_integer
from experiments.tasks.base import Batch, Context, Task
from experiments.tasks.images import shape_images
from experiments.tasks.images.shape_images import CELL, COLOURS, EMPTY, SHAPES

_BEGIN, _FIRST_COLOUR, _FIRST_SHAPE = 0, 1, 1 + len(COLOURS)
_NAMES = ("begin", *COLOURS, *SHAPES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(Task):
    """Captioning.

    With `grid_size=3, num_shapes=2`, an image whose fourth cell holds a red square and whose ninth a blue cross::

        begin  red    square blue
        red    square blue   cross   <- targets

    The context, which an encoder reads, is an image of grid_size^2 patches of 8 x 8 pixels, in raster order, as
    channels (y, x, colour) in [-1, 1). `num_shapes` of them, uniformly drawn, show a square, circle, triangle or cross,
    5 or 7 pixels wide, in one of six colours, somewhere on a background of noise. The row is a begin marker and the
    names of their colours and shapes in raster order, each read at the token before it. Ids: 0 begins, then 6 colours,
    4 shapes.

    The evidence for both names is the patch that shows the shape. Colours and shapes are independent and uniform, so a
    model that does not see the patch can only guess. The slice `place` counts shapes; `word` is 0 for the colour, 1 for
    the shape.

    References:
      Xu et al. 2015, "Show, attend and tell", arXiv:1502.03044. The images are our own.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "captioning: name the coloured shapes in an image that an encoder reads"
    slice_labels: ClassVar[Mapping[str, str]] = {
        "place": "shape in the caption, from 0",
        "word": "word: the colour (0) or the shape (1)",
    }
    every_change_counts: ClassVar[bool] = False
    answers_follow: ClassVar[bool] = True

    grid_size: int = 4  # patches along a side of the image
    num_shapes: int = 5

    def __post_init__(self) -> None:
        check_integer("grid_size", self.grid_size, 1, 64)
        check_integer("num_shapes", self.num_shapes, 1)
        if self.num_shapes > self.grid_size**2:
            raise ValueError(
                f"`num_shapes` must be at most `grid_size`^2 = {self.grid_size**2}; got {self.num_shapes}."
            )

    @property
    @override
    def vocab_size(self) -> int:
        """The marker, colours and shapes."""
        return len(_NAMES)

    @property
    @override
    def input_length(self) -> int:
        """The marker and all names but the last."""
        return 2 * self.num_shapes

    @property
    @override
    def context(self) -> Context:
        """The image's patches."""
        return Context(length=self.grid_size**2, channels=3 * CELL**2)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        place_rng, name_rng, image_rng = jax.random.split(rng, 3)
        rows = jnp.arange(batch_size)[:, None]
        lots = jax.random.bits(place_rng, (batch_size, self.grid_size**2), jnp.uint32)
        places = jnp.sort(jnp.argsort(lots, axis=1)[:, : self.num_shapes], axis=1).astype(jnp.int32)
        bits = jax.random.bits(name_rng, (2, batch_size, self.num_shapes), jnp.uint32)
        colours, shapes = (bits[0] % len(COLOURS)).astype(jnp.int32), (bits[1] % len(SHAPES)).astype(jnp.int32)
        empty = jnp.full((batch_size, self.grid_size**2), EMPTY, jnp.int32)
        cells = shape_images.draw(image_rng, empty.at[rows, places].set(shapes), empty.at[rows, places].set(colours))
        targets = jnp.stack([_FIRST_COLOUR + colours, _FIRST_SHAPE + shapes], axis=2).reshape(batch_size, -1)
        order = jnp.broadcast_to(jnp.arange(self.input_length, dtype=jnp.int32)[None], targets.shape)
        return Batch(
            inputs=jnp.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=_BEGIN),
            targets=targets,
            positions=order,
            weights=jnp.ones(targets.shape, jnp.float32),
            evidence=self.input_length + jnp.repeat(places, 2, axis=1)[..., None],
            slices={"place": order // 2, "word": order % 2},
            context=shape_images.patches(cells, CELL),
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Reads every patch, and lists the shapes."""
        shapes, colours = shape_images.read(shape_images.image(np.asarray(batch.context)))
        names = np.stack([_FIRST_COLOUR + colours, _FIRST_SHAPE + shapes], axis=2)
        listed = np.stack([row[there] for row, there in zip(names, shapes != EMPTY, strict=True)])
        return np.take_along_axis(listed.reshape(len(listed), -1), np.asarray(batch.positions), axis=1)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing without looking."""
        return {"guess a colour or a shape": (1 / len(COLOURS) + 1 / len(SHAPES)) / 2}

    @override
    def guess_rate(self, batch: Batch) -> Float[np.ndarray, "batch scored"]:
        """Names are independent of everything but their own patch."""
        return np.where(np.asarray(batch.slices["word"]) == 0, 1 / len(COLOURS), 1 / len(SHAPES))

    @override
    def at_length(self, length: int) -> Self:
        """More or fewer shapes, in a larger image if they do not fit."""
        shapes = -(-length // 2)
        return dataclasses.replace(self, num_shapes=shapes, grid_size=max(self.grid_size, int(np.ceil(shapes**0.5))))

    @override
    def token_text(self, token: int) -> str:
        """Names as they read."""
        return _NAMES[token]

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The marker, then names."""
        texts = [self.token_text(int(token)) for token in batch.inputs[row]]
        return [(texts[0], "marker"), *((text, "answer") for text in texts[1:])]

    @override
    def describe_context(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Patches by what they show."""
        shapes, colours = shape_images.read(shape_images.image(np.asarray(batch.context)[row]))
        cells = zip(shapes.tolist(), colours.tolist(), strict=True)
        names = ["." if shape == EMPTY else f"{COLOURS[colour]}-{SHAPES[shape]}" for shape, colour in cells]
        return [(name, "filler" if name == "." else "value") for name in names]

    @override
    def image(self, batch: Batch, row: int) -> UInt8[np.ndarray, "height width 3"]:
        return shape_images.image(np.asarray(batch.context)[row]).astype(np.uint8)
