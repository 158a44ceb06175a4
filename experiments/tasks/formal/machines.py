"""Answers that end with an end symbol: the stack after a list of operations, and the sum of two binary numbers."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.formal.string_task import Strings, StringTask, whole_string

_PLUS, _END = 2, 3  # symbols of addition
_POP, _PUSH, _EMPTY = 2, 3, 5  # symbols of the stack; _PUSH + bit


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackManipulation(StringTask):
    """Stack manipulation: what is on the stack after a list of operations?

    With `max_length=7`; "=" is the marker, "." a blank, "end" the bottom of the stack::

        0  1  1  0  PUSH1  POP  POP  =  .  .  .  .  .  .  .  .
                                        1  1  0  end              <- targets, top first

    A string of n symbols holds s bits, the stack from the bottom up, with s uniform over 1..n - 1, then n - s
    operations, uniform over POP, PUSH0 and PUSH1. POP on an empty stack does nothing. Strings have at least two
    symbols. The evidence for each answer is every operation, because they decide where on the stack a symbol ends up,
    and the symbol itself. An unseen operation may have been undone later, so no bound is claimed for models that see
    only a part.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "stack manipulation"; the published code pads answers after the end, which
      is not scored there either.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "stack manipulation: write down the stack, top first, after a list of operations"
    every_change_counts: ClassVar[bool] = False
    shortest: ClassVar[int] = 2
    at_marker: ClassVar[bool] = False
    commands: ClassVar[frozenset[str]] = frozenset(("POP", "PUSH0", "PUSH1"))
    symbols = ("0", "1", "POP", "PUSH0", "PUSH1", "end")

    min_length: int = 2

    @property
    @override
    def answer_length(self) -> int:
        """A stack of every symbol, and its end."""
        return self.max_length + 1

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Draws a stack and operations, and runs the operations on a stack of symbol positions."""
        size_rng, bit_rng, operation_rng = jax.random.split(rng, 3)
        shape, rows = (len(length), self.max_length), jnp.arange(len(length))
        size = jax.random.randint(size_rng, length.shape, 1, length, jnp.int32)
        column = jnp.arange(self.max_length, dtype=jnp.int32)[None]
        operations = jax.random.randint(operation_rng, shape, _POP, _PUSH + 2, jnp.int32)
        symbols = jnp.where(column < size, jax.random.randint(bit_rng, shape, 0, 2, jnp.int32), operations)

        def operate(carry: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            stack, height = carry
            at, symbol = step
            inside, pops = at < length[:, 0], symbol == _POP
            stack = stack.at[rows, jnp.where(inside & ~pops, height, self.max_length)].set(at, mode="drop")
            return (stack, jnp.where(inside, jnp.maximum(height + jnp.where(pops, -1, 1), 0), height)), None

        start = (jnp.zeros(shape, jnp.int32), jnp.zeros(len(length), jnp.int32))
        (stack, height), _ = jax.lax.scan(operate, start, (column[0], symbols.T))
        place = height[:, None] - 1 - jnp.arange(self.answer_length, dtype=jnp.int32)[None]
        source = jnp.take_along_axis(stack, jnp.clip(place, 0, self.max_length - 1), axis=1)
        found = jnp.take_along_axis(symbols, source, axis=1)
        answer = jnp.where(place < 0, _EMPTY, jnp.where(found >= _PUSH, found - _PUSH, found))
        operation = jnp.where((column >= size) & (column < length), column, -1)[:, None]
        operation = jnp.broadcast_to(operation, (*answer.shape, self.max_length))
        bit = jnp.where((place >= 0) & (source < size), source, -1)[..., None]
        return Strings(symbols, answer, height[:, None] + 1, jnp.concatenate([operation, bit], axis=2))

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Runs the operations on a list."""
        stack: list[int] = []
        for symbol in string:
            if symbol != _POP:
                stack.append(symbol % _PUSH)
            elif stack:
                stack.pop()
        return [*stack[::-1], _EMPTY]

    @override
    def floors(self) -> dict[str, float]:
        """A bit everywhere, right half the time but never at the end; and the best table by length and place."""
        bits, right = _bits_and_right_by_place(self)
        return {
            "guess a bit": bits / (bits + 1) / 2,
            "answer or copy by the length and the place alone": right / (bits + 1),
        }


@functools.cache
def _bits_and_right_by_place(task: StackManipulation) -> tuple[float, float]:
    """Returns how many bits an answer has on average, and how many of its symbols the best table gets right.

    For each length and place, the table holds either a symbol, "end" or a bit, or a position to copy. "end" is right if
    the stack is as high as the place says, and a bit for half of the higher stacks. A copy is right where its symbol
    has not been popped and is at that place, and by chance where both are bits. Heights are random walks above 0; row q
    follows the walks in which position q belongs to the first stack.
    """
    most = task.max_length
    walks, unpopped = np.zeros((2, most, most + 1))  # [position, height], summed over the sizes of the first stack
    position, place = np.arange(most)[:, None], np.arange(most)[None]
    bits, right = {}, {}
    for length in range(2, most + 1):
        for heights in (walks, unpopped):
            heights[: length - 1, length - 1] += 1
            stays = heights[:, 0] / 3  # POP on an empty stack
            heights[:] = _shifted(heights, 1) * 2 / 3 + _shifted(heights, -1) / 3
            heights[:, 0] += stays
        unpopped[np.arange(most + 1)[None] <= position] = 0
        above = walks[:, ::-1].cumsum(axis=1)[:, -2::-1]  # higher than each place
        height = place + 1 + position  # at which position q stands at a place from the top
        there = np.where(height <= most, np.take_along_axis(unpopped, np.minimum(height, most), axis=1), 0)
        copied = ((above + there) / 2).max(axis=0)
        ended = walks[0]
        right[length] = (np.maximum(ended[:-1], copied).sum() + ended[-1]) / (length - 1)
        bits[length] = ended @ np.arange(most + 1) / (length - 1)
    lengths = list(task.lengths())
    return float(np.mean([bits[length] for length in lengths])), float(np.mean([right[length] for length in lengths]))


def _shifted(heights: Float[np.ndarray, "positions heights"], by: int) -> Float[np.ndarray, "positions heights"]:
    return np.pad(heights, ((0, 0), (1, 1)))[:, 1 - by : heights.shape[1] + 1 - by]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryAddition(StringTask):
    """Binary addition, lowest bit first.

    With `max_length=9`; "=" is the marker, "." a blank::

        1  0  0  1  +  0  1  1  =  .  .  .  .  .  .  .  .  .  .
                                   1  1  1  1  end                 <- targets: 9 + 6 = 15

    Numbers are written in little-endian notation. In a string of n symbols, the first number takes k bits, with k
    uniform over 1..n - 2, and the second the other n - 1 - k; a number of k bits is uniform over 1..2^k - 1, so it may
    end in zeros. The sum is written without such zeros, followed by "end". Strings have at least three symbols. The
    evidence for each answer is the whole string, because higher bits distinguish a zero from the end; an unseen bit
    changes few answers, so no bound is claimed for models that see only a part.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "binary addition"; the published code pads answers after the end, which is
      not scored there either.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "binary addition: the sum of two numbers, lowest bit first"
    every_change_counts: ClassVar[bool] = False
    shortest: ClassVar[int] = 3
    at_marker: ClassVar[bool] = False
    commands: ClassVar[frozenset[str]] = frozenset("+")
    symbols = ("0", "1", "+", "end")

    min_length: int = 3

    @property
    @override
    def answer_length(self) -> int:
        """One bit more than the longer number has, and the end."""
        return self.max_length

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Draws two numbers and adds them."""
        size_rng, bit_rng = jax.random.split(rng)
        size = jax.random.randint(size_rng, length.shape, 1, length - 1, jnp.int32)
        column = jnp.arange(self.max_length, dtype=jnp.int32)[None]
        uniform = jax.random.uniform(bit_rng, (len(length), self.max_length), jnp.float32)
        first = _positive(uniform, column, size)
        second = _positive(uniform, column - size - 1, length - size - 1)
        symbols = jnp.where(column < size, first, jnp.where(column == size, _PLUS, second))

        one = jnp.where(column < size, first, 0)
        there = jnp.minimum(size + 1 + column, self.max_length - 1)
        other = jnp.where(column < length - size - 1, jnp.take_along_axis(second, there, axis=1), 0)
        # A carry comes from the last lower place where both bits agree: two ones make one, two zeros do not.
        agree = jax.lax.cummax(jnp.where(one == other, column, -1), axis=1)
        below = jnp.pad(agree, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
        carry = jnp.where(below >= 0, jnp.take_along_axis(one, jnp.maximum(below, 0), axis=1), 0)
        total = one ^ other ^ carry
        count = 1 + jnp.max(jnp.where(total == 1, column + 1, 0), axis=1, keepdims=True)
        answer = jnp.where(column == count - 1, _END, total)
        return Strings(symbols, answer, count, whole_string(length, self.max_length, self.answer_length))

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Adds two integers."""
        plus = string.index(_PLUS)
        one, other = (
            sum(bit << place for place, bit in enumerate(part)) for part in (string[:plus], string[plus + 1 :])
        )
        return [*(int(bit) for bit in f"{one + other:b}"[::-1]), _END]

    @override
    def floors(self) -> dict[str, float]:
        """A 1 everywhere, the likeliest symbol for each length and place, and the longer number instead of the sum."""
        ones, bits, likeliest, longer = _expected_over_lengths(self)
        return {
            "answer 1 everywhere": ones / (bits + 1),
            "answer by the length and the place alone": likeliest / (bits + 1),
            "answer with the number of more digits": longer / (bits + 1),
        }


def _positive(
    uniform: Float[Array, "batch n"], place: Int[Array, "batch n"], size: Int[Array, "batch 1"]
) -> Int[Array, "batch n"]:
    """Returns bits at places 0..size - 1 of a number, uniform over all that have at least one of them set.

    A bit with none set before it, and with r of them left, is set with probability 2^(r - 1) / (2^r - 1); others with
    1/2.
    """
    inside = (place >= 0) & (place < size)
    chances = np.array([0, *(0.5 / (1 - 0.5**left) for left in range(1, uniform.shape[1] + 1))], np.float32)
    left = jnp.clip(size - place, 0, uniform.shape[1])
    first = inside & (uniform < jnp.asarray(chances)[left])
    begun = jnp.cumsum(first, axis=1) > first  # any before
    return jnp.where(begun, inside & (uniform < 0.5), first).astype(jnp.int32)


@functools.cache
def _expected_over_lengths(task: BinaryAddition) -> tuple[float, float, float, float]:
    """Returns a sum's mean ones and bits, and the mean symbols right by the likeliest ones and by the longer number."""
    totals = np.zeros(4)
    for length in task.lengths():
        size = np.arange(1, length - 1)
        ones, bits, longer = _expected_of_sums(size, length - 1 - size).mean(axis=1)
        totals += ones, bits, _likeliest(size, length - 1 - size), longer
    ones, bits, likeliest, longer = (totals / len(list(task.lengths()))).tolist()
    return ones, bits, likeliest, longer


def _likeliest(size: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]) -> float:
    """Returns how many symbols of a sum are right if each is the likeliest at its place, for equally likely sizes."""
    place, zero = np.arange(len(size) + 3)[None], np.zeros((len(size), 1))
    size, other = size[:, None].astype(float), other[:, None].astype(float)
    none, other_none = 0.5**size, 0.5**other
    one_is_zero = none * _below_and_ones(other, zero, place) + other_none * _below_and_ones(size, zero, place)
    both = _below_and_ones(size, other, place) - one_is_zero + none * other_none * _below_and_ones(zero, zero, place)
    below, ones = (both / ((1 - none) * (1 - other_none))).mean(axis=1)
    ends = np.diff(below, prepend=0)  # a sum of j bits is below 2^j and not below 2^(j - 1)
    return float(np.max([ends, ones, 1 - below - ones], axis=0).sum())


def _below_and_ones(
    size: Float[np.ndarray, "n 1"], other: Float[np.ndarray, "n 1"], place: Int[np.ndarray, "1 places"]
) -> Float[np.ndarray, "2 n places"]:
    """Returns the probabilities that a sum of numbers that may be 0 is below 2^j, and that it has a 1 at place j."""
    k, m = np.maximum(size, other), np.minimum(size, other)
    few = (np.exp2(np.minimum(2 * place - k - m, 0)) + np.exp2(np.minimum(place - k - m, 0))) / 2
    many = np.exp2(np.minimum(place - k, 0)) - (np.exp2(m - k) - np.exp2(-k)) / 2
    below = np.where(place > k, 1.0, np.where(place <= m, few, many))
    return np.stack([below, np.where(place < k, 0.5, np.where(place == k, 1 - below, 0.0))])


def _expected_of_sums(size: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]) -> Float[np.ndarray, "3 n"]:
    """Returns what the sum of two positive numbers of these sizes has on average: ones, bits, and symbols in common.

    The symbols in common are those that the number with more digits, or the first of two equally long ones, has at the
    same place.
    """
    zero, none, other_none = np.zeros_like(size), 0.5**size, 0.5**other
    both = _of_any_numbers(size, other) - none * _of_any_numbers(other, zero) - other_none * _of_any_numbers(size, zero)
    long, short = np.maximum(size, other), np.minimum(size, other)
    right = _copied(long, short) - 0.5**short * long  # all symbols are right where the other number is 0
    return np.vstack([both, right]) / ((1 - none) * (1 - other_none))


def _of_any_numbers(size: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]) -> Float[np.ndarray, "2 n"]:
    """Returns ones and bits of a sum of numbers that may be 0, of k and m <= k bits; q = 2^-k, r = 2^(m - k)."""
    k, m = np.maximum(size, other).astype(float), np.minimum(size, other).astype(float)
    q, r, gap = 0.5**k, 0.5 ** (k - m), k - m
    ones = k / 2 + (1 - 0.5**m) / 2 * r  # each of k bits is uniform; a carry has to pass all ones above m
    # The length is the sum over i = 0..k of 1 - P(sum < 2^i), where that counts pairs: first i <= m, then those above.
    low = ((4 * r - q * 0.5**m) / 3 + 2 * q - q * 0.5**m) / 2
    high = 2 - 2 * r - gap * (r - q) / 2
    return np.stack([ones, k + 1 - low - high])


def _copied(long: Int[np.ndarray, " n"], short: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns how many symbols a positive number of k bits shares with its sum with another of m <= k, or with 0.

    It has a bit at place j with probability 1 - 2^(j - k). The sum has the same bit there with probability 1/2 if
    j < m, and 1 - (2^m - 1) / 2^(j + 1), that of no carry, if j >= m. The number ends at place j > 0 if it is one of
    2^(j - 1) numbers; of their 2^(j - 1 + m) pairs with the other number, 2^(j - 2) (2^(j - 1) + 1) have a sum that
    ends there as well if j <= m, and all but 2^(m - 1) (2^m - 1) if j > m. This is the sum over all places.
    """
    k, m = long.astype(float), short.astype(float)
    q, r, s = 0.5**k, 0.5 ** (k - m), 0.5**m
    return (m - r + q) / 2 + k - m - (1 - s) * (1 - r) + ((r - q * s) / 3 + q - q * s) / 2
