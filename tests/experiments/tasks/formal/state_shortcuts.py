"""What shortcuts answer in tasks that need a state carried along the row, row by row in NumPy."""

import functools
from collections.abc import Callable

import numpy as np

from experiments.tasks.base import Batch, Task
from tests.experiments.tasks.position_shortcuts import PLACES, rank
from tests.experiments.tasks.shortcuts import Guess, Unseen, fitted

GUESSES: dict[tuple[str, str], Guess] = {}
UNSEEN: dict[str, Unseen] = {}

_likeliest_by_rank = fitted(PLACES["rank"], copies=False)


def _maps(task: Task) -> tuple[list[tuple[int, ...]], dict[tuple[int, ...], int]]:
    """The map of each element, by what `token_text` says of it, and back."""
    texts = [task.token_text(token) for token in range(task.vocab_size)]
    maps = [tuple(map(int, text)) for text in texts if text.isdigit()]
    return maps, {one: element for element, one in enumerate(maps)}


def _product(*maps: tuple[int, ...]) -> tuple[int, ...]:
    return functools.reduce(lambda one, other: tuple(one[point] for point in other), maps)


def _last_elements(task: Task, batch: Batch, row: int, guesses: np.ndarray) -> np.ndarray:
    """The last four elements behind a guess of the product before them."""
    maps, number = _maps(task)
    likeliest = [0, *guesses]
    elements = batch.inputs[row, 1 :: task.tokens].tolist()
    return np.array(
        [
            number[_product(maps[likeliest[max(end - 4, 0)]], *(maps[g] for g in elements[max(end - 4, 0) : end]))]
            for end in range(1, len(elements) + 1)
        ]
    )


def _sign(one: tuple[int, ...]) -> int:
    return round(np.linalg.det(np.eye(len(one))[list(one)]))


def _of_a4_and_z5(one: tuple[int, ...]) -> int:
    """Where the pairing 01|23 goes, one of three, and the rotation."""
    pairings = ({0, 1}, {0, 2}, {0, 3})
    return one[4] * 3 + next(place for place, pair in enumerate(pairings) if pair in ({*one[:2]}, {*one[2:4]}))


@functools.cache
def _by_order_free_part(task: Task) -> Guess:
    part = _of_a4_and_z5 if task.group == "A4xZ5" else _sign
    parts = np.array([part(one) for one in _maps(task)[0]])
    parts -= parts.min()
    return fitted(lambda batch: rank(batch) * 50 + parts[batch.targets], copies=False)


GUESSES["group_word", "answer with the likeliest element at each place"] = _likeliest_by_rank
GUESSES["group_word", "multiply the last 4 elements and the likeliest product before"] = lambda task, batch, row, rng: (
    _last_elements(task, batch, row, _likeliest_by_rank(task, batch, row, rng))
)
GUESSES["group_word", "multiply the last 4 elements, and know of those before what does not depend on the order"] = (
    lambda task, batch, row, rng: _last_elements(task, batch, row, _by_order_free_part(task)(task, batch, row, rng))
)


def _products_with_another_first_element(task: Task, batch: Batch, row: int, column: int) -> np.ndarray:
    maps, number = _maps(task)
    rest = [maps[element] for element in batch.inputs[row, 1 :: task.tokens].tolist()[1 : column + 1]]
    return np.array([number[_product(maps[first], *rest)] for first in task.allowed.tolist()])


UNSEEN["group_word"] = _products_with_another_first_element


def _bit_before(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    return batch.inputs[row, np.maximum(batch.positions[row] - 1, 0)]


def _bit_of_two_pairs_or(choose: Callable[[list[int]], int]) -> Guess:
    """The latest bit of the two pairs before that was written or read; or one chosen of all such bits before."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        answers = []
        for position in batch.positions[row].tolist():
            pairs = batch.inputs[row, :position].reshape(-1, 2).tolist()
            counts = [
                [bit for instruction, bit in part if task.token_text(instruction) != "i"]
                for part in (pairs[-2:], pairs)
            ]
            answers.append(0 if not pairs else counts[0][-1] if counts[0] else choose(counts[1]))
        return np.array(answers)

    return guess


GUESSES["flip_flop", "guess a bit"] = lambda task, batch, row, rng: rng.integers(0, 2, batch.targets.shape[1])
GUESSES["flip_flop", "say the bit just before"] = _bit_before
GUESSES["flip_flop", "say the latest bit that counts in the last two pairs or, if there is none, the first one"] = (
    _bit_of_two_pairs_or(lambda bits: bits[0])
)
GUESSES[
    "flip_flop", "say the latest bit that counts in the last two pairs or, if there is none, the commonest that counts"
] = _bit_of_two_pairs_or(lambda bits: int(np.bincount(bits).argmax()))
UNSEEN["flip_flop"] = lambda task, batch, row, column: np.arange(2)


def _of_the_stack(*, first_if_popped: bool) -> Guess:
    """The latest element that stands beside the stack; or the first, if the latest operation of the stack is a pop."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        answers = np.zeros(batch.targets.shape[1], int)
        texts = [task.token_text(int(token)) for token in batch.inputs[row]]
        for column in np.flatnonzero(batch.weights[row]):
            at = batch.positions[row, column]
            earlier = [place for place in range(1, at, 3) if texts[place] == texts[at]]
            first = first_if_popped and texts[earlier[-1] - 1] == "-"
            answers[column] = batch.inputs[row, earlier[0 if first else -1] + 1]
        return answers

    return guess


def _as_far_back_as_pops(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """The latest push of the stack, or one push earlier for each pop since; nothing is kept of the pops before."""
    answers = np.zeros(batch.targets.shape[1], int)
    operations = batch.inputs[row, : 3 * task.operations].reshape(-1, 3).tolist()
    for column in np.flatnonzero(batch.weights[row]):
        at = batch.positions[row, column] // 3
        of_stack = [each for each in operations[:at] if each[1] == operations[at][1]]
        pushes = [place for place, (operation, *_) in enumerate(of_stack) if task.token_text(operation) == "+"]
        pops = len(of_stack) - 1 - pushes[-1]
        answers[column] = of_stack[pushes[-1 - pops]][2]
    return answers


GUESSES["multi_stack", "answer, after k pops in a row of the stack, with its (k + 1)-th latest element"] = (
    _as_far_back_as_pops
)
GUESSES["multi_stack", "guess an element"] = lambda task, batch, row, rng: rng.integers(
    task.first_element, task.vocab_size, batch.targets.shape[1]
)
GUESSES["multi_stack", "answer with the latest element of the stack"] = _of_the_stack(first_if_popped=False)
GUESSES["multi_stack", "answer with the latest element of the stack or, if that was popped, its first"] = _of_the_stack(
    first_if_popped=True
)
UNSEEN["multi_stack"] = lambda task, batch, row, column: np.arange(task.first_element, task.vocab_size)


def _edges(batch: Batch, row: int) -> dict[int, int]:
    tokens = batch.inputs[row, : batch.positions[row, 0] - 1].tolist()
    return dict(zip(tokens[::2], tokens[1::2], strict=True))


def _another_node(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    nodes = list(_edges(batch, row))
    return np.array([rng.choice([n for n in nodes if n != asked]) for asked in batch.inputs[row, batch.positions[row]]])


def _next_node(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    return np.array([_edges(batch, row)[asked] for asked in batch.inputs[row, batch.positions[row]].tolist()])


def _one_edge(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
    """The node itself, the next or the one before, where the hops lead there; else any of the others."""
    following, answers = _edges(batch, row), []
    before = {successor: node for node, successor in following.items()}
    for position in batch.positions[row]:
        hops, node = batch.inputs[row, position - 1 : position + 1].tolist()
        ways = {-1 % len(following): before[node], 1: following[node], 0: node}
        others = [other for other in following if other not in ways.values()]
        hops %= len(following)
        answers.append(ways[hops] if hops in ways else rng.choice(others))
    return np.array(answers)


def _said_before_or(guess: Guess) -> Guess:
    def repeat(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        said, answers = {}, guess(task, batch, row, rng)
        for column, position in enumerate(batch.positions[row]):
            question = tuple(batch.inputs[row, position - 1 : position + 1].tolist())
            answers[column] = said.get(question, answers[column])
            said[question] = batch.inputs[row, position + 1]
        return answers

    return repeat


GUESSES["permutation_hops", "guess a node"] = lambda task, batch, row, rng: rng.choice(
    list(_edges(batch, row)), batch.targets.shape[1]
)
GUESSES["permutation_hops", "guess another node than the one asked for"] = _another_node
GUESSES["permutation_hops", "answer with the next node"] = _next_node
GUESSES["permutation_hops", "repeat the answer to an equal question before, else the next node"] = _said_before_or(
    _next_node
)
GUESSES["permutation_hops", "repeat the answer to an equal question before, else look one edge up, else guess"] = (
    _said_before_or(_one_edge)
)


def _letter_by_counts(most: int) -> Guess:
    """The letter that most often followed the last `most` tokens, from a break at the earliest; or fewer of them."""

    def guess(task: Task, batch: Batch, row: int, rng: np.random.Generator) -> np.ndarray:
        text = "".join(task.token_text(int(token)) for token in batch.inputs[row])
        answers = np.zeros(batch.targets.shape[1], int)
        for column in np.flatnonzero(batch.weights[row]):
            so_far = text[: batch.positions[row, column] + 1]
            string = so_far[so_far.rindex("|") :]
            for size in range(most, -1, -1):
                context = string[max(0, len(string) - size) :]
                ends = [at + len(context) for at in range(len(so_far)) if so_far.startswith(context, at)]
                found = [so_far[end] for end in ends if so_far[end : end + 1].isalpha()]
                if found:
                    letter = max(sorted(set(found)), key=found.count)
                    answers[column] = next(t for t in range(task.vocab_size) if task.token_text(t) == letter)
                    break
        return answers

    return guess


GUESSES["automata_icl", "guess a letter"] = lambda task, batch, row, rng: rng.integers(
    2, task.vocab_size, batch.targets.shape[1]
)
GUESSES["automata_icl", "answer with the most frequent letter so far"] = _letter_by_counts(0)
GUESSES["automata_icl", "answer with what most often followed the last letter so far"] = _letter_by_counts(1)
GUESSES["automata_icl", "answer with what most often followed the last two letters so far"] = _letter_by_counts(2)
