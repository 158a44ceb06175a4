"""What shortcuts answer in tasks of recall and retrieval, row by row in NumPy."""

import functools
from collections.abc import Callable

import numpy as np

from experiments.tasks.base import Batch, Task
from experiments.tasks.recall.mqar_variants import CompositionalMQAR
from tests.experiments.tasks import position_shortcuts
from tests.experiments.tasks.position_shortcuts import PLACES
from tests.experiments.tasks.recall import context_shortcuts
from tests.experiments.tasks.recall.context_shortcuts import commonest
from tests.experiments.tasks.shortcuts import Guess, Unseen, fitted, token_from

GUESSES: dict[tuple[str, str], Guess] = {}
UNSEEN: dict[str, Unseen] = {}


def _values_by_key(batch: Batch, row: int, column: int) -> dict[int, int]:
    """Key -> value of the pairs before a target."""
    before = batch.inputs[row, : batch.positions[row, column]].reshape(-1, 2).tolist()
    return {key: value for key, value in before}


def _from_keys_so_far(choose) -> Guess:
    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        answers = np.zeros(batch.targets.shape[1], int)
        for column in np.flatnonzero(batch.weights[row]):
            pairs = _values_by_key(batch, row, column).items()
            answers[column] = choose([value for key, value in pairs if key < task.num_keys], rng)
        return answers

    return guess


def _any_value(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    return task.num_keys + rng.integers(0, task.num_values, batch.targets.shape[1])


for _name in ("in_context_recall", "noisy_recall"):
    GUESSES[_name, "guess a value"] = _any_value
    GUESSES[_name, "guess the value of a key seen so far"] = _from_keys_so_far(lambda values, rng: rng.choice(values))
    GUESSES[_name, "guess the value that most keys seen so far have"] = _from_keys_so_far(
        lambda values, rng: np.bincount(values).argmax()
    )
    UNSEEN[_name] = lambda task, batch, row, column: task.num_keys + np.arange(task.num_values)

GUESSES["fuzzy_recall", "guess a value token"] = lambda task, batch, row, rng: (
    task.num_keys + rng.integers(1, task.num_values + 1, batch.targets.shape[1])
)


def _commonest_at_that_place(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """What the value so far has not said yet and most values before it have at that place; by chance among several."""
    tokens, guesses = batch.inputs[row].tolist(), []
    for position in batch.positions[row]:
        values: list[list[int]] = [[]]
        for before, token in zip([0, *tokens], tokens[: position + 1], strict=False):
            if before > task.num_keys >= token:
                values.append([])
            if token > task.num_keys:
                values[-1].append(token)
        said = [] if tokens[position] <= task.num_keys else values.pop()
        there = [value[len(said)] for value in values if len(value) > len(said)]
        left = [token for token in range(task.num_keys + 1, task.vocab_size) if token not in said]
        most = max(there.count(token) for token in left)
        guesses.append(rng.choice([token for token in left if there.count(token) == most]))
    return np.array(guesses)


GUESSES["fuzzy_recall", "answer with what most values so far have at that place"] = _commonest_at_that_place


def _values_not_in_the_answer_yet(task: Task, batch: Batch, row: int, column: int) -> np.ndarray:
    position = batch.positions[row, column] + 1
    given = batch.inputs[row, position - batch.slices["token"][row, column] : position]
    return np.setdiff1d(np.arange(task.num_keys + 1, task.vocab_size), given)


UNSEEN["fuzzy_recall"] = _values_not_in_the_answer_yet

GUESSES["memorization", "guess a value"] = lambda task, batch, row, rng: rng.integers(
    task.vocab_size // 2, task.vocab_size, batch.targets.shape[1]
)
GUESSES["memorization", "always answer one value"] = lambda task, batch, row, rng: np.full(
    batch.targets.shape[1], task.value_of[1]
)
UNSEEN["memorization"] = lambda task, batch, row, column: task.value_of[1:]


def _most_frequent_before_the_marker(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    prefix = batch.inputs[row, : batch.inputs[row].tolist().index(0)]
    return np.full(batch.targets.shape[1], np.bincount(prefix).argmax())


for _name in ("copying", "reverse", "sorting", "duplicate_ngram"):
    GUESSES[_name, "guess the prefix's most frequent token"] = _most_frequent_before_the_marker
GUESSES["copying", "copy by the position alone"] = fitted(PLACES["position"])
for _name in ("copying", "reverse", "sorting"):
    UNSEEN[_name] = lambda task, batch, row, column: np.arange(1, task.vocab_size)
GUESSES["sorting", "answer or copy by the place alone"] = fitted(PLACES["rank"])


def _sorted_with_another_first_token(task: Task, batch: Batch, row: int, column: int) -> list[int]:
    """What comes next for every first token of the prefix that agrees with the answers so far."""
    prefix, given = batch.inputs[row, : task.length // 2].tolist(), batch.targets[row, :column].tolist()
    rows = [sorted([token, *prefix[1:]]) for token in range(1, task.vocab_size)]
    return [row[column] for row in rows if row[:column] == given]


UNSEEN["sorting"] = _sorted_with_another_first_token


def _value_of_a_needle(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    context = batch.inputs[row, : task.context_length]
    return rng.choice(context[context >= task.first_value], batch.targets.shape[1])


def _value_of_the_key(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    context, asked = batch.inputs[row, : task.context_length], batch.inputs[row, task.context_length + 1 :]
    choices = [context[1:][context[:-1] == key] for key in asked[:: task.num_values]]
    return np.concatenate([rng.choice(values, task.num_values) for values in choices])


def _commonest_in_the_context(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    context = batch.inputs[row, : task.context_length]
    values = commonest(context[context >= task.first_value].tolist())
    return np.full(batch.targets.shape[1], rng.choice(values))


def _not_said_yet(choose: Callable[[list[int]], list[int]]) -> Guess:
    """Any of the values chosen of those of the key that the answer does not have so far."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        context, asked = batch.inputs[row, : task.context_length], batch.inputs[row, task.context_length + 1 :].tolist()
        answers = []
        for column in range(len(asked)):
            key, *said = asked[column - column % task.num_values : column + 1]
            left = context[1:][context[:-1] == key].tolist()
            for value in said:
                left.remove(value)
            answers.append(rng.choice(choose(left)))
        return np.array(answers)

    return guess


GUESSES["needle", "guess a value"] = lambda task, batch, row, rng: rng.integers(
    task.first_value, task.vocab_size, batch.targets.shape[1]
)
GUESSES["needle", "guess a value seen in context"] = _value_of_a_needle
GUESSES["needle", "guess a value of the key"] = _value_of_the_key
GUESSES["needle", "answer with the context's commonest value"] = _commonest_in_the_context
GUESSES["needle", "guess a value of the key that is not given yet"] = _not_said_yet(lambda values: values)
GUESSES["needle", "answer with the key's commonest value that is not given yet"] = _not_said_yet(commonest)
UNSEEN["needle"] = lambda task, batch, row, column: np.arange(task.first_value, task.vocab_size)


def _assignments(task: Task, batch: Batch, row: int) -> dict[int, int]:
    context = batch.inputs[row, : 2 * (task.context_length // 2)].reshape(-1, 2).tolist()
    return {name: source for name, source in context if name}


def _value_or_name_of_the_row(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    given = _assignments(task, batch, row)
    values = [source for source in given.values() if source >= task.first_value]
    steps_left = batch.slices.get("steps_left", np.zeros_like(batch.targets))[row]
    names = [source for source in given.values() if source < task.first_value]
    return np.array([rng.choice(names if left else values) for left in steps_left])


def _looked_up_once(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """What the name is given if it is a value, else the latest value before that."""
    name = batch.inputs[row, batch.positions[row, 0]]
    sources = batch.inputs[row, 1 : task.context_length : 2].tolist()
    found = batch.inputs[row, : task.context_length : 2].tolist().index(name)
    return np.array([next(source for source in sources[found::-1] if source >= task.first_value)])


def _values_that_no_other_name_has(task: Task, batch: Batch, row: int, column: int) -> list[int]:
    """Where the name due is given a value; else the answer, as elimination may tell."""
    answer, values = int(batch.targets[row, column]), _assignments(task, batch, row).values()
    if answer < task.first_value or (batch.evidence[row, column] >= 0).sum() > 1:
        return [answer]
    return [value for value in range(task.first_value, task.vocab_size) if value == answer or value not in values]


GUESSES["variable_tracking", "guess a value seen in context"] = _value_or_name_of_the_row
GUESSES["variable_tracking", "guess a name on the right, or a value seen in context, whichever is due"] = (
    _value_or_name_of_the_row
)
GUESSES["variable_tracking", "look the name up once; if it leads to a name, answer with the latest value before"] = (
    _looked_up_once
)
UNSEEN["variable_tracking"] = _values_that_no_other_name_has


def _word_of_the_context(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    context = batch.inputs[row, : task.context_length]
    return rng.choice(context[context > 1], task.num_common)


def _next_word(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    words = np.unique(batch.inputs[row, : task.context_length])
    last = np.maximum(batch.inputs[row, task.context_length :], 1)  # the marker comes before all words
    return np.array([next(iter(words[words > word]), 0) for word in last])


def _common_with_another_first_word(task: Task, batch: Batch, row: int, column: int) -> list[int]:
    """The next answer for every first token that makes a row of this task and agrees with the answers so far."""
    context, given, answers = batch.inputs[row, : task.context_length].copy(), batch.targets[row, :column].tolist(), []
    places = task.context_length - task.num_common * task.common_count
    for context[0] in (0, *range(2, task.vocab_size)):
        counts = np.bincount(context, minlength=task.vocab_size)
        common = np.flatnonzero(counts[2:] == task.common_count) + 2
        rare = np.flatnonzero(counts[2:] == task.rare_count)
        whole = len(common) == task.num_common and len(rare) == places // task.rare_count
        if whole and counts[0] == places % task.rare_count and common[:column].tolist() == given:
            answers.append(int(common[column]))
    return answers


GUESSES["common_words", "guess a word"] = token_from(2)
GUESSES["common_words", "guess a token of the context"] = _word_of_the_context
GUESSES["common_words", "answer with the row's next word by id"] = _next_word
UNSEEN["common_words"] = _common_with_another_first_word


def _statements(task: Task, batch: Batch, row: int) -> list[list[int]]:
    """The statements in front of the row, and the questions: key tokens and, of statements, a value."""
    width = {"ForgettingMQAR": 2, "CompositionalMQAR": 3}[type(task).__name__]
    count = task.num_pairs + task.num_updates if width == 2 else task.grid_size**2
    return batch.inputs[row, : width * count].reshape(count, width).tolist()


def _one_of(choices) -> Guess:
    """Any of the values that `choices` leaves of the row's statements for the key that begins a question."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        start = batch.positions[row] - isinstance(task, CompositionalMQAR)
        statements = _statements(task, batch, row)
        return np.array([rng.choice(choices(statements, key)) for key in batch.inputs[row, start]])

    return guess


def _values_out_of_sight(task: Task, batch: Batch, row: int, column: int) -> list[int]:
    stated = {statement[-1] for statement in _statements(task, batch, row)} - {int(batch.targets[row, column])}
    return [value for value in range(task.first_value, task.vocab_size) if value not in stated]


@functools.cache
def _likely_due(task: Task, place: str) -> np.ndarray:
    """The pairs by how often they are asked for at each place, most often first, [places, pairs]; in other rows."""
    batch = position_shortcuts.sample(task, 20_000, seed=21)
    places, pairs = PLACES[place](batch), np.arange(batch.targets.shape[1])
    counts = np.stack([np.bincount(places[:, pair], minlength=task.length) for pair in pairs], axis=1)
    return np.argsort(-counts, axis=1, kind="stable")


def _current_value_due(place: str) -> Guess:
    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        values = list({key: value for key, value in _statements(task, batch, row)}.values())
        questions = batch._replace(positions=batch.positions[row : row + 1], weights=batch.weights[row : row + 1])
        return np.array([values[_likely_due(task, place)[at, 0]] for at in PLACES[place](questions)[0]])

    return guess


def _value_due_with_the_first_key_token(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    statements, likely, values = _statements(task, batch, row), _likely_due(task, "position"), []
    for position in batch.positions[row]:
        first = batch.inputs[row, position - 1]
        values.append(next(statements[pair][-1] for pair in likely[position] if statements[pair][0] == first))
    return np.array(values)


GUESSES["mqar_forgetting", "guess a current value"] = _one_of(
    lambda statements, key: list({key: value for key, value in statements}.values())
)
GUESSES["mqar_forgetting", "guess a current value from the question's position"] = _current_value_due("position")
GUESSES["mqar_forgetting", "guess a current value from the question's rank"] = _current_value_due("rank")
GUESSES["mqar_compositional", "guess a value seen with the first key token, from the position"] = (
    _value_due_with_the_first_key_token
)
GUESSES["mqar_forgetting", "answer with the key's first value"] = _one_of(
    lambda statements, key: [next(value for stated, value in statements if stated == key)]
)
GUESSES["mqar_compositional", "guess a value seen in context"] = _one_of(
    lambda statements, key: [value for *_, value in statements]
)
GUESSES["mqar_compositional", "guess a value seen with the first key token"] = _one_of(
    lambda statements, key: [value for first, _, value in statements if first == key]
)
UNSEEN["mqar_forgetting"] = UNSEEN["mqar_compositional"] = _values_out_of_sight


def _facts(task: Task, keys: range) -> np.ndarray:
    """The values of some keys, each asked for by a row of its own."""
    rows = np.tile(np.array(keys)[:, None], (1, task.num_keys + 1))
    places = np.full((len(keys), 1), task.num_keys)
    return task.solve(Batch(rows, places, places, places, places, {}))[:, 0]


def _commonest_fact(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    return np.full(batch.targets.shape[1], np.bincount(_facts(task, task.asked)).argmax())


def _fact_of_any_key(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    known = _facts(task, range(task.first_value))
    chosen = rng.integers(0, task.num_keys, batch.targets.shape[1])
    return known[batch.inputs[row, batch.positions[row] - task.num_keys + chosen]]


GUESSES["facts", "guess a value"] = lambda task, batch, row, rng: rng.integers(
    task.first_value, task.vocab_size, batch.targets.shape[1]
)
GUESSES["facts", "always answer the commonest value"] = _commonest_fact
GUESSES["facts", "answer for any of the keys in the question"] = _fact_of_any_key
UNSEEN["facts"] = lambda task, batch, row, column: _facts(task, task.asked)
GUESSES |= context_shortcuts.GUESSES
UNSEEN |= context_shortcuts.UNSEEN
