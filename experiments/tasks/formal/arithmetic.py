"""Arithmetic modulo 5, without brackets (a regular language) and with them (a context-free one)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray
from typing_extensions import override

from experiments.tasks.base import Batch
from experiments.tasks.formal.string_task import Strings, StringTask, one_class, whole_string

_MODULUS = 5
_PLUS, _MINUS, _TIMES, _OPEN, _CLOSE = range(5, 10)
_DIGITS = np.arange(_MODULUS)
_SUMS, _DIFFERENCES, _PRODUCTS = (table.outer(_DIGITS, _DIGITS) for table in (np.add, np.subtract, np.multiply))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModularArithmetic(StringTask):
    """Modular arithmetic: the value of a sum of products, modulo 5.

    With `max_length=8`; "=" is the marker, "." a blank::

        1  +  2  x  3  -  4  =  .
                             3     <- target

    Digits are uniform over 0..4, operators over + - x; x binds tighter, the others apply from the left. A string has an
    odd length: an even one, if drawn, is rounded down. The evidence is every position of the string. What is unseen may
    not matter (3 x 0), so no bound is claimed for models that see only a part.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "modular arithmetic (simple)".
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "modular arithmetic: the value of digits joined by + - x, modulo 5"
    every_change_counts: ClassVar[bool] = False
    step: ClassVar[int] = 2
    commands: ClassVar[frozenset[str]] = frozenset("+-x")
    symbols = tuple("01234+-x")

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Draws digits and operators, and adds up signed products."""
        digit_rng, operator_rng = jax.random.split(rng)
        shape = (len(length), (self.max_length + 1) // 2)
        digits = jax.random.randint(digit_rng, shape, 0, _MODULUS, jnp.int32)
        operators = jax.random.randint(operator_rng, shape, _PLUS, _TIMES + 1, jnp.int32)
        symbols = jnp.stack([digits, operators], axis=2).reshape(len(length), -1)[:, : self.max_length]

        def add(carry: tuple[Array, Array], pair: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            total, product = carry  # of closed products; of the last one, with its sign
            operator, digit = pair
            times = operator == _TIMES
            total = jnp.where(times, total, total + product) % _MODULUS
            product = jnp.where(times, product * digit, jnp.where(operator == _MINUS, -digit, digit)) % _MODULUS
            return (total, product), (total + product) % _MODULUS

        start = (jnp.zeros_like(digits[:, 0]), digits[:, 0])
        _, values = jax.lax.scan(add, start, (operators.T[:-1], digits.T[1:]))
        values = jnp.concatenate([digits[:, :1], values.T], axis=1)
        answer = jnp.take_along_axis(values, length // 2, axis=1)[:, 0]
        return one_class(answer, whole_string(length, self.max_length), symbols)

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Splits into products first."""
        products, sign = [string[0]], [1]
        for operator, digit in zip(string[1::2], string[2::2], strict=True):
            if operator == _TIMES:
                products[-1] *= digit
            else:
                products.append(digit)
                sign.append(-1 if operator == _MINUS else 1)
        return [sum(s * product for s, product in zip(sign, products, strict=True)) % _MODULUS]

    @override
    def floors(self) -> dict[str, float]:
        """The likeliest answer, 0, and the first or last digit: from the law of (sum of products, last product)."""
        digit, last = np.full(_MODULUS, 1 / _MODULUS), np.arange(_MODULUS)
        law, lengths, total = np.outer(np.eye(_MODULUS)[0], digit), list(self.lengths()), np.zeros(_MODULUS)
        agreed, agreement = np.zeros(2), np.ones(2)  # of the first and the last digit; a digit alone is the answer
        for length in range(1, self.max_length + 1, 2):
            answer = _law_of(_SUMS, law)
            total += lengths.count(length) * answer
            agreed += lengths.count(length) * agreement
            # The last digit d is the answer of x + d if x = 0, of x - d if x = 2 d, and of s + p d if that is d. The
            # first one is the answer of d + x and d - x if x = 0, and of d p + s as often as the last one of s + p d.
            times = sum(law[(d - last * d) % _MODULUS, last].sum() / _MODULUS for d in range(_MODULUS))
            agreement = (answer[0] + np.array([answer[0], 1 / _MODULUS]) + times) / 3
            multiplied = np.stack([_law_of(_PRODUCTS, np.outer(product, digit)) for product in law])
            law = np.outer(answer, digit) * 2 / 3 + multiplied / 3  # -digit is as uniform as digit
        return {
            "answer 0, the likeliest value": float(total.max()) / len(lengths),
            "answer with the first digit": float(agreed[0]) / len(lengths),
            "answer with the last digit": float(agreed[1]) / len(lengths),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModularArithmeticBrackets(StringTask):
    """Modular arithmetic with brackets.

    With `max_length=12`; "=" is the marker, "." a blank::

        (  (  2  +  -  3  )  x  4  )  =  .  .
                                      1        <- target: (2 - 3) x 4, modulo 5

    An expression of length l = 1..4 is d, -d, (d) or (-d), where d is a digit. A longer one is (left operator right),
    where the length of left is uniform over 1..l - 4, right has the rest, and the operator is uniform over + - x.
    Digits are uniform over 0..4. The evidence is every position of the string. What is unseen may not matter (3 x 0),
    so no bound is claimed for models that see only a part.

    On device, a string is written from the left: each position holds either a symbol or the length of an expression
    still to be written from there on. Writing "(" puts the four parts of the expression in their places, which are
    known. Values are computed from the right.

    References:
      Deletang et al. 2023, arXiv:2207.02098: "modular arithmetic", whose published code defines the expressions.
    """

    version: ClassVar[int] = 1
    summary: ClassVar[str] = "modular arithmetic with brackets: the value of nested expressions, modulo 5"
    every_change_counts: ClassVar[bool] = False
    commands: ClassVar[frozenset[str]] = frozenset("+-x")
    symbols = tuple("01234+-x()")

    @override
    def draw(self, rng: PRNGKeyArray, length: Int[Array, "batch 1"]) -> Strings:
        """Writes expressions from the left and evaluates them from the right."""
        digit_rng, operator_rng, split_rng = jax.random.split(rng, 3)
        shape = (self.max_length, len(length))
        digits = jax.random.randint(digit_rng, shape, 0, _MODULUS, jnp.int32)
        operators = jax.random.randint(operator_rng, shape, _PLUS, _TIMES + 1, jnp.int32)
        splits = jax.random.uniform(split_rng, shape, jnp.float32)
        rows, outside = jnp.arange(len(length)), self.max_length

        def write(plan: Array, step: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
            """Symbols s are planned as -1 - s, expressions as their length."""
            at, digit, operator, split = step
            planned = plan[:, at]
            left = jnp.minimum(1 + (split * (planned - 4)).astype(jnp.int32), planned - 4)
            nested = planned >= 5
            short = (planned == 3) | (planned == 4)
            places_and_plans = (
                (jnp.where(planned >= 2, at + 1, outside), jnp.where(nested, left, jnp.where(short, planned - 2, 1))),
                (jnp.where(nested, at + 1 + left, outside), -1 - operator),
                (jnp.where(nested, at + 2 + left, outside), planned - left - 3),
                (jnp.where(planned >= 3, at + planned - 1, outside), jnp.full_like(planned, -1 - _CLOSE)),
            )
            for place, part in places_and_plans:
                plan = plan.at[rows, place].set(part, mode="drop")
            first = jnp.where(planned == 1, digit, jnp.where(planned == 2, _MINUS, _OPEN))
            return plan, (jnp.where(planned < 0, -1 - planned, first), jnp.where(nested, left, 0))

        plan = jnp.full((len(length), self.max_length), -1, jnp.int32).at[:, 0].set(length[:, 0])
        steps = jnp.arange(self.max_length, dtype=jnp.int32)
        _, (symbols, lefts) = jax.lax.scan(write, plan, (steps, digits, operators, splits))
        answer = _evaluate(symbols, lefts)
        return one_class(answer, whole_string(length, self.max_length), symbols.T)

    @override
    def solution(self, string: list[int]) -> list[int]:
        """Reads the string once, with a stack of open brackets."""
        stack: list[list[int]] = [[]]
        for symbol in string:
            if symbol == _OPEN:
                stack.append([])
            else:
                inner = _value(stack.pop()) if symbol == _CLOSE else symbol
                stack[-1].append(inner)
        return [_value(stack[0])]

    @override
    def floors(self) -> dict[str, float]:
        """The likeliest answer, 0, from the law of values by length; and the digit of expressions with only one."""
        laws = np.full((self.max_length + 1, _MODULUS), 1 / _MODULUS)
        for length in range(5, self.max_length + 1):
            pairs = laws[1 : length - 3].T @ laws[length - 4 : 0 : -1] / (length - 4)
            laws[length] = sum(_law_of(values, pairs) for values in (_SUMS, _DIFFERENCES, _PRODUCTS)) / 3
        zero = laws[list(self.lengths()), 0]
        alone = [{1: 1.0, 3: 1.0}.get(length, right) for length, right in zip(self.lengths(), zero, strict=True)]
        return {
            "answer 0, the likeliest value": float(zero.mean()),
            "answer with a lone digit, whatever its sign, else 0": float(np.mean(alone)),
        }

    @override
    def describe_row(self, batch: Batch, row: int) -> list[tuple[str, str]]:
        """Digits and operators; brackets and the signs of digits are the string's structure."""
        described = super().describe_row(batch, row)
        before = ["(", *(text for text, _ in described[:-1])]
        signs = (text == "-" and previous in "(+-x" for (text, _), previous in zip(described, before, strict=True))
        return [
            (text, "marker" if sign or text in "()" else role)
            for (text, role), sign in zip(described, signs, strict=True)
        ]


def _evaluate(symbols: Int[Array, "max_length batch"], lefts: Int[Array, "max_length batch"]) -> Int[Array, " batch"]:
    """Returns the value of the expression at position 0; `lefts` are lengths of left parts, or 0."""
    rows = jnp.arange(symbols.shape[1])

    def evaluate(values: Array, step: tuple[Array, Array, Array]) -> tuple[Array, None]:
        at, symbol, left = step
        inner = values[:, at + 1]
        operator = symbols[jnp.minimum(at + 1 + left, len(symbols) - 1), rows]
        right = values[rows, at + 2 + left]
        plus_or_minus = jnp.where(operator == _MINUS, inner - right, inner + right)
        joined = jnp.where(operator == _TIMES, inner * right, plus_or_minus)
        value = jnp.where(symbol == _MINUS, -inner, jnp.where(left > 0, joined, inner))
        value = jnp.where(symbol < _MODULUS, symbol, value) % _MODULUS
        return values.at[:, at].set(value), None

    values = jnp.zeros((symbols.shape[1], len(symbols) + 2), jnp.int32)
    values, _ = jax.lax.scan(evaluate, values, (jnp.arange(len(symbols)), symbols, lefts), reverse=True)
    return values[:, 0]


def _value(parts: list[int]) -> int:
    """Returns the value of one bracket's content; values and operators have different ranges."""
    sign, operator = 1, 0
    values: list[int] = []
    for part in parts:
        if part < _MODULUS:
            values, sign = [*values, sign * part], 1
        elif part == _MINUS and (operator or not values):
            sign = -1
        else:
            operator = part
    if len(values) == 1:
        return values[0] % _MODULUS
    left, right = values
    return {_PLUS: left + right, _MINUS: left - right, _TIMES: left * right}[operator or _PLUS] % _MODULUS


def _law_of(values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the law of a function of two numbers, modulo 5, from its values and their probabilities."""
    return np.bincount((values % _MODULUS).ravel(), probabilities.ravel(), _MODULUS)
