"""What shortcuts answer in tasks whose rows must be joined, matched or counted to recall from, row by row in NumPy."""

import functools
from collections.abc import Callable

import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks.position_shortcuts import PLACES
from tests.experiments.tasks.shortcuts import Guess, Unseen, fitted, token_from

GUESSES: dict[tuple[str, str], Guess] = {}
UNSEEN: dict[str, Unseen] = {}


def _from_table(choose: Callable[[dict[tuple[int, int], int], set[tuple[int, int]], int, int], list[int]]) -> Guess:
    """Joint recall: any of the values chosen of (table, cells that are given already, context, key)."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        table: dict[tuple[int, int], int] = {}
        given, guesses, context = set(), [], 0
        for position, token in enumerate(batch.inputs[row].tolist()):
            if 3 <= token < task.first_key:
                context = token
            elif task.first_key <= token < task.first_value:
                if position in batch.positions[row]:
                    guesses.append(rng.choice(choose(table, given, context, token)))
                    given.add((context, token))
                else:
                    table[context, token] = int(batch.inputs[row, position + 1])
        return np.array(guesses)

    return guess


def commonest(values: list[int]) -> list[int]:
    return [int(np.bincount(values).argmax())]


GUESSES["joint_recall", "guess a value"] = lambda task, batch, row, rng: rng.integers(
    task.first_value, task.vocab_size, batch.targets.shape[1]
)
GUESSES["joint_recall", "answer with the key's latest value"] = _from_table(
    lambda table, given, context, key: [value for cell, value in table.items() if cell[1] == key][-1:]
)
GUESSES["joint_recall", "answer with the key's commonest value that is not given yet"] = _from_table(
    lambda table, given, context, key: commonest(
        [value for cell, value in table.items() if cell[1] == key and cell not in given]
    )
)
GUESSES["joint_recall", "answer with the context's commonest value that is not given yet"] = _from_table(
    lambda table, given, context, key: commonest(
        [value for cell, value in table.items() if cell[0] == context and cell not in given]
    )
)
UNSEEN["joint_recall"] = lambda task, batch, row, column: np.arange(task.first_value, task.vocab_size)


def _string_and_key(task: Task, inputs: np.ndarray) -> tuple[list[int], list[int]]:
    """Of n-gram lookup."""
    parts: list[list[int]] = [[]]
    for token in inputs.tolist():
        parts = [*parts, []] if token == 0 else [*parts[:-1], [*parts[-1], token]]
    string, key = (parts[0], parts[1]) if task.key == "suffix" else (parts[1], parts[0])
    return string, key[: task.size]


def _follower(matched: Callable[[Task], int]) -> Guess:
    """What most often follows the last few tokens, of the key and of the answer so far; by chance among several."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        string, key = _string_and_key(task, batch.inputs[row])
        read, answers = [*key, *batch.targets[row].tolist()], []
        for column in range(task.answer_length):
            end = task.size + column
            last = read[end - matched(task) : end]
            after = [string[c] for c in range(len(last), len(string)) if string[c - len(last) : c] == last]
            most = max(map(after.count, after))
            answers.append(rng.choice([token for token in set(after) if after.count(token) == most]))
        return np.array(answers)

    return guess


def _tokens_that_leave_the_key_once(task: Task, batch: Batch, row: int, column: int) -> list[int]:
    string, key = _string_and_key(task, batch.inputs[row])
    place, found = batch.evidence[row, column, 0] - task.string_start, []
    for token in range(1, task.vocab_size):
        other = [*string[:place], token, *string[place + 1 :]]
        if sum(other[c : c + len(key)] == key for c in range(len(other))) == 1:
            found.append(token)
    return found


GUESSES["ngram_lookup", "guess the string's most frequent token"] = _follower(lambda task: 0)
GUESSES["ngram_lookup", "match one token less, and answer with what most often follows"] = _follower(
    lambda task: task.size - 1
)
UNSEEN["ngram_lookup"] = _tokens_that_leave_the_key_once


def _from_assignments(choose: Callable[[Task, list[int]], list[int]]) -> Guess:
    """N-back recall: any of the values chosen of those of the key."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        end = 2 * task.num_assignments
        stated = batch.inputs[row, :end].reshape(-1, 2).tolist()
        asked = batch.inputs[row, end + 1 :].tolist()
        return np.array([rng.choice(choose(task, [v for key, v in stated if key == k])) for k in asked])

    return guess


GUESSES["mqar_nback", "guess a value"] = lambda task, batch, row, rng: rng.integers(
    task.first_value, task.vocab_size, batch.targets.shape[1]
)
GUESSES["mqar_nback", "answer with the value of one assignment"] = fitted(PLACES["rank"])
GUESSES["mqar_nback", "answer with the context's commonest value"] = lambda task, batch, row, rng: np.full(
    batch.targets.shape[1], rng.choice(commonest(batch.inputs[row, 1 : 2 * task.num_assignments : 2].tolist()))
)
GUESSES["mqar_nback", "answer with the key's commonest value"] = _from_assignments(
    lambda task, values: commonest(values)
)
GUESSES["mqar_nback", "answer with the commonest of the key's last n values"] = _from_assignments(
    lambda task, values: commonest(values[-task.nback :])
)
UNSEEN["mqar_nback"] = lambda task, batch, row, column: np.arange(task.first_value, task.vocab_size)


def _two_sets(batch: Batch, row: int) -> list[list[int]]:
    tokens = batch.inputs[row].tolist()
    first = tokens.index(1)
    end = min(place for place, token in enumerate(tokens) if token in (1, 2) and place > first)
    return [tokens[:first], tokens[first + 1 : end]]


def _not_seen_in_a_set(task: Task, batch: Batch, row: int, column: int) -> list[int]:
    """Of the cases that it was not seen in the first set, in the second, or in both, the one that leaves the least."""
    answer, sets = int(batch.targets[row, 0]), _two_sets(batch, row)
    if task.repeats > 1:
        return [answer]
    elsewhere = {token for tokens in sets for token in tokens} - {answer}
    nowhere = [token for token in range(3, task.vocab_size) if token not in elsewhere]
    return min(sets[1], sets[0], nowhere, key=len)


GUESSES["set_intersection", "guess a token"] = token_from(3)
GUESSES["set_intersection", "guess a token of the second set"] = lambda task, batch, row, rng: rng.choice(
    _two_sets(batch, row)[1], 1
)
GUESSES["set_intersection", "guess a token of the smaller set"] = lambda task, batch, row, rng: rng.choice(
    min(_two_sets(batch, row), key=len), 1
)
UNSEEN["set_intersection"] = _not_seen_in_a_set


def _distributions(after: Callable[[Task, list[int]], list[np.ndarray]]) -> Guess:
    """Markov chains: what is said after each symbol of a row, as weights of all symbols."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        weights = np.array(after(task, batch.inputs[row].tolist())[1:-1], float)
        return weights / weights.sum(axis=1, keepdims=True)

    return guess


def _counted(task: Task, symbols: list[int]) -> list[np.ndarray]:
    return [1 + np.bincount(symbols[: end + 1], minlength=task.num_symbols) for end in range(len(symbols))]


def _followed_last(task: Task, symbols: list[int]) -> list[np.ndarray]:
    found, following = [], {}
    for before, symbol in zip([None, *symbols], symbols, strict=False):
        following[before] = symbol
        found.append(np.array([1 + (following.get(symbol) == other) for other in range(task.num_symbols)]))
    return found


@functools.cache
def _matrix(task: Task) -> np.ndarray:
    return task.chances / task.chances.sum(axis=1, keepdims=True)


def _ahead(task: Task, symbols: list[int], lag: int) -> list[np.ndarray]:
    sources = [*[None] * (lag - 1), *symbols][: len(symbols)]
    return [np.full(task.num_symbols, 1 / task.num_symbols) if s is None else _matrix(task)[s] for s in sources]


def _in_the_long_run(task: Task, symbols: list[int]) -> list[np.ndarray]:
    values, vectors = np.linalg.eig(_matrix(task).T)
    return [np.abs(vectors[:, np.abs(values).argmax()])] * len(symbols)


for _name in ("markov_icl", "markov_lags"):
    GUESSES[_name, "answer uniformly"] = _distributions(
        lambda task, symbols: [np.ones(task.num_symbols)] * len(symbols)
    )
    GUESSES[_name, "answer with the counts of all symbols so far"] = _distributions(_counted)
GUESSES["markov_icl", "answer with what followed the symbol last"] = _distributions(_followed_last)
GUESSES["markov_lags", "answer with the chances in the long run"] = _distributions(_in_the_long_run)
GUESSES["markov_lags", "assume lag 1"] = _distributions(lambda task, symbols: _ahead(task, symbols, 1))
GUESSES["markov_lags", "average over all lags"] = _distributions(
    lambda task, symbols: list(sum(np.array(_ahead(task, symbols, lag)) for lag in range(1, task.max_lag + 1)))
)
GUESSES["markov_lags", "answer with what is most often close"] = _distributions(
    lambda task, symbols: [task.most_often_close] * len(symbols)
)
