"""Image shapes: which kind of shape occurs most often in an image given as patches?"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PRNGKeyArray, UInt8
from typing_extensions import override

from attention_variants.checks import check_integer
from experiments.tasks.base import DISTANCE, Batch, Task
from experiments.tasks.images import shape_images
from experiments.tasks.images.shape_images import CELL, COLOURS, EMPTY, SHAPES


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageShapes(Task):
    """Image shapes.

    With `grid_size=3`, an image of 9 cells, cut into 36 patches of 4 x 4 pixels, and the position to read at::

        .................#######   red square
        ..#####..........#######   cyan cross, green square
        ..#####............###..
        ...                        -> square

    Some cells of 8 x 8 pixels hold a square, circle, triangle or cross, 5 or 7 pixels wide, in one of six colours,
    somewhere in the cell; the background is noise. The answer is the shape that occurs most often. Its count is uniform
    over 2..(cells + 3) / 4; that of each other shape is one or two less, with equal probability. Cells and colours are
    uniform and do not matter.

    Inputs are channels: patch_size^2 times red, green and blue, in [-1, 1), of each patch in raster order; then comes a
    position of zeros. One more channel is 1 there and 0 elsewhere, so that a linear embedding turns that position into
    a learned token to read at. Ids 0..3 are the shapes. Any shape may tip the balance: the evidence is the whole image,
    and no bound is claimed for models that see only a part. The slice `shapes` is the number of shapes.

    References:
      As patches, Dosovitskiy et al. 2021, "An image is worth 16x16 words", arXiv:2010.11929. The images are our own.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "image shapes: which kind of shape occurs most often in an image of patches?"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"shapes": "shapes in the image"}
    every_change_counts: ClassVar[bool] = False

    grid_size: int = 4  # cells along a side of the image
    patch_size: int = 4  # pixels along a side of a patch

    def __post_init__(self) -> None:
        check_integer("grid_size", self.grid_size, 3, 32)
        check_integer("patch_size", self.patch_size, 2, 256)
        if self.grid_size * CELL % self.patch_size:
            raise ValueError(f"`patch_size` must divide {self.grid_size * CELL} pixels; got {self.patch_size}.")

    @property
    @override
    def vocab_size(self) -> int:
        return len(SHAPES)

    @property
    @override
    def input_length(self) -> int:
        """Patches, and the position to read at."""
        return (self.grid_size * CELL // self.patch_size) ** 2 + 1

    @property
    @override
    def input_channels(self) -> int:
        """A patch's pixels in three colours, and the mark of the position to read at."""
        return 3 * self.patch_size**2 + 1

    @property
    def _most(self) -> int:
        """How often a shape can occur so that all of them fit."""
        return (self.grid_size**2 + 3) // 4

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        count_rng, place_rng, image_rng = jax.random.split(rng, 3)
        cells, kinds = self.grid_size**2, len(SHAPES)
        bits = jax.random.bits(count_rng, (batch_size, kinds + 1), jnp.uint32)
        most = 2 + (bits[:, :1] % (self._most - 1)).astype(jnp.int32)
        fewer = most - 1 - (bits[:, 1:] & 1).astype(jnp.int32)
        answer = (bits[:, :1] >> 24).astype(jnp.int32) % kinds
        counts = jnp.where(jnp.arange(kinds, dtype=jnp.int32)[None] == answer, most, fewer)

        bits = jax.random.bits(place_rng, (2, batch_size, cells), jnp.uint32)
        rank = jnp.argsort(jnp.argsort(bits[0], axis=1), axis=1)
        shapes = jnp.sum(rank[..., None] >= jnp.cumsum(counts, axis=1)[:, None], axis=2, dtype=jnp.int32)
        colours = (bits[1] % len(COLOURS)).astype(jnp.int32)
        patches = shape_images.patches(shape_images.draw(image_rng, shapes, colours), self.patch_size)
        end = jnp.full((batch_size, 1), self.input_length - 1, jnp.int32)
        seen = jnp.arange(self.input_length - 1, dtype=jnp.int32)[None, None]
        return Batch(
            inputs=jnp.pad(patches, ((0, 0), (0, 1), (0, 1))).at[:, -1, -1].set(1.0),
            targets=answer,
            positions=end,
            weights=jnp.ones((batch_size, 1), jnp.float32),
            evidence=jnp.broadcast_to(seen, (batch_size, *seen.shape[1:])),
            slices={"distance": jnp.ones_like(end), "shapes": jnp.sum(counts, axis=1, keepdims=True, dtype=jnp.int32)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Reads the shape in every cell and counts."""
        shapes, _ = shape_images.read(shape_images.image(np.asarray(batch.inputs)[:, :-1, :-1]))
        return (shapes[..., None] == np.arange(EMPTY)).sum(axis=1).argmax(axis=1)[:, None]

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, and naming any one of the shapes in the image."""
        right = []
        others = len(SHAPES) - 1
        for most in range(2, self._most + 1):
            all_shapes = [most + others * (most - 1) - n for n in range(others + 1)]  # n of them two fewer
            right.append(sum(math.comb(others, n) / 2**others * most / count for n, count in enumerate(all_shapes)))
        return {"guess a shape": 1 / len(SHAPES), "name any shape in the image": sum(right) / len(right)}

    @override
    def at_length(self, length: int) -> Self:
        """The smallest image that makes a row of at least `length` positions."""
        across = math.isqrt(max(length - 2, 0)) + 1
        cells = max(3, -(-across * self.patch_size // CELL))
        while cells * CELL % self.patch_size:
            cells += 1
        return dataclasses.replace(self, grid_size=cells)

    @override
    def token_text(self, token: int) -> str:
        return SHAPES[token]

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Numbered patches, and the position to read at."""
        return [(f"p{n}", "value") for n in range(self.input_length - 1)] + [("CLS", "query")]

    @override
    def image(self, batch: Batch, row: int) -> UInt8[np.ndarray, "height width 3"]:
        return shape_images.image(np.asarray(batch.inputs[row])[:-1, :-1]).astype(np.uint8)
