"""Images of coloured shapes on noise, at most one in each cell of a grid, drawn on device and read back in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

SHAPES = ("square", "circle", "triangle", "cross")
COLOURS = ("red", "green", "yellow", "blue", "magenta", "cyan")  # colour c has the channels of the bits of c + 1
CELL = 8  # pixels along a side
EMPTY = len(SHAPES)  # in place of a shape

_NOISE = 80  # levels, of 256, by which dark and bright may be off
_RADII = (2, 3)  # a shape is 2 r + 1 pixels wide
_AREAS = {5: (25, 21, 13, 9), 7: (49, 37, 25, 33)}  # pixels of each shape by width


def draw(
    rng: PRNGKeyArray, shapes: Int[Array, "batch cells"], colours: Int[Array, "batch cells"]
) -> Int[Array, "batch cells cell cell 3"]:
    """Draws each cell's shape, or nothing, with a random size and place within the cell.

    Returns:
      Levels 0..255 of red, green and blue.
    """
    size_rng, noise_rng = jax.random.split(rng)
    bits = jax.random.bits(size_rng, (*shapes.shape, 3), jnp.uint32)
    radius = _RADII[0] + (bits[..., :1] & 1).astype(jnp.int32)
    middle = radius + ((bits[..., 1:] >> 8) % (CELL - 2 * radius).astype(jnp.uint32)).astype(jnp.int32)
    line = jnp.arange(CELL, dtype=jnp.int32)[None, None]
    y = (line - middle[..., :1])[..., :, None]
    x = (line - middle[..., 1:])[..., None, :]
    radius = radius[..., None]
    farthest = jnp.maximum(abs(y), abs(x))
    masks = (
        farthest <= radius,
        y * y + x * x <= radius * radius + 1,
        (2 * abs(x) <= y + radius) & (y <= radius),
        (farthest <= radius) & (jnp.minimum(abs(y), abs(x)) <= (radius - 1) // 2),
    )
    inside = jnp.any(jnp.stack([mask & (shapes[..., None, None] == n) for n, mask in enumerate(masks)]), axis=0)
    channels = jnp.arange(3, dtype=jnp.int32)[None, None, None, None]
    bright = inside[..., None] & ((colours[..., None, None, None] + 1) >> channels & 1 > 0)
    noise = jax.random.bits(noise_rng, bright.shape, jnp.uint8).astype(jnp.int32) % _NOISE
    return jnp.where(bright, 255 - noise, noise)


def patches(cells: Int[Array, "batch cells cell cell 3"], patch_size: int) -> Float[Array, "batch patches channels"]:
    """Cuts images of square grids into square patches, in raster order, with channels (y, x, colour) in [-1, 1)."""
    batch_size, count = cells.shape[:2]
    grid = round(count**0.5)
    images = cells.reshape(batch_size, grid, grid, CELL, CELL, 3).transpose(0, 1, 3, 2, 4, 5)
    across = grid * CELL // patch_size
    cut = images.reshape(batch_size, across, patch_size, across, patch_size, 3).transpose(0, 1, 3, 2, 4, 5)
    levels = cut.reshape(batch_size, across**2, patch_size**2 * 3).astype(jnp.float32)
    return (levels - 128) * (1 / 128)


def image(patched: Float[np.ndarray, "*batch patches channels"]) -> Int[np.ndarray, "*batch height width 3"]:
    """Puts patches together again, with levels 0..255."""
    *batch, count, channels = np.shape(patched)
    across, patch_size = round(count**0.5), round((channels / 3) ** 0.5)
    cut = np.asarray(patched).reshape(*batch, across, across, patch_size, patch_size, 3)
    levels = np.moveaxis(cut, -4, -3).reshape(*batch, across * patch_size, across * patch_size, 3)
    return np.rint(levels * 128 + 128).astype(int)


def read(images: Int[np.ndarray, "*batch height width 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns each cell's shape and colour [*batch, cells] from the pixels alone; colour -1 where a cell is empty.

    A shape is recognised by its width and its number of pixels.
    """
    *batch, height, width, _ = images.shape
    cut = images.reshape(*batch, height // CELL, CELL, width // CELL, CELL, 3)
    bright = np.greater(np.moveaxis(cut, -4, -3).reshape(*batch, -1, CELL, CELL, 3), 128)
    inside = bright.any(axis=-1)
    area, wide = inside.sum(axis=(-2, -1)), inside.any(axis=-2).sum(axis=-1)
    expected = np.where(wide[..., None] > 6, _AREAS[7], _AREAS[5])
    shapes = np.where(area > 0, abs(expected - area[..., None]).argmin(axis=-1), EMPTY)
    colours = bright.any(axis=(-3, -2)) @ np.array([1, 2, 4]) - 1
    return shapes, np.minimum(colours, len(COLOURS) - 1)
