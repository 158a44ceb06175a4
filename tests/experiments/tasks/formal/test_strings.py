"""Strings, expressions and brackets against generators that follow their definitions symbol by symbol."""

import itertools

import numpy as np
import pytest
from scipy import stats

from experiments.tasks.formal import machines
from experiments.tasks.formal.dyck import Dyck
from experiments.tasks.formal.machines import BinaryAddition
from experiments.tasks.registry import make_task
from tests.experiments.tasks.drawing import ROWS, same_distribution, sample

SHORTEST, LONGEST = 4, 13


def arithmetic(rng: np.random.Generator, length: int) -> list[str]:
    length -= length % 2 == 0
    return [str(rng.choice(list("+-x") if place % 2 else list("01234"))) for place in range(length)]


def brackets(rng: np.random.Generator, length: int) -> list[str]:
    digit = str(rng.integers(5))
    if length < 5:
        return list({1: digit, 2: "-" + digit, 3: f"({digit})", 4: f"(-{digit})"}[length])
    left = int(rng.integers(1, length - 3))
    return ["(", *brackets(rng, left), str(rng.choice(list("+-x"))), *brackets(rng, length - 3 - left), ")"]


def prefix(rng: np.random.Generator, length: int) -> list[str]:
    length -= length % 2 == 0
    if length == 1:
        return [str(rng.integers(23))]
    left = 1 + 2 * int(rng.integers(length // 2))
    return [str(rng.choice(list("+-x"))), *prefix(rng, left), *prefix(rng, length - 1 - left)]


def missing_duplicate(rng: np.random.Generator, length: int) -> list[str]:
    string = 2 * [str(bit) for bit in rng.integers(0, 2, length // 2)]
    string[rng.integers(len(string))] = "_"
    return string


def stack(rng: np.random.Generator, length: int) -> list[str]:
    size = rng.integers(1, length)
    operations = rng.choice(["POP", "PUSH0", "PUSH1"], length - size)
    return [*(str(bit) for bit in rng.integers(0, 2, size)), *(str(operation) for operation in operations)]


def addition(rng: np.random.Generator, length: int) -> list[str]:
    size = rng.integers(1, length - 1)
    sizes = (size, length - 1 - size)
    one, other = (f"{rng.integers(1, 2**size):b}".zfill(size)[::-1] for size in sizes)
    return [*one, "+", *other]


def uniform(kinds: int):
    return lambda rng, length: [str(symbol) for symbol in rng.integers(0, kinds, length)]


DEFINITIONS = {
    "parity": uniform(2),
    "even_pairs": uniform(2),
    "cycle_navigation": uniform(3),
    "modular_arithmetic": arithmetic,
    "modular_arithmetic_brackets": brackets,
    "reverse_string": uniform(2),
    "duplicate_string": uniform(2),
    "prefix_arithmetic": prefix,
    "missing_duplicate": missing_duplicate,
    "odds_first": uniform(2),
    "bucket_sort": uniform(5),
    "stack_manipulation": stack,
    "binary_addition": addition,
}


def statistics(strings: list[list[str]], symbols: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Integers that describe strings: lengths, symbols at places, neighbours, and how often symbols stand there."""
    number = {symbol: index for index, symbol in enumerate(symbols)}
    at = {place: np.array([number[string[place]] for string in strings]) for place in (0, 1, 2, -3, -2, -1)}
    counts = {symbol: np.array([min(5, string.count(symbol)) for string in strings]) for symbol in symbols}
    ends = {"both ends": at[0] * len(symbols) + at[-1], "next to both": at[1] * len(symbols) + at[-2]}
    return {"length": np.array([len(string) for string in strings]), **at, **counts, **ends}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_strings_are_drawn_as_defined(name: str):
    task = make_task(f"{name}:min_length={SHORTEST},max_length={LONGEST}")
    rows = sample(task).inputs.tolist()
    drawn = [[task.token_text(token) for token in row[: row.index(1)]] for row in rows]
    assert all(set(row[row.index(1) + 1 :]) <= {0} for row in rows)
    rng = np.random.default_rng(0)
    defined = [DEFINITIONS[name](rng, int(rng.integers(SHORTEST, LONGEST + 1))) for _ in range(ROWS)]
    ours, theirs = statistics(drawn, task.symbols), statistics(defined, task.symbols)
    for statistic, values in ours.items():
        if np.ptp([*values, *theirs[statistic]]) > 0:
            assert same_distribution(values, theirs[statistic]), statistic


@pytest.mark.parametrize("name, row, answer", [
    ("parity", "1 0 1 0 1 0", "1"),
    ("even_pairs", "0 0 1 1 1 0", "0"),
    ("cycle_navigation", "2 1 2 2 0 2 2", "4"),
    ("modular_arithmetic", "1 + 2 x 3 - 4", "3"),
    ("modular_arithmetic", "1 - 1 - 1", "4"),
    ("modular_arithmetic", "0 x 1 + 4 x 3 - 2", "0"),
    ("modular_arithmetic_brackets", "( ( 2 + - 3 ) x 4 )", "1"),
    ("modular_arithmetic_brackets", "( - 3 - ( - 4 ) )", "1"),
    ("prefix_arithmetic", "x 3 - 20 4", "2"),
    ("prefix_arithmetic", "- - 1 2 x 4 5", "2"),
    ("reverse_string", "0 1 1 1", "1 1 1 0"),
    ("duplicate_string", "0 1 1", "0 1 1 0 1 1"),
    ("missing_duplicate", "0 1 1 0 0 1 _ 0", "1"),
    ("missing_duplicate", "_ 1 0 1", "0"),
    ("odds_first", "0 0 1 1 1", "0 1 0 1 1"),
    ("bucket_sort", "4 0 2 0 4 1", "0 0 1 2 4 4"),
    ("stack_manipulation", "0 1 1 0 PUSH1 POP POP", "1 1 0 end"),
    ("stack_manipulation", "1 POP POP PUSH0 POP", "end"),
    ("binary_addition", "0 1 0 0 1 + 0 1 1", "0 0 0 1 1 end"),
    ("binary_addition", "1 0 + 1", "0 1 end"),
])  # fmt: skip
def test_answers_of_examples(name: str, row: str, answer: str):
    task = make_task(name)
    solved = task.solution([task.symbols.index(symbol) for symbol in row.split()])
    assert [task.symbols[symbol] for symbol in solved] == answer.split()


def test_added_numbers_are_positive_and_uniform():
    rows = sample(BinaryAddition(min_length=8, max_length=8)).inputs.tolist()
    pairs = ["".join(map(str, (token - 2 for token in row[:8]))).split("2") for row in rows]
    for size in range(1, 7):
        first = [int(one[::-1], 2) for one, other in pairs if len(one) == size]
        second = [int(other[::-1], 2) for one, other in pairs if len(other) == size]
        for numbers in (first, second):
            counts = np.bincount(numbers, minlength=2**size)
            assert counts[0] == 0 and abs(counts.sum() - ROWS / 6) < 4 * np.sqrt(ROWS / 6)
            assert size == 1 or stats.chisquare(counts[1:]).pvalue > 1e-4


@pytest.mark.parametrize("size, other", [(1, 1), (2, 1), (1, 3), (3, 3), (5, 2), (2, 6)])
def test_expected_of_sums_equals_enumeration(size: int, other: int):
    counts = []
    for one, another in itertools.product(range(1, 2**size), range(1, 2**other)):
        total, longer = one + another, one if size >= other else another
        shared = sum(a == b for a, b in zip(f"{total:b}"[::-1] + "=", f"{longer:b}"[::-1] + "=", strict=False))
        counts.append((total.bit_count(), total.bit_length(), shared))
    sums = machines._expected_of_sums(np.array([size]), np.array([other]))
    np.testing.assert_allclose(sums[:, 0], np.mean(counts, axis=0), rtol=1e-9)


@pytest.mark.parametrize("length", [3, 4, 5, 8])
def test_likeliest_symbols_of_sums_equal_enumeration(length: int):
    counts = np.zeros((length + 1, 3))
    for size in range(1, length - 1):
        pairs = list(itertools.product(range(1, 2**size), range(1, 2 ** (length - 1 - size))))
        for one, other in pairs:
            for place, symbol in enumerate(f"{one + other:b}"[::-1] + "2"):
                counts[place, int(symbol)] += 1 / len(pairs) / (length - 2)
    size = np.arange(1, length - 1)
    assert machines._likeliest(size, length - 1 - size) == pytest.approx(counts.max(axis=1).sum())


@pytest.mark.parametrize("spec, length", [("missing_duplicate", 11), ("modular_arithmetic", 8), ("even_pairs", 1)])
def test_a_length_that_strings_do_not_have_is_refused_in_one_line(spec: str, length: int):
    with pytest.raises(ValueError, match=f"`(min_)?length` must be .*; got {length}") as caught:
        make_task(spec).at_length(length)
    assert "\n" not in str(caught.value)
    at = make_task(spec).at_length(length + 1)
    assert (at.min_length, at.max_length, at.train_length) == (length + 1, length + 1, float(length + 1))


def test_copying_from_fixed_positions_is_a_shortcut_only_between_lengths():
    shortcut = "copy from a fixed position, whatever the length"
    task = make_task("reverse_string:min_length=4,max_length=4,num_symbols=3")
    assert shortcut not in task.floors()
    both = make_task("reverse_string:min_length=1,max_length=2,num_symbols=3").floors()[shortcut]
    assert both == pytest.approx(
        1.0
    )  # position 2 belongs to strings of length 1, positions 3 and 4 to those of length 2


def test_lengths_of_tests_compile_once_and_reach_500():
    task = make_task("parity:min_length=41,max_length=500")
    batch = sample(task)
    assert batch.inputs.shape == (ROWS, 501) and batch.slices["length"].min() == 41
    assert batch.slices["length"].max() == 500
    assert stats.chisquare(np.histogram(batch.slices["length"], bins=20, range=(41, 501))[0]).pvalue > 1e-4


def test_dyck_walks_as_defined():
    task = Dyck(length=17, num_types=3, max_depth=4)
    batch, rng = sample(task), np.random.default_rng(0)
    opens = np.ones((ROWS, 17), int)
    for row in opens:
        depth = 1
        for place in range(1, 17):
            row[place] = depth == 1 or (depth < 4 and rng.random() < 1 / 2)
            depth += 1 if row[place] else -1
            assert 1 <= depth <= 4
    drawn = batch.inputs < 3
    for place in range(1, 17):
        assert same_distribution(drawn[:, place] + 2 * drawn[:, place - 1], opens[:, place] + 2 * opens[:, place - 1])
    assert same_distribution(drawn.sum(axis=1), opens.sum(axis=1))
    kinds = np.where(drawn, batch.inputs, -1)
    for place in range(17):
        assert stats.chisquare(np.bincount(kinds[kinds[:, place] >= 0, place], minlength=3)).pvalue > 1e-4
    for tokens in batch.inputs[:200].tolist():  # brackets match
        stack = []
        for token in tokens:
            assert token < 3 or stack.pop() == token - 3
            stack += [token] if token < 3 else []
        assert stack
    assert (batch.weights.sum(axis=1) == (~drawn).sum(axis=1)).all()
