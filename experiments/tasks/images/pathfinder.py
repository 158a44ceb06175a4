"""Pathfinder: are two dots the ends of one dashed curve?"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, UInt8
from typing_extensions import override

from attention_variants.checks import check_integer
from experiments.tasks.base import DISTANCE, Batch, Task, check_size

_SPACING = 4  # pixels between crossings of the grid along which curves run
_LARGEST_SIDE = 256
_SIDES = ((0, 1), (2, 3), (0, 2), (1, 3))  # of the knot, between its corners: upper, lower, left, right
_FLOOR_ROWS = 8192  # to two digits


class _Curves(NamedTuple):
    """Curves on the grid without the sides of the knot; crossings are numbered in raster order."""

    edges: Bool[Array, "batch edges"]  # 2 i: from crossing i to the right; 2 i + 1: down
    corner: Int[Array, " batch"]  # the knot's upper left crossing
    ends: Int[Array, "batch 4"]  # where the arm from each of its corners ends
    steps: Int[Array, "batch 4"]  # of each arm


class _Walk(NamedTuple):
    """Curves while they grow."""

    heads: Int[Array, "walkers batch"]  # where each is
    steps: Int[Array, "walkers batch"]  # it has made
    taken: Bool[Array, "batch crossings"]  # by any of them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pathfinder(Task):
    """Pathfinder.

    With `side=16, num_distractors=0, arm_length=4`, ink "#" on a dark ground ".", dots "@"::

        .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .
        .  .  .  .  .  .  .  .  .  .  .  .  .  @  @  .
        .  .  .  .  .  #  #  #  #  .  #  .  .  @  @  .
        .  .  .  .  .  .  .  .  .  .  #  .  .  .  #  .
        .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .
        .  .  .  .  .  .  .  .  .  #  #  .  .  #  .  .
        .  .  .  .  .  .  .  .  .  .  .  #  .  #  .  .
        .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .
        .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .
        .  .  .  .  .  .  .  .  .  .  #  #  #  .  #  .
        .  .  .  .  .  .  .  .  .  .  #  .  .  .  #  .
        .  .  .  .  .  .  .  .  .  .  #  .  .  .  .  .
        .  .  .  .  .  .  .  .  .  #  .  .  .  #  .  .
        .  .  .  .  .  .  .  .  .  .  .  .  .  @  @  .
        .  .  #  #  .  #  #  .  #  #  .  .  .  @  @  .
        .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  CLS -> no

    A row is an image of side^2 grey levels, one token each, in raster order, and a token at which the answer is read:
    yes if the two bright dots are the ends of one dashed curve. Ids: `num_levels` levels, the question, no, yes. The
    ground is noise over the lowest third of the levels, ink is noise over a third near the top, and dots have the
    highest level.

    Curves run along the lines of a grid whose crossings are 4 pixels apart, each moved by up to 1 pixel to the right
    and down. They never share a crossing: pixels of different curves are at least 3 apart, those of one dash and the
    next are 2 apart. Four arms set out from the corners of a square of the grid, the knot, as random walks of
    arm_length / 2 to arm_length steps that avoid one another, and end earlier where the way is blocked;
    `num_distractors` further curves begin anywhere. Dots mark the ends of the arms from two neighbouring corners, and a
    fair coin decides whether the knot's upper and lower sides are drawn or its left and right ones: that alone decides
    which arms form one curve. What is outside the knot, the places of the dots and the amount of ink reveal nothing
    about the answer.

    The evidence is the whole image: any pixel may close or break a curve, so no bound is claimed for models that see
    only a part. The slice `steps` counts grid lines from dot to knot to dot. The published images have smoother curves;
    here every answer can be decided from the pixels.

    References:
      Linsley et al. 2018, "Learning long-range spatial dependencies with horizontal gated recurrent units",
      arXiv:1805.08932; Kim et al. 2020, "Disentangling neural mechanisms for perceptual grouping", arXiv:1906.01558;
      as a sequence, Tay et al. 2020, "Long Range Arena", arXiv:2011.04006.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "Pathfinder: are two dots the ends of one dashed curve?"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"steps": "steps along the curves of both dots"}
    every_change_counts: ClassVar[bool] = False

    side: int = 32  # pixels, of a square image
    num_levels: int = 8  # of grey
    num_distractors: int = 2  # curves without dots, in addition to the second one of the knot
    arm_length: int = 7  # steps of 4 pixels, at most

    def __post_init__(self) -> None:
        check_integer("side", self.side, 3 * _SPACING, _LARGEST_SIDE)
        if self.side % _SPACING:
            raise ValueError(f"`side` must be a multiple of {_SPACING}; got {self.side}.")
        check_integer("num_levels", self.num_levels, 3, 256)
        check_integer("num_distractors", self.num_distractors, 0, self._crossings)
        check_size("arm_length", self.arm_length, 1)

    @property
    def _crossings(self) -> int:
        """Along a side of the grid."""
        return self.side // _SPACING

    @property
    def _third(self) -> int:
        """Levels of the ground, and of ink."""
        return self.num_levels // 3

    @property
    @override
    def vocab_size(self) -> int:
        """Grey levels, the question, no and yes."""
        return self.num_levels + 3

    @property
    @override
    def input_length(self) -> int:
        """Pixels and the question."""
        return self.side**2 + 1

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        curve_rng, knot_rng, ink_rng, noise_rng = jax.random.split(rng, 4)
        curves = self._grow(curve_rng, batch_size)
        choice = jax.random.bits(knot_rng, (batch_size, 1), jnp.uint32).astype(jnp.int32) & 7
        asked, upright = choice & 3, choice >> 2  # which side's corners have the dots; which sides are drawn
        joined = (asked >> 1) == upright
        dotted = jnp.asarray(_SIDES)[asked[:, 0]]
        dots = jnp.take_along_axis(curves.ends, dotted, axis=1)

        ink = self._draw(ink_rng, self._tie(curves, upright))
        row, column = jnp.divmod(dots[..., None], self._crossings)
        y, x = jnp.divmod(jnp.arange(self.side**2, dtype=jnp.int32)[None, None], self.side)
        dot = (abs(2 * (y - _SPACING * row) - 3) <= 1) & (abs(2 * (x - _SPACING * column) - 3) <= 1)  # pixels 1 and 2
        noise = jax.random.bits(noise_rng, ink.shape, jnp.uint8).astype(jnp.int32) % self._third
        highest = self.num_levels - 1
        levels = jnp.where(dot.any(axis=1), highest, noise + jnp.where(ink, highest - self._third, 0))

        end = jnp.full((batch_size, 1), self.side**2, jnp.int32)
        pixels = jnp.arange(self.side**2, dtype=jnp.int32)[None, None]
        return Batch(
            inputs=jnp.concatenate([levels, jnp.full_like(end, self.num_levels)], axis=1),
            targets=self.num_levels + 1 + joined.astype(jnp.int32),
            positions=end,
            weights=jnp.ones((batch_size, 1), jnp.float32),
            evidence=jnp.broadcast_to(pixels, (batch_size, 1, self.side**2)),
            slices={
                "distance": jnp.ones_like(end),
                "steps": 1
                + jnp.take_along_axis(curves.steps, dotted, axis=1).sum(axis=1, keepdims=True, dtype=jnp.int32),
            },
        )

    def _grow(self, rng: PRNGKeyArray, batch_size: int) -> _Curves:
        """Walks the arms and the distractors, one step of each in turn, over crossings that none has visited."""
        size, walkers = self._crossings, 4 + self.num_distractors
        knot_rng, start_rng, length_rng, turn_rng = jax.random.split(rng, 4)
        row, column = (jax.random.bits(knot_rng, (2, batch_size), jnp.uint32) % (size - 1)).astype(jnp.int32)
        corner, rows = row * size + column, jnp.arange(batch_size)
        corners = corner[:, None] + jnp.array([[0, 1, size, size + 1]], jnp.int32)
        taken = jnp.zeros((batch_size, size**2), bool).at[rows[:, None], corners].set(True)
        lot = (jax.random.bits(start_rng, taken.shape, jnp.uint32) >> 1).astype(jnp.int32)
        starts = jax.lax.top_k(jnp.where(taken, -1, lot), self.num_distractors)[1].astype(jnp.int32)
        taken = taken.at[rows[:, None], starts].set(True)
        bits = jax.random.bits(length_rng, (walkers, batch_size), jnp.uint32)
        lengths = self.arm_length - (bits % (self.arm_length // 2 + 1)).astype(jnp.int32)
        turns = jax.random.bits(turn_rng, (self.arm_length * walkers, batch_size, 4), jnp.uint32)
        ways = jnp.array([1, size, -1, -size], jnp.int32)[None]

        def walk(carry: _Walk, step: tuple[Array, Array]) -> tuple[_Walk, Array]:
            heads, steps, taken = carry
            time, turn = step
            walker = time % walkers
            head = heads[walker]
            row, column = jnp.divmod(head, size)
            inside = jnp.stack([column < size - 1, row < size - 1, column > 0, row > 0], axis=1)
            to = jnp.where(inside, head[:, None] + ways, head[:, None])
            free = ~taken[rows[:, None], to]
            way = jnp.argmax(jnp.where(free, 1 + (turn >> 1).astype(jnp.int32), 0), axis=1)
            walks = free[rows, way] & (steps[walker] < lengths[walker])
            next_head = jnp.where(walks, to[rows, way], head)
            edge = jnp.where(walks, 2 * jnp.minimum(head, next_head) + way % 2, 2 * size**2)
            heads, steps = heads.at[walker].set(next_head), steps.at[walker].add(walks)
            return _Walk(heads, steps, taken.at[rows, next_head].set(True)), edge

        heads = jnp.concatenate([corners, starts], axis=1).T
        start = _Walk(heads, jnp.zeros_like(heads), taken)
        (heads, steps, _), walked = jax.lax.scan(walk, start, (jnp.arange(len(turns)), turns))
        edges = jnp.zeros((batch_size, 2 * size**2), bool).at[rows[:, None], walked.T].set(True, mode="drop")
        return _Curves(edges, corner, heads[:4].T, steps[:4].T)

    def _tie(self, curves: _Curves, upright: Int[Array, "batch 1"]) -> Bool[Array, "batch edges"]:
        """Returns the edges, with two opposite sides of the knot added."""
        across = jnp.where(upright, 1, self._crossings)  # from one of the sides to the other
        side = 2 * (curves.corner[:, None] + across * jnp.arange(2, dtype=jnp.int32)[None]) + upright
        return curves.edges.at[jnp.arange(len(side))[:, None], side].set(True)

    def _draw(self, rng: PRNGKeyArray, edges: Bool[Array, "batch edges"]) -> Bool[Array, "batch pixels"]:
        """Returns where there is ink: straight lines between moved crossings, each with one pixel left out."""
        batch_size, size = len(edges), self._crossings
        bits = jax.random.bits(rng, (batch_size, size**2, 2), jnp.uint32).astype(jnp.int32) & 0xFFFF
        grid = jnp.stack(jnp.divmod(jnp.arange(size**2, dtype=jnp.int32), size), axis=1)[None]
        places = 1 + _SPACING * grid + (bits & 1)  # row, column
        k = jnp.arange(_SPACING + 2, dtype=jnp.int32)[None, None]  # pixels along the longest line
        pixels = []
        for axis, to_next in enumerate((1, size)):
            line = jnp.roll(places, -to_next, axis=1) - places
            along, aside = 1 - axis, axis
            length, slant = jnp.maximum(line[..., along, None], 2), line[..., aside, None]
            gap = 1 + (bits[..., axis, None] >> 1) % (length - 1)
            there = {along: places[..., along, None] + k}
            there[aside] = places[..., aside, None] + (2 * k * slant + length) // (2 * length)  # rounded
            drawn = edges[:, axis::2, None] & (k <= length) & (k != gap)
            pixels.append(jnp.where(drawn, there[0] * self.side + there[1], self.side**2).reshape(batch_size, -1))
        ink = jnp.zeros((batch_size, self.side**2), bool)
        return ink.at[jnp.arange(batch_size)[:, None], jnp.concatenate(pixels, axis=1)].set(True, mode="drop")

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Floods from the first dot over ink at most two pixels away, row by row and column by column."""
        levels = np.asarray(batch.inputs)[:, :-1].reshape(-1, self.side, self.side)
        ink, dots = levels >= self.num_levels - 1 - self._third, levels == self.num_levels - 1
        flat = dots.reshape(len(dots), -1)
        wet = (flat & (flat.cumsum(axis=1) == 1)).reshape(dots.shape)
        before = -1
        while before != wet.sum():
            before, wide = wet.sum(), np.pad(wet, ((0, 0), (2, 2), (2, 2)))
            wide = np.any([wide[:, shift : shift + self.side] for shift in range(5)], axis=0)
            wet = ink & np.any([wide[:, :, shift : shift + self.side] for shift in range(5)], axis=0)
        joined = ~(dots & ~wet).any(axis=(1, 2))
        return self.num_levels + 1 + joined[:, None].astype(np.int32)

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, and what directions predict without following a curve, over a fixed large sample."""
        return {
            "guess yes or no": 0.5,
            "answer yes if most ink runs in the direction of the dots": _direction_floor(self),
        }

    @override
    def at_length(self, length: int) -> Self:
        """The smallest image that makes a row of at least `length` tokens."""
        pixels_wide = math.isqrt(max(length - 2, 0)) + 1
        side = max(3 * _SPACING, _SPACING * -(-pixels_wide // _SPACING))
        return dataclasses.replace(self, side=side, num_distractors=min(self.num_distractors, side // _SPACING))

    @override
    def token_text(self, token: int) -> str:
        """Levels are their numbers."""
        return {self.num_levels: "CLS", self.num_levels + 1: "no", self.num_levels + 2: "yes"}.get(token, str(token))

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Pixels, of which those of the dots are keys, and the question."""
        roles = {self.num_levels - 1: "key", self.num_levels: "query"}
        tokens = np.asarray(batch.inputs[row]).tolist()
        return [(self.token_text(token), roles.get(token, "value")) for token in tokens]

    @override
    def image(self, batch: Batch, row: int) -> UInt8[np.ndarray, "height width 3"]:
        levels = np.asarray(batch.inputs[row])[:-1].reshape(self.side, self.side, 1)
        return np.repeat(levels * 255 // (self.num_levels - 1), 3, axis=2).astype(np.uint8)


@functools.cache
def _direction_floor(task: Pathfinder) -> float:
    """Ink, and so a side of the knot, runs sideways if more of its pixels have a neighbour to the right than below."""
    batch = jax.tree.map(np.asarray, jax.jit(task.sample, static_argnums=1)(jax.random.key(0), _FLOOR_ROWS))
    levels = batch.inputs[:, :-1].reshape(-1, task.side, task.side)
    ink, dots = levels >= task.num_levels // 2, levels == task.num_levels - 1
    beside, below = (ink[:, :, 1:] & ink[:, :, :-1]).sum(axis=(1, 2)), (ink[:, 1:] & ink[:, :-1]).sum(axis=(1, 2))
    line = np.arange(1, task.side + 1)
    height, width = (_spread(dots.any(axis=axis) * line) for axis in (2, 1))
    guesses = task.num_levels + 1 + ((beside > below) == (width > height))
    return float((guesses == batch.targets[:, 0]).mean())


def _spread(places: Int[np.ndarray, "batch n"]) -> Int[np.ndarray, " batch"]:
    """Returns the highest minus the lowest of each row's places above 0."""
    return places.max(axis=1) - np.where(places > 0, places, places.max()).min(axis=1)
