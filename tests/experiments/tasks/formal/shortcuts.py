"""What shortcuts answer on strings and trees, row by row in NumPy."""

import functools
import random
import statistics
from typing import NamedTuple

import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks.formal import state_shortcuts
from tests.experiments.tasks.position_shortcuts import PLACES
from tests.experiments.tasks.shortcuts import Guess, Unseen, fitted

FIRST = 2  # id of the first symbol of a string


def always(symbol: int) -> Guess:
    return lambda task, batch, row, rng: np.full(batch.targets.shape[1], FIRST + symbol)


def one_of(count: int) -> Guess:
    return lambda task, batch, row, rng: FIRST + rng.integers(0, count, batch.targets.shape[1])


def one_of_all(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    return one_of(task.num_symbols)(task, batch, row, rng)


def most_frequent(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    counts = np.bincount(batch.inputs[row], minlength=task.vocab_size)[FIRST:]
    counts = counts[: counts.size - (task.token_text(task.vocab_size - 1) == "_")]
    return np.full(batch.targets.shape[1], FIRST + counts.argmax())


def first_bracket(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    return np.full(batch.targets.shape[1], task.num_types + batch.inputs[row, 0])


def symbols(*open_answers: int) -> Unseen:
    return lambda task, batch, row, column: FIRST + np.array(open_answers)


def the_answer(task: Task, batch: Batch, row: int, column: int) -> np.ndarray:
    """Where no bound is claimed: the rest of the row may settle it."""
    return batch.targets[row, column : column + 1]


def neighbours(task: Task, batch: Batch, row: int, column: int) -> np.ndarray:
    missing_first_step = batch.targets[row, column] - FIRST - (batch.inputs[row, 0] - FIRST - 1)
    return FIRST + (missing_first_step + np.array([-1, 0, 1])) % 5


def same_root(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    root = batch.inputs[:, 0] == batch.inputs[row, 0]
    return np.full(1, np.bincount(batch.targets[root, 0]).argmax())


def levels_of_operators(levels: int) -> Guess:
    """The likeliest value of the root where operators below `levels` have 200 values each, drawn from their law."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        tokens = iter(batch.inputs[row].tolist())
        return np.full(1, 2 + np.bincount(value(next(tokens), tokens, levels, rng)).argmax())

    def value(token: int, tokens, left: int, rng: np.random.Generator) -> np.ndarray:
        if token < 12:
            return np.full(200, token - 2)
        children = []
        while (child := next(tokens)) != 16:
            children.append(value(child, tokens, left - 1, rng))
        if left <= 0:
            return rng.choice(listops_values()[token - 12], 200)
        return operate(token - 12, np.stack(children))

    return guess


def operate(operator: int, values: np.ndarray) -> np.ndarray:
    """MIN, MAX, MED, SM over the first axis."""
    medians = np.median(values, axis=0).astype(int)
    return (values.min(axis=0), values.max(axis=0), medians, values.sum(axis=0) % 10)[operator]


class Tree(NamedTuple):
    value: int
    length: int
    depth: int  # operators on the longest path
    operator: int = -1
    children: int = 0


def listops_tree(rng: random.Random, depth: int, operator: bool = False) -> Tree:
    """A tree by definition; `operator` forbids a digit."""
    if not operator and (depth >= 10 or rng.random() > 0.25):
        return Tree(rng.randrange(10), 1, 0)
    children = [listops_tree(rng, depth + 1) for _ in range(rng.randint(2, 10))]
    values, lengths, depths, *_ = zip(*children, strict=True)
    kind = rng.randrange(4)
    value = (min, max, lambda them: int(statistics.median(them)), lambda them: sum(them) % 10)[kind](values)
    return Tree(value, 2 + sum(lengths), 1 + max(depths), kind, len(children))


@functools.cache
def listops_values() -> list[np.ndarray]:
    """Values of operators by kind."""
    rng = random.Random(0)
    trees = [listops_tree(rng, 6, operator=True) for _ in range(20000)]
    return [np.array([tree.value for tree in trees if tree.operator == kind]) for kind in range(4)]


def all_symbols(task: Task, batch: Batch, row: int, column: int) -> np.ndarray:
    return FIRST + np.arange(task.num_symbols)


def symbol_at(place: int) -> Guess:
    """The symbol of the string at a place, from its end if negative."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        end = batch.inputs[row].tolist().index(1)
        return batch.inputs[row, [place % end]]

    return guess


def lone_digit(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    digits = [token for token in batch.inputs[row].tolist() if FIRST <= token < FIRST + 5]
    return np.array([digits[0] if len(digits) == 1 else FIRST])


def longer_number(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """Its digits up to the last 1, then the end."""
    text = "".join(task.token_text(token) for token in batch.inputs[row].tolist())
    one, other = text[: text.index("=")].split("+")
    digits = (other if len(other) > len(one) else one).rstrip("0")
    answers = np.zeros(batch.targets.shape[1], int)
    answers[: len(digits) + 1] = [*(FIRST + int(digit) for digit in digits), FIRST + 3]
    return answers


def numbers(task: Task, batch: Batch, row: int) -> list[int]:
    return [token for token in batch.inputs[row].tolist() if FIRST <= token < FIRST + task.modulus]


def two_operators(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    symbols = map(task.token_text, batch.inputs[row].tolist())

    def value() -> int:
        symbol = next(symbols)
        if symbol.isdigit():
            return int(symbol)
        one, other = value(), value()
        return {"+": one + other, "-": one - other, "x": one * other}[symbol]

    return np.array([FIRST + (value() % task.modulus if len(numbers(task, batch, row)) <= 3 else 0)])


GUESSES: dict[tuple[str, str], Guess] = {
    ("prefix_arithmetic", "answer 0, the likeliest value"): always(0),
    ("prefix_arithmetic", "answer with the first number"): lambda task, batch, row, rng: np.array(
        numbers(task, batch, row)[:1]
    ),
    ("prefix_arithmetic", "answer with the last number"): symbol_at(-1),
    ("prefix_arithmetic", "apply up to two operators, answer 0 to more"): two_operators,
    ("parity", "guess a bit"): one_of(2),
    ("parity", "answer with the first bit"): symbol_at(0),
    ("even_pairs", "guess a bit"): one_of(2),
    ("cycle_navigation", "answer with the likeliest place"): always(0),
    ("modular_arithmetic", "answer 0, the likeliest value"): always(0),
    ("modular_arithmetic", "answer with the first digit"): symbol_at(0),
    ("modular_arithmetic", "answer with the last digit"): symbol_at(-1),
    ("modular_arithmetic_brackets", "answer 0, the likeliest value"): always(0),
    ("modular_arithmetic_brackets", "answer with a lone digit, whatever its sign, else 0"): lone_digit,
    ("bucket_sort", "answer or copy by the length and the place alone"): fitted(PLACES["rank and position"]),
    ("missing_duplicate", "guess a bit"): one_of(2),
    ("missing_duplicate", "guess the row's most frequent bit"): most_frequent,
    ("stack_manipulation", "guess a bit"): one_of(2),
    ("stack_manipulation", "answer or copy by the length and the place alone"): fitted(PLACES["rank and position"]),
    ("binary_addition", "answer 1 everywhere"): always(1),
    ("binary_addition", "answer by the length and the place alone"): fitted(PLACES["rank and position"], copies=False),
    ("binary_addition", "answer with the number of more digits"): longer_number,
    ("dyck", "guess a bracket"): lambda task, batch, row, rng: (
        task.num_types + rng.integers(0, task.num_types, batch.targets.shape[1])
    ),
    ("dyck", "close the row's first bracket"): first_bracket,
    ("listops", "answer with the likeliest digit"): lambda task, batch, row, rng: np.full(
        1, np.bincount(batch.targets[:, 0]).argmax()
    ),
    ("listops", "read the root's operator"): same_root,
    ("listops", "read the root and its children"): levels_of_operators(1),
    ("listops", "read two levels of operators"): levels_of_operators(2),
    ("listops", "read three levels of operators"): levels_of_operators(3),
}
UNSEEN: dict[str, Unseen] = {
    "parity": symbols(0, 1),
    "even_pairs": symbols(0, 1),
    "cycle_navigation": neighbours,
    "modular_arithmetic": the_answer,
    "modular_arithmetic_brackets": the_answer,
    "bucket_sort": the_answer,
    "missing_duplicate": symbols(0, 1),
    "stack_manipulation": the_answer,
    "binary_addition": the_answer,
    "prefix_arithmetic": the_answer,
    "listops": the_answer,
    "dyck": lambda task, batch, row, column: task.num_types + np.arange(task.num_types),
}
for _name in ("reverse_string", "duplicate_string", "odds_first", "bucket_sort"):
    GUESSES[_name, "guess a symbol"] = one_of_all
    GUESSES[_name, "guess the string's most frequent symbol"] = most_frequent
    GUESSES[_name, "copy from a fixed position, whatever the length"] = fitted(PLACES["rank"], PLACES["position"])
    UNSEEN.setdefault(_name, all_symbols)
GUESSES |= state_shortcuts.GUESSES
UNSEEN |= state_shortcuts.UNSEEN
