"""What shortcuts answer about images, row by row in NumPy."""

import numpy as np

from experiments.tasks.base import Batch, Task
from experiments.tasks.images.shape_images import COLOURS, SHAPES
from tests.experiments.tasks.shortcuts import Guess, Unseen


def _as_the_dots_lie(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """Counts neighbouring pixels of ink pair by pair."""
    image = batch.inputs[row, :-1].reshape(task.side, task.side)
    y, x = np.nonzero(image == task.num_levels - 1)
    bright = {(int(i), int(j)) for i, j in zip(*np.nonzero(image >= task.num_levels // 2), strict=True)}
    below, beside = (sum((i + down, j + 1 - down) in bright for i, j in bright) for down in (1, 0))
    return np.array([task.num_levels + 1 + ((beside > below) == (np.ptp(x) > np.ptp(y)))])


def _one_of_the_shapes(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """Tells shapes by area and width, and those of a cell from noise by brightness."""
    image = task.image(batch, row)
    cells = image.reshape(task.grid_size, 8, task.grid_size, 8, 3).swapaxes(1, 2).reshape(-1, 8, 8, 3)
    inside = (cells > 150).any(axis=3)
    inside = inside[inside.any(axis=(1, 2))]
    fill = inside.sum(axis=(1, 2)) / inside.any(axis=1).sum(axis=1) ** 2
    wide = inside.any(axis=1).sum(axis=1) == 7
    kinds = np.where(wide, np.digitize(fill, (0.6, 0.7, 0.8)), np.digitize(fill, (0.4, 0.6, 0.9)))
    shapes = np.where(wide, np.array([2, 3, 1, 0])[kinds], np.array([3, 2, 1, 0])[kinds])
    return rng.choice(shapes, 1)


def _any_name(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    word = np.arange(task.input_length) % 2
    return np.where(word, 7 + rng.integers(0, 4, word.size), 1 + rng.integers(0, 6, word.size))


GUESSES: dict[tuple[str, str], Guess] = {
    ("pathfinder", "guess yes or no"): lambda task, batch, row, rng: task.num_levels + 1 + rng.integers(0, 2, 1),
    ("pathfinder", "answer yes if most ink runs in the direction of the dots"): _as_the_dots_lie,
    ("image_shapes", "guess a shape"): lambda task, batch, row, rng: rng.integers(0, 4, 1),
    ("image_shapes", "name any shape in the image"): _one_of_the_shapes,
    ("captioning", "guess a colour or a shape"): _any_name,
}

UNSEEN: dict[str, Unseen] = {
    "captioning": lambda task, batch, row, column: (
        1 + len(COLOURS) + np.arange(len(SHAPES)) if column % 2 else 1 + np.arange(len(COLOURS))
    ),
}
