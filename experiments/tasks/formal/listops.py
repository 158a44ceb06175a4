"""ListOps: the value of a nested list of operations on digits."""

import dataclasses
import functools
import statistics
from collections.abc import Mapping
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, Task, check_size
from experiments.tasks.formal import listops_floors

SYMBOLS = ("pad", "CLS", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]")
PAD, CLS, FIRST_DIGIT, FIRST_OPERATOR, CLOSE = 0, 1, 2, 12, 16
MIN, MAX, MED, SM = range(4)  # operators, counted from 0

_MAX_DEPTH = 10  # where every node is a digit
_CHILDREN = (2, 10)  # of an operator, fewest and most
_LONGEST = 4000  # trees are almost never longer
_RAREST = 1e-3  # the smallest share of trees to draw rows from: rarer ones take too long to come up
_FLOOR_ROWS = 4096  # to two digits
_DOUBLINGS = 4  # all paths end within 2^4 steps: trees are less deep


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListOps(Task):
    """ListOps.

    With `min_length=8, max_length=16`::

        [MAX 4  [MIN 2  9  ] 0  [SM 7  6  ] ] CLS  .  .  .
                                               4             <- target: max(4, min(2, 9), 0, (7 + 6) modulo 10)

    A node is an operator with probability 1/4, else a digit; at depth 10 it is a digit. Operators are uniform over
    minimum, maximum, median (rounded down between two) and sum modulo 10, and have 2 to 10 children, uniformly. A tree
    is kept if its length, counting each digit, operator and closing bracket, is strictly between `min_length` and
    `max_length`; the published bounds are 500 and 2000. The answer, a digit, is read at the CLS token after the
    expression, where a causal model can read it; the published benchmark reads in both directions
    (`model.bidirectional`). Ids: padding ".", CLS, ten digits, four operators, closing bracket.

    The evidence is the whole expression. What is unseen may not matter, so no bound is claimed for models that see only
    a part. The floors come from reading only the operators closest to the root.

    On device, trees are drawn breadth first: the number of children of each node, in that order, determines the tree,
    and its levels and length follow from a running sum. Trees of a suitable length are kept, and new ones are drawn
    until every row has one. The root is always an operator, because a single digit is never long enough.

    References:
      Nangia and Bowman 2018, "ListOps", arXiv:1804.06028; Tay et al. 2020, "Long Range Arena", arXiv:2011.04006, whose
      published generator defines the lengths.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "ListOps: the value of nested minima, maxima, medians and sums of digits"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "length": "length of the expression",
        "depth": "nesting depth",
    }
    every_change_counts: ClassVar[bool] = False

    min_length: int = 32  # both bounds are excluded
    max_length: int = 128

    def __post_init__(self) -> None:
        check_size("min_length", self.min_length, 3)
        check_size("max_length", self.max_length, 6)
        if not self.min_length + 1 < self.max_length:
            raise ValueError(
                f"`max_length` must be at least `min_length` + 2 = {self.min_length + 2}; got {self.max_length}."
            )
        if self.min_length > _LONGEST:
            raise ValueError(f"`min_length` must be at most {_LONGEST}, or no tree is found; got {self.min_length}.")
        kept = float(_length_law()[self.min_length + 1 : self.max_length].sum())
        if kept < _RAREST:
            raise ValueError(
                f"`min_length` and `max_length` must keep at least {_RAREST:g} of all trees; "
                f"({self.min_length}, {self.max_length}) keeps {kept:.1g}."
            )

    @property
    @override
    def vocab_size(self) -> int:
        """Padding, CLS and 15 symbols."""
        return len(SYMBOLS)

    @property
    @override
    def input_length(self) -> int:
        """The longest expression, and CLS."""
        return self.max_length

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        tree_rng, token_rng = jax.random.split(rng)
        children = self._draw_trees(tree_rng, batch_size)
        bits = jax.random.bits(token_rng, children.shape, jnp.uint32)
        node = jnp.where(children > 0, 10 + bits % 4, bits % 10).astype(jnp.int32)  # digit, or 10 + operator
        first_child, bounds = _levels(children)
        length = bounds[-1] + jnp.sum(children > 0, axis=1, dtype=jnp.int32)
        place = _places(children, first_child)

        column, rows = jnp.arange(self.max_length, dtype=jnp.int32)[None], jnp.arange(batch_size)[:, None]
        end = length[:, None]
        inputs = jnp.where(column < end, CLOSE, jnp.where(column == end, CLS, PAD)).astype(jnp.int32)
        there = jnp.where(column < bounds[-1][:, None], place, self.max_length)
        inputs = inputs.at[rows, there].set(FIRST_DIGIT + node, mode="drop")
        depth = jnp.sum(jnp.diff(bounds, axis=0) > 0, axis=0, dtype=jnp.int32)
        return Batch(
            inputs=inputs,
            targets=FIRST_DIGIT + _values(node, children, first_child)[:, None],
            positions=end,
            weights=jnp.ones((batch_size, 1), jnp.float32),
            evidence=jnp.where(column < end, column, -1)[:, None],
            slices={"distance": jnp.ones_like(end), "length": end, "depth": depth[:, None]},
        )

    def _draw_trees(self, rng: PRNGKeyArray, batch_size: int) -> Int[Array, "batch nodes"]:
        """Returns each node's number of children, breadth first; 0 after the last node."""
        column = jnp.arange(self.max_length, dtype=jnp.int32)[None]
        fewest, most = _CHILDREN

        def more(carry: tuple[Array, Array, Array]) -> Array:
            return carry[1] < batch_size

        def draw(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            step, found, trees = carry
            bits = jax.random.bits(jax.random.fold_in(rng, step), (4 * batch_size, self.max_length), jnp.uint32)
            count = (fewest + bits // 4 % (most - fewest + 1)).astype(jnp.int32)
            children = jnp.where((bits % 4 == 0) | (column == 0), count, 0)
            _, bounds = _levels(children)
            children = jnp.where(column < bounds[-2][:, None], children, 0)  # the last level is digits
            length = bounds[-1] + jnp.sum(children > 0, axis=1, dtype=jnp.int32)
            fits = (bounds[-1] <= self.max_length) & (length > self.min_length) & (length < self.max_length)
            row = jnp.where(fits, found + jnp.cumsum(fits, dtype=jnp.int32) - 1, batch_size)
            return step + 1, found + jnp.sum(fits, dtype=jnp.int32), trees.at[row].set(children, mode="drop")

        trees = jnp.zeros((batch_size, self.max_length), jnp.int32)
        return jax.lax.while_loop(more, draw, (jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), trees))[2]

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Reads each row once, with a stack of open lists."""
        operate = (min, max, lambda values: int(statistics.median(values)), lambda values: sum(values) % 10)
        answers = []
        for row, end in zip(np.asarray(batch.inputs).tolist(), np.asarray(batch.positions)[:, 0], strict=True):
            stack: list[list[int]] = [[]]
            for token in row[:end]:
                if token == CLOSE:
                    operator, *values = stack.pop()
                    stack[-1].append(operate[operator](values))
                elif token >= FIRST_OPERATOR:
                    stack.append([token - FIRST_OPERATOR])
                else:
                    stack[-1].append(token - FIRST_DIGIT)
            answers.append(stack[0])
        return np.array(answers) + FIRST_DIGIT

    @override
    def floors(self) -> dict[str, float]:
        """What the operators closest to the root predict, over a fixed large sample."""
        return dict(_floors(self))

    @override
    def at_length(self, length: int) -> Self:
        """Expressions up to another length, with the shortest scaled in proportion."""
        shortest = max(3, self.min_length * length // self.max_length)
        return dataclasses.replace(self, min_length=shortest, max_length=length)

    @override
    def token_text(self, token: int) -> str:
        """Symbols as they read, padding "."."""
        return SYMBOLS[token] if token else "."

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Operators are keys, digits values, closing brackets markers; then CLS and padding."""
        roles = {PAD: "filler", CLS: "query", CLOSE: "marker"}
        tokens = np.asarray(batch.inputs[row]).tolist()
        return [
            (self.token_text(token), roles.get(token, "value" if token < FIRST_OPERATOR else "key")) for token in tokens
        ]


@functools.cache
def _length_law() -> Float[np.ndarray, " lengths"]:
    """Returns the probability of each length of a tree whose root is an operator, below 2 _LONGEST; from the leaves."""
    digit = np.eye(1, 2 * _LONGEST, 1)[0]
    law, (fewest, most) = digit, _CHILDREN
    for _ in range(_MAX_DEPTH - 1):
        node = law if law is digit else 3 / 4 * digit + law / 4
        children, total = node, np.zeros_like(node)
        for _ in range(fewest, most + 1):
            children = scipy.signal.fftconvolve(children, node)[: len(node)]
            total += children / (most - fewest + 1)
        law = np.maximum(np.roll(total, 2), 0)  # the operator and its bracket; no length is that near to the end
    return law


@functools.cache
def _floors(task: ListOps) -> dict[str, float]:
    drawn = []
    for step in range(_FLOOR_ROWS // 256):
        batch = jax.tree.map(np.asarray, _sample(task, jax.random.key(step)))
        rows = zip(batch.inputs - FIRST_DIGIT, batch.positions[:, 0], strict=True)
        drawn += [
            (row[:end], target - FIRST_DIGIT) for (row, end), target in zip(rows, batch.targets[:, 0], strict=True)
        ]
    expressions, values = zip(*drawn, strict=True)
    return listops_floors.floors(expressions, np.array(values))


@functools.partial(jax.jit, static_argnums=0)
def _sample(task: ListOps, rng: PRNGKeyArray) -> Batch:
    return task.sample(rng, 256)


def _levels(children: Int[Array, "batch nodes"]) -> tuple[Int[Array, "batch nodes+1"], Int[Array, "levels batch"]]:
    """Returns where each node's children begin, breadth first, and where each level begins; the last bound is the end.

    Node i's children come after those of all before it: they begin at 1 + the number of those. A level begins where the
    children of the level before begin.
    """
    begins = 1 + jnp.pad(jnp.cumsum(children, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))
    bound = jnp.zeros(len(children), jnp.int32)
    bounds = [bound]
    for _ in range(_MAX_DEPTH):
        following = jnp.take_along_axis(begins, jnp.minimum(bound, children.shape[1])[:, None], axis=1)[:, 0]
        bound = jnp.where(bound > children.shape[1], bound, following)
        bounds.append(bound)
    return begins, jnp.stack(bounds)


def _places(children: Int[Array, "batch nodes"], first_child: Int[Array, "batch nodes+1"]) -> Int[Array, "batch nodes"]:
    """Returns where each node's symbol stands in prefix form.

    The descendants of node i at each level are those from where the children of ... of the children of i begin to where
    those of node i + 1 do: with W(i) the symbols of all nodes before i and S(i) = `first_child`, subtree i has
    G(i + 1) - G(i) symbols, where G(i) = W(i) + W(S(i)) + W(S(S(i))) + ... A node stands behind its parent and its
    elder siblings' subtrees. Both sums run over paths and double their steps each time.
    """
    rows, nodes = children.shape
    end = first_child[:, -1:]
    node = jnp.arange(nodes, dtype=jnp.int32)[None]
    symbols = jnp.where(node < end, 1 + (children > 0), 0)
    before = jnp.pad(jnp.cumsum(symbols, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))
    total = _sum_along_paths(before, first_child)

    operators = jnp.where(children > 0, first_child[:, :-1], nodes)
    parent = jnp.zeros((rows, nodes), jnp.int32)
    parent = parent.at[jnp.arange(rows)[:, None], operators].set(jnp.broadcast_to(node, (rows, nodes)), mode="drop")
    parent = jax.lax.cummax(parent, axis=1)
    eldest = jnp.take_along_axis(first_child, parent, axis=1)
    behind = 1 + total[:, :-1] - jnp.take_along_axis(total, eldest, axis=1)
    return _sum_along_paths(jnp.where(node == 0, 0, behind), parent)


def _sum_along_paths(values: Int[Array, "batch n"], following: Int[Array, "batch n"]) -> Int[Array, "batch n"]:
    """Returns v(i) + v(f(i)) + v(f(f(i))) + ... to 16 terms."""
    for _ in range(_DOUBLINGS):
        values = values + jnp.take_along_axis(values, following, axis=1)
        following = jnp.take_along_axis(following, following, axis=1)
    return values


def _values(
    node: Int[Array, "batch nodes"], children: Int[Array, "batch nodes"], first_child: Int[Array, "batch nodes+1"]
) -> Int[Array, " batch"]:
    """Returns the roots' values: operators are computed from the last to the first, after all their children."""
    rows, nodes = children.shape
    row, most = jnp.arange(rows), _CHILDREN[1]
    order = jnp.cumsum(children > 0, axis=1, dtype=jnp.int32)
    there = jnp.where(children > 0, order - 1, nodes)
    operators = jnp.full((rows, nodes), nodes, jnp.int32)
    places = jnp.broadcast_to(jnp.arange(nodes, dtype=jnp.int32)[None], (rows, nodes))
    operators = operators.at[row[:, None], there].set(places, mode="drop")
    last = jnp.max(order[:, -1]) - 1

    def compute(step: Array, values: Array) -> Array:
        at = operators[:, last - step]  # past the last node where a row has fewer operators
        kind, count, first = (array[row, jnp.minimum(at, nodes - 1)] for array in (node - 10, children, first_child))
        child = jnp.arange(most, dtype=jnp.int32)[None]
        operands = values[row[:, None], jnp.minimum(first[:, None] + child, nodes - 1)]
        return values.at[row, at].set(_operate(kind, operands, child < count[:, None]), mode="drop")

    return jax.lax.fori_loop(0, last + 1, compute, node)[:, 0]


def _operate(kind: Int[Array, " batch"], operands: Int[Array, "batch children"], inside: Array) -> Int[Array, " batch"]:
    """Applies operators. All but the sum are the mean of two order statistics, rounded down."""
    count = jnp.sum(inside, axis=1, dtype=jnp.int32)
    digits = jnp.arange(10, dtype=jnp.int32)[None, None]
    not_above = jnp.sum((operands[:, :, None] <= digits) & inside[:, :, None], axis=1, dtype=jnp.int32)
    low = jnp.where(kind == MIN, 0, jnp.where(kind == MAX, count - 1, (count - 1) // 2))
    high = jnp.where(kind == MIN, 0, jnp.where(kind == MAX, count - 1, count // 2))
    ranked = sum(jnp.sum(not_above <= rank[:, None], axis=1, dtype=jnp.int32) for rank in (low, high))
    return jnp.where(kind == SM, jnp.sum(operands, axis=1, dtype=jnp.int32, where=inside) % 10, ranked // 2)
