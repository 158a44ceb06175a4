"""Prefix arithmetic: the value of an expression in prefix notation, without intermediate steps."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import check_size
from experiments.tasks.formal.string_task import Strings, StringTask, one_class, whole_string

_OPERATORS = "+-x"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixArithmetic(StringTask):
    """Prefix arithmetic (Mano): the value of a nested expression, modulo 23.

    With `max_length=7`; "=" is the marker, "." a blank::

        x  3  -  20 4  =  .  .
                       2        <- target: 3 x (20 - 4), modulo 23

    An expression of l operators is a number if l is 0, or else an operator, a left part of k operators, with k uniform
    over 0..l - 1 (our assumption), and a right part of the others. Operators are uniform over + - x, numbers over
    0..`modulus` - 1. An expression has 2 l + 1 symbols: an even `max_length` of 2 L + 2 makes l uniform over 1..L, an
    odd one makes the largest l half as likely. The published test has l = L only (`eval.test_lengths`). A model must
    learn the tables of three operations, which no row shows, and to apply them inside out in one pass.

    The evidence is every position of the string. What is unseen may not matter (3 x 0), so no bound is claimed for
    models that see only a part.

    References:
      Allen-Zhu 2025, "Physics of language models: Part 4.1", SSRN 5240330, task Mano: L is 10, 13 or 16 there.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "prefix arithmetic: the value of operators written before their arguments, modulo 23"
    every_change_counts: ClassVar[bool] = False
    shortest: ClassVar[int] = 3
    step: ClassVar[int] = 2
    commands: ClassVar[frozenset[str]] = frozenset(_OPERATORS)

    min_length: int = 3  # symbols in a string
    max_length: int = 22
    modulus: int = 23

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("modulus", self.modulus, 2)

    @property
    @override
    def symbols(self) -> tuple[str, ...]:
        """Numbers, then operators."""
        return (*map(str, range(self.modulus)), *_OPERATORS)

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Writes from the left, planning where each part begins, with how many operators; evaluates from the right."""
        number_rng, operator_rng, split_rng = jax.random.split(rng, 3)
        shape, rows = (self.max_length, len(length)), jnp.arange(len(length))
        numbers = jax.random.randint(number_rng, shape, 0, self.modulus, jnp.int32)
        operators = jax.random.randint(operator_rng, shape, self.modulus, self.modulus + 3, jnp.int32)
        splits = jax.random.uniform(split_rng, shape, jnp.float32)

        def write(plan: Array, step: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            at, number, operator, split = step
            planned = plan[:, at]
            left = jnp.minimum((split * planned).astype(jnp.int32), planned - 1)
            applies, right = planned > 0, at + 2 + 2 * left
            plan = plan.at[rows, jnp.where(applies, at + 1, self.max_length)].set(left, mode="drop")
            plan = plan.at[rows, jnp.where(applies, right, self.max_length)].set(planned - 1 - left, mode="drop")
            return plan, (jnp.where(applies, operator, number), jnp.where(applies, right, at))

        def evaluate(values: Array, step: tuple[Array, ...]) -> tuple[Array, None]:
            at, symbol, right = step
            one, other = values[:, at + 1], values[rows, right]
            kinds = jnp.stack([one + other, one - other, one * other]) % self.modulus
            value = kinds[jnp.clip(symbol - self.modulus, 0, 2), rows]
            return values.at[:, at].set(jnp.where(symbol < self.modulus, symbol, value)), None

        places = jnp.arange(self.max_length, dtype=jnp.int32)
        plan = jnp.zeros(shape[::-1], jnp.int32).at[:, 0].set(length[:, 0] // 2)
        _, (symbols, rights) = jax.lax.scan(write, plan, (places, numbers, operators, splits))
        values = jnp.zeros((len(length), self.max_length + 1), jnp.int32)
        values, _ = jax.lax.scan(evaluate, values, (places, symbols, rights), reverse=True)
        return one_class(values[:, 0], whole_string(length, self.max_length), symbols.T)

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Reads from the left and waits for both parts of every operator."""
        waiting: list[list[int]] = []  # operators, each with the value of its left part once that is known
        value = 0
        for symbol in string:
            if symbol >= self.modulus:
                waiting.append([symbol - self.modulus])
                continue
            value = symbol
            while waiting and len(waiting[-1]) == 2:
                operator, left = waiting.pop()
                value = (left + value, left - value, left * value)[operator] % self.modulus
            if waiting:
                waiting[-1].append(value)
        return [value]

    @override
    def floors(self) -> dict[str, float]:
        """The likeliest answer, 0; the first or last number; and 0 except where one or two operators are applied."""
        zero, first, last = _right_by_operators(self.modulus, (self.max_length - 1) // 2)
        operators = np.array(list(self.lengths())) // 2
        return {
            "answer 0, the likeliest value": float(zero[operators].mean()),
            "answer with the first number": float(first[operators].mean()),
            "answer with the last number": float(last[operators].mean()),
            "apply up to two operators, answer 0 to more": float(np.where(operators <= 2, 1.0, zero[operators]).mean()),
        }


@functools.cache
def _right_by_operators(modulus: int, most: int) -> Float[np.ndarray, "3 most+1"]:
    """Returns how often 0, the first and the last number equal the value, by the number of operators.

    They follow from the laws of the value, and of the value given the first or the last number [number, value], which
    is the first of the left or the last of the right part.
    """
    one, other = np.arange(modulus)[:, None], np.arange(modulus)[None]
    makes = sum(np.eye(modulus)[value % modulus] for value in (one + other, one - other, one * other)) / 3
    laws, firsts, lasts = [np.full(modulus, 1 / modulus)], [np.eye(modulus)], [np.eye(modulus)]
    by_left, by_right = [], []  # of each number of operators in one part: [other part, value]
    for operators in range(1, most + 1):
        by_left.append(np.einsum("a,abv->bv", laws[-1], makes))
        by_right.append(np.einsum("b,abv->av", laws[-1], makes))
        parts = [(left, operators - 1 - left) for left in range(operators)]
        laws.append(np.mean([laws[right] @ by_left[left] for left, right in parts], axis=0))
        lasts.append(np.mean([lasts[right] @ by_left[left] for left, right in parts], axis=0))
        firsts.append(np.mean([firsts[left] @ by_right[right] for left, right in parts], axis=0))
    agreements = [[np.trace(law) / modulus for law in given] for given in (firsts, lasts)]
    return np.array([[law[0] for law in laws], *agreements])
