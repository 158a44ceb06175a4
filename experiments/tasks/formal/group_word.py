"""Group word: the product of the elements of a group so far, at every element."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size
from experiments.tasks.formal.groups import Group, make_group

_LAST = 4  # elements that a shortcut multiplies, as many as a short convolution sees


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupWord(FixedLength):
    """Group word, the word problem of a finite group: multiply the elements so far.

    With `group=S3, length=5`; an element is written as its image of 012, ">" begins the row::

        >   120 021 120 012 210
            120 102 021 021 120   <- targets

    A row is `length` elements of the group, uniform and independent. At each of them, the answer is the product of all
    elements up to it; a b is the map that applies b first. The first answer is the element itself. Groups are S, A and
    Z (symmetric, alternating, cyclic; Z2 is parity) with a number, or a product such as A4xZ5. Ids: elements in the
    order of their images of the points, the identity first, then ">" and the blank.

    With `most_moved=2`, the elements of rows move at most two points: in S5, the identity and the ten swaps; with 3,
    the rotations of three points as well. Answers are all elements that these generate. With `tokens=4`, three blanks
    follow each element, and its answer is read at the last of them: more steps for a model that takes one per token.

    The evidence is every element up to and including the one whose answer is read. If one is unseen, there are as many
    equally likely answers as elements to draw from. The slice `elements` counts those in the product. What papers plot,
    the share of rows whose first t answers are all right, is the row accuracy at length t (`eval.test_lengths`).

    References:
      Merrill et al. 2024, "The illusion of state in state-space models", arXiv:2404.08819, who draw rows of every
      length up to one and not only of the longest; Grazzi et al. 2025, arXiv:2411.12537, and Siems et al. 2025,
      "DeltaProduct", arXiv:2502.10297, for restricted elements and blanks.
    """

    version: ClassVar[int] = 1
    reads_its_evidence: ClassVar[bool] = True
    summary: ClassVar[str] = "group word: multiply the elements of a group so far"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"elements": "elements in the product"}

    length: int = 32  # elements per row
    group: str = "S3"  # S3, S4, A5, S5, Z60, A4xZ5 ...
    most_moved: int = 0  # points that an element of a row may move; 0: any number
    tokens: int = 1  # per element; all but the first are blanks

    def __post_init__(self) -> None:
        check_size("length", self.length, _LAST + 1)
        check_size("most_moved", self.most_moved, 0)
        check_size("tokens", self.tokens, 1)
        if len(self.allowed) < 2:
            raise ValueError(
                f"`most_moved` must leave more than the identity; in {self.group} the least is "
                f"{np.sort(self._group.moved)[1]}; got {self.most_moved}."
            )

    @property
    def _group(self) -> Group:
        return make_group(self.group)

    @property
    def allowed(self) -> Int[np.ndarray, " n"]:
        """The elements that rows are made of."""
        moved = self._group.moved
        return np.flatnonzero(moved <= (self.most_moved or moved.max())).astype(np.int32)

    @property
    @override
    def vocab_size(self) -> int:
        """The elements, the beginning, and a blank if there are any."""
        return len(self._group.table) + 1 + (self.tokens > 1)

    @property
    @override
    def input_length(self) -> int:
        """The beginning, and all tokens of the elements."""
        return 1 + self.length * self.tokens

    @property
    @override
    def train_length(self) -> float:
        return float(self.length)

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        table, allowed = jnp.asarray(self._group.table), jnp.asarray(self.allowed)
        elements = allowed[jax.random.randint(rng, (self.length, batch_size), 0, len(self.allowed), jnp.int32)]

        def multiply(product: Array, element: Array) -> tuple[Array, Array]:
            product = table[product, element]
            return product, product

        _, products = jax.lax.scan(multiply, jnp.zeros(batch_size, jnp.int32), elements)
        order, blank = len(self._group.table), len(self._group.table) + 1
        spaced = jnp.pad(elements.T[..., None], ((0, 0), (0, 0), (0, self.tokens - 1)), constant_values=blank)
        begin = jnp.full((batch_size, 1), order, jnp.int32)
        number = jnp.arange(self.length, dtype=jnp.int32)
        there, shape = 1 + self.tokens * number, (batch_size, self.length)
        evidence = jnp.where(number[None] <= number[:, None], there[None], -1)
        return Batch(
            inputs=jnp.concatenate([begin, spaced.reshape(batch_size, -1)], axis=1),
            targets=products.T,
            positions=jnp.broadcast_to(there + self.tokens - 1, shape),
            weights=jnp.ones(shape, jnp.float32),
            evidence=jnp.broadcast_to(evidence, (*shape, self.length)),
            slices={
                "distance": jnp.full(shape, self.tokens - 1, jnp.int32),
                "elements": jnp.broadcast_to(number + 1, shape),
            },
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Composes maps point by point, without the table."""
        images = self._group.images
        number = {tuple(image): element for element, image in enumerate(images.tolist())}
        answers = np.zeros(np.shape(batch.positions), np.int32)
        for row, tokens in enumerate(np.asarray(batch.inputs).tolist()):
            product = list(range(images.shape[1]))
            for column, element in enumerate(tokens[1 :: self.tokens]):
                product = [product[point] for point in images[element]]
                answers[row, column] = number[tuple(product)]
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing by place, multiplying the last elements only, and adding what no order of the others changes.

        The latter is the class in the largest commutative quotient: the sign in S3, S4 and S5, nothing in A5.
        """
        return dict(_floors(self))

    @property
    @override
    def open_answers(self) -> int:
        """An unseen element may be any of those that are drawn, and each leads to a different product."""
        return len(self.allowed)

    @override
    def token_text(self, token: int) -> str:
        """An element's images of the points, or its number if these are many; ">" and "." for beginning and blank."""
        group = self._group
        if token >= len(group.table):
            return ">."[token - len(group.table)]
        image = group.images[token].tolist()
        return "".join(str(point) for point in image) if len(image) < 11 else f"g{token}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """The beginning, elements, and blanks, at the last of which an answer is read."""
        blanks = ["filler"] * max(0, self.tokens - 2) + ["query"] * (self.tokens > 1)
        roles = ["marker", *["value", *blanks] * self.length]
        return [(self.token_text(int(token)), role) for token, role in zip(batch.inputs[row], roles, strict=True)]


@functools.cache
def _floors(task: GroupWord) -> dict[str, float]:
    """Returns the floors: the law of the product at every element follows from the one before."""
    laws, classes = _laws(task), task._group.classes
    likeliest, kinds = laws.max(axis=1), np.unique(classes)
    before = np.maximum(np.arange(1, task.length + 1) - _LAST, 0)
    floors = {
        "answer with the likeliest element at each place": float(likeliest[1:].mean()),
        f"multiply the last {_LAST} elements and the likeliest product before": float(likeliest[before].mean()),
    }
    if 1 < len(kinds) < len(classes):
        known = np.sum([laws[:, classes == kind].max(axis=1) for kind in kinds], axis=0)
        shortcut = f"multiply the last {_LAST} elements, and know of those before what does not depend on the order"
        floors[shortcut] = float(np.mean(known[before]))
    return floors


def _laws(task: GroupWord) -> Float[np.ndarray, "length+1 order"]:
    """Returns the law of the product of 0, 1 .. `length` elements."""
    table = task._group.table
    law = np.eye(len(table))[0]
    laws = [law]
    for _ in range(task.length):
        law = np.bincount(table[:, task.allowed].ravel(), np.repeat(law, len(task.allowed)), len(table))
        laws.append(law := law / len(task.allowed))
    return np.stack(laws)
