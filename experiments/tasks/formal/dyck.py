"""Dyck languages: predict the bracket that closes the innermost open one."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dyck(FixedLength):
    """Dyck language of `num_types` kinds of brackets, nested at most `max_depth` deep.

    With `length=10, num_types=2, max_depth=3`::

        (  (  [  ]  )  [  (  )  ]  [
                 )  )        ]  )     <- targets

    A row begins with a bracket that stays open to the row's end. From then on, a token opens a bracket with probability
    1/2 and otherwise closes the innermost one; where only the first is open, it always opens one, and at depth
    `max_depth` it always closes one. Kinds are uniform. At every closing bracket, the answer is the bracket that would
    close the innermost one still open, whatever comes next. The evidence is that open bracket. Kinds are independent:
    the others reveal nothing about one that is unseen. The slice `depth` counts the open brackets.

    References:
      Hewitt et al. 2020, "RNNs can generate bounded hierarchical languages with optimal memory", arXiv:2010.07515, for
      the depth-bounded language; Deletang et al. 2023, arXiv:2207.02098, for its place in the hierarchy.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "Dyck language: predict the bracket that closes the innermost open one"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {"depth": "nesting depth"}

    length: int = 64  # tokens per row
    num_types: int = 8  # kinds of brackets
    max_depth: int = 8

    def __post_init__(self) -> None:
        check_size("num_types", self.num_types, 2)
        check_size("max_depth", self.max_depth, 2)
        check_size("length", self.length, 3)
        if self.length <= self.max_depth:
            raise ValueError(f"`length` must be above `max_depth` {self.max_depth}; got {self.length}.")

    @property
    @override
    def vocab_size(self) -> int:
        """Opening brackets, then closing ones."""
        return 2 * self.num_types

    @property
    def most_closed(self) -> int:
        """The most closing brackets that a row can have: every other token after the first."""
        return (self.length - 1) // 2

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        """Draws rows, keeping the positions of the open brackets."""
        kind_rng, open_rng = jax.random.split(rng)
        shape = (self.length, batch_size)
        kinds = jax.random.randint(kind_rng, shape, 0, self.num_types, jnp.int32)
        coins = jax.random.bernoulli(open_rng, jnp.float32(0.5), shape)
        rows = jnp.arange(batch_size)

        def walk(carry: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            stack, depth = carry  # positions of open brackets; how many
            at, coin = step
            opens = (coin | (depth <= 1)) & (depth < self.max_depth)
            innermost = stack[rows, depth - 1]
            stack = stack.at[rows, jnp.where(opens, depth, self.max_depth)].set(at, mode="drop")
            depth += jnp.where(opens, 1, -1)
            outer = stack[rows, jnp.maximum(depth - 1, 0)]
            return (stack, depth), jnp.stack([opens.astype(jnp.int32), innermost, outer, depth])

        start = (jnp.zeros((batch_size, self.max_depth), jnp.int32), jnp.zeros(batch_size, jnp.int32))
        steps = (jnp.arange(self.length, dtype=jnp.int32), coins)
        _, walked = jax.lax.scan(walk, start, steps)
        opens, innermost, outer, depth = walked.transpose(1, 2, 0)
        kinds = kinds.T
        closing = self.num_types + jnp.take_along_axis(kinds, innermost, axis=1)

        # Closing brackets come first in a stable sort by whether a token opens.
        positions = jnp.argsort(opens, axis=1, stable=True)[:, : self.most_closed].astype(jnp.int32)
        opens_there, outer, depth = (jnp.take_along_axis(array, positions, axis=1) for array in (opens, outer, depth))
        asked = opens_there == 0
        targets = self.num_types + jnp.take_along_axis(kinds, outer, axis=1)
        return Batch(
            inputs=jnp.where(opens == 1, kinds, closing),
            targets=jnp.where(asked, targets, 0),
            positions=jnp.where(asked, positions, 0),
            weights=asked.astype(jnp.float32),
            evidence=jnp.where(asked, outer, -1)[..., None],
            slices={"distance": jnp.where(asked, positions - outer, 0), "depth": jnp.where(asked, depth, 0)},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Keeps a stack of kinds."""
        answers = np.zeros(np.shape(batch.positions), np.int32)
        inputs, positions = np.asarray(batch.inputs), np.asarray(batch.positions)
        for answer, tokens, asked in zip(answers, inputs, positions, strict=True):
            stack, closes = [], {}
            for position, token in enumerate(tokens.tolist()):
                if token < self.num_types:
                    stack.append(token)
                else:
                    stack.pop()
                closes[position] = self.num_types + stack[-1]
            answer[:] = [closes[position] for position in asked.tolist()]
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing, and closing the first bracket: right where only that one is open, otherwise by chance."""
        law = np.zeros(self.max_depth + 2)  # of the depth before a token
        law[1], closed, outermost = 1.0, 0.0, 0.0
        for _ in range(self.length - 1):
            opens = np.where(np.arange(len(law)) <= 1, 1.0, 0.5)
            opens[self.max_depth] = 0.0
            closing = law * (1 - opens)
            closed, outermost = closed + closing.sum(), outermost + closing[2]
            law = np.append(0, (law * opens)[:-1]) + np.append(closing[1:], 0)
        share = outermost / closed
        return {
            "guess a bracket": 1 / self.num_types,
            "close the row's first bracket": float(share + (1 - share) / self.num_types),
        }

    @property
    @override
    def open_answers(self) -> int:
        """All kinds are equally likely."""
        return self.num_types

    @override
    def token_text(self, token: int) -> str:
        """Brackets of four shapes, numbered where there are more kinds."""
        kind, closes = token % self.num_types, token >= self.num_types
        number = str(kind // 4) if self.num_types > 4 else ""
        bracket = "([{<"[kind % 4] if not closes else ")]}>"[kind % 4]
        return bracket + number if not closes else number + bracket

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Opening brackets are values, closing ones queries."""
        tokens = np.asarray(batch.inputs[row]).tolist()
        return [(self.token_text(token), "value" if token < self.num_types else "query") for token in tokens]
