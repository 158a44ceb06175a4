"""Many stacks at once: say what each pop takes off."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import DISTANCE, Batch, FixedLength, check_size

_FILLER, _PUSH, _POP, _FIRST_STACK = 0, 1, 2, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiStack(FixedLength):
    """Many stacks: pushes and pops, each on one of `num_stacks` stacks.

    With `length=18, num_stacks=2`; "+" pushes, "-" pops, s0 and s1 are stacks, e10 an element::

        + s0 e10 + s1 e7 + s0 e8 - s0 e8 - s1 e7 - s0 e10
                                   e8      e7      e10     <- targets

    A row is a list of operations of three tokens: push or pop, a stack, an element. Stacks are uniform. An empty stack
    is pushed to; others are pushed to or popped from equally often. Pushed elements are uniform. The popped element is
    predicted at its stack. If a row would otherwise have no pop, its last operation undoes the one before. Tokens
    beyond a multiple of three are filler at the end. The evidence is the element where it was pushed.

    The latest element of the stack is the answer unless a pop of that stack came last: recall alone goes far. With the
    published 64 stacks, each gets so few of 256 tokens that recall is right for 0.97 of the pops; with 2048 tokens, for
    0.75. Going back as many pushes as pops came last, which needs no stack, is right for 1.00 and 0.94 there, and for
    0.88 by default. Slices: `pops` of the stack since its last push (from 1 on, recall fails) and `depth` of the stack
    before this pop; the distance is the age of the element.

    References:
      Kimi Team 2025, "Kimi Linear", arXiv:2510.26692, section 5.1: 64 stacks, 256 to 2048 tokens. They say neither how
      operations are drawn nor how many elements there are; both are our own choice.
    """

    answers_follow: ClassVar[bool] = True
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "many stacks: say what each pop takes off"
    slice_labels: ClassVar[Mapping[str, str]] = DISTANCE | {
        "depth": "elements on the stack",
        "pops": "pops of the stack since its last push",
    }

    length: int = 256  # tokens per row
    num_stacks: int = 4  # published: 64
    num_elements: int = 64  # kinds

    def __post_init__(self) -> None:
        check_size("length", self.length, 6)
        check_size("num_stacks", self.num_stacks, 1)
        check_size("num_elements", self.num_elements, 2)

    @property
    @override
    def vocab_size(self) -> int:
        """Filler, two operations, stacks, elements."""
        return self.first_element + self.num_elements

    @property
    def first_element(self) -> int:
        """Stacks are 3..first_element - 1, elements the ids from there on."""
        return _FIRST_STACK + self.num_stacks

    @property
    def operations(self) -> int:
        """Operations in a row; half of them can be pops."""
        return self.length // 3

    @override
    def sample(self, rng: PRNGKeyArray, batch_size: int) -> Batch:
        """Draws operations, and runs them on stacks in which each element knows the one below."""
        stack_rng, coin_rng, element_rng = jax.random.split(rng, 3)
        shape, last, rows = (self.operations, batch_size), self.operations - 1, jnp.arange(batch_size)
        stacks = jax.random.randint(stack_rng, shape, 0, self.num_stacks, jnp.int32)
        coins = jax.random.bernoulli(coin_rng, jnp.float32(0.5), shape)
        elements = jax.random.randint(element_rng, shape[::-1], 0, self.num_elements, jnp.int32) + self.first_element

        def operate(carry: tuple[Array, ...], step: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
            tops, heights, runs, below, popped, before = carry  # elements are named by what pushed them
            at, stack, coin = step
            must_pop = (at == last) & ~popped
            stack = jnp.where(must_pop, before, stack)
            top, height, run = tops[rows, stack], heights[rows, stack], runs[rows, stack]
            pops = (height > 0) & (coin | must_pop)
            below = below.at[:, at].set(top)
            tops = tops.at[rows, stack].set(jnp.where(pops, below[rows, top], at))
            heights = heights.at[rows, stack].add(jnp.where(pops, -1, 1))
            runs = runs.at[rows, stack].set(jnp.where(pops, run + 1, 0))
            did = jnp.stack([stack, pops.astype(jnp.int32), top, height, run])
            return (tops, heights, runs, below, popped | pops, stack), did

        none = jnp.zeros((batch_size, self.num_stacks), jnp.int32)
        below, popped = jnp.zeros(shape[::-1], jnp.int32), jnp.zeros(batch_size, bool)
        start: tuple[Array, ...] = (none, none, none, below, popped, none[:, 0])
        steps: tuple[Array, ...] = (jnp.arange(self.operations, dtype=jnp.int32), stacks, coins)
        _, done = jax.lax.scan(operate, start, steps)
        stack, pops, pushed, depth, run = done.transpose(1, 2, 0)
        element = jnp.where(pops == 1, jnp.take_along_axis(elements, pushed, axis=1), elements)
        tokens = jnp.stack([jnp.where(pops == 1, _POP, _PUSH), _FIRST_STACK + stack, element], axis=2)
        inputs = tokens.reshape(batch_size, -1)

        # Pops come first in a stable sort.
        there = jnp.argsort(1 - pops, axis=1, stable=True)[:, : self.operations // 2].astype(jnp.int32)
        kept = (pops, pushed, depth, run, element)
        pops, pushed, depth, run, element = (jnp.take_along_axis(array, there, axis=1) for array in kept)
        asked, positions, source = pops == 1, 3 * there + 1, 3 * pushed + 2
        slices = {"distance": positions - source, "depth": depth, "pops": run}
        return Batch(
            inputs=jnp.pad(inputs, ((0, 0), (0, self.length - inputs.shape[1])), constant_values=_FILLER),
            targets=jnp.where(asked, element, 0),
            positions=jnp.where(asked, positions, 0),
            weights=asked.astype(jnp.float32),
            evidence=jnp.where(asked, source, -1)[..., None],
            slices={name: jnp.where(asked, value, 0) for name, value in slices.items()},
        )

    @override
    def solve(self, batch: Batch) -> Int[np.ndarray, "batch scored"]:
        """Keeps a list for each stack."""
        answers = np.zeros(np.shape(batch.positions), np.int32)
        for tokens, positions, answer in zip(batch.inputs, batch.positions, answers, strict=True):
            stacks: dict[int, list[int]] = {}
            popped = {0: 0}
            operations = np.asarray(tokens)[: 3 * self.operations].reshape(-1, 3).tolist()
            for place, (operation, stack, element) in enumerate(operations):
                if operation == _PUSH:
                    stacks.setdefault(stack, []).append(element)
                else:
                    popped[3 * place + 1] = stacks[stack].pop()
            answer[:] = [popped[position] for position in np.asarray(positions).tolist()]
        return answers

    @override
    def floors(self) -> dict[str, float]:
        """Guessing; the stack's latest push; that or else its first; and as many pushes back as pops came last."""
        return dict(_floors(self))

    @property
    @override
    def open_answers(self) -> int:
        """Elements are independent, and each is popped once: one that is unseen appears nowhere else before."""
        return self.num_elements

    @override
    def token_text(self, token: int) -> str:
        """Filler ".", "+" and "-", stacks "s0", elements "e9"."""
        if token < _FIRST_STACK:
            return ".+-"[token]
        return f"s{token - _FIRST_STACK}" if token < self.first_element else f"e{token - self.first_element}"

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Operations, each with its stack and element."""
        roles = {_PUSH: ("marker", "key", "value"), _POP: ("marker", "query", "answer")}
        tokens = np.asarray(batch.inputs[row]).tolist()
        every = [role for operation in tokens[: 3 * self.operations : 3] for role in roles[operation]]
        every += ["filler"] * (self.length - len(every))
        return [(self.token_text(token), role) for token, role in zip(tokens, every, strict=True)]


@functools.cache
def _floors(task: MultiStack) -> dict[str, float]:
    """Returns the floors, from what each further operation on one stack does: stacks are drawn independently.

    Of the t operations before a given one, a binomial number are on its stack. If no operation before the last pops,
    with d stacks in use, the last one pops what was pushed just before; without this rule, it would have popped an
    element pushed last with probability d / num_stacks / 2.
    """
    count, stacks = task.operations, task.num_stacks
    scores = _by_operation_of_a_stack(count, 1 / task.num_elements)
    total = np.zeros(4)  # pops, right by the latest, by latest or first, by the push as far back as pops
    for before in range(count):
        total += scipy.stats.binom.pmf(np.arange(before + 1), before, 1 / stacks) @ scores[: before + 1]
    used, unpopped = np.arange(count), np.eye(count)[0]  # law of the stacks in use if nothing has been popped
    for _ in range(count - 1):
        opened = unpopped * np.clip(stacks - used, 0, None) / stacks
        unpopped = unpopped * used / stacks / 2 + np.append(0, opened[:-1])
    total += unpopped @ (1 - used / stacks / 2)
    return {
        "guess an element": 1 / task.num_elements,
        "answer with the latest element of the stack": float(total[1] / total[0]),
        "answer with the latest element of the stack or, if that was popped, its first": float(total[2] / total[0]),
        "answer, after k pops in a row of the stack, with its (k + 1)-th latest element": float(total[3] / total[0]),
    }


def _by_operation_of_a_stack(count: int, chance: float) -> Float[np.ndarray, "count 4"]:
    """Returns, for each operation of one stack, how often it pops, and how often the three shortcuts are then right.

    Tracks the law of [first element gone or there, last operation a pop or a push, height]. As many pushes back as pops
    is right if c pushes in a row, then k < c pops came last. With c + k = m there are (m + 1) // 2 such pairs, each of
    probability 2^-m, including the pop that is asked for and excluding the first of the pushes, at which they begin.
    """
    law, scores = np.zeros((2, 2, count + 2)), np.zeros((count, 4))
    law[1, 1, 1] = 1.0  # after the first operation
    begins = np.eye(count)[0]  # a row of pushes
    for operation in range(1, count):
        high = law[..., 1:] / 2  # pops
        pushed, there = high[:, 1].sum(), high[1, 0, 0]
        popped = high[:, 0].sum()
        begins[operation] = law[:, 0, 0].sum() + popped
        scores[operation, :2] = pushed + popped, pushed + popped * chance
        scores[operation, 2] = pushed + there + (popped - there) * chance
        after = np.zeros_like(law)
        after[:, 1, 2:] = high[..., :-1].sum(axis=1)
        after[:, 1, 1] = law[..., 0].sum(axis=1)
        after[:, 0, :-1] = high.sum(axis=1)
        after[0, 0, 0], after[1, 0, 0] = after[:, 0, 0].sum(), 0.0  # an empty stack has lost its first element
        law = after
    so_far = np.arange(count)
    back = np.convolve(begins, (so_far + 1) // 2 * 0.5**so_far)[:count]
    scores[:, 3] = back + (scores[:, 0] - back) * chance
    return scores
