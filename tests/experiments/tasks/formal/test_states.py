"""Tasks that carry a state along the row, against generators that follow their definitions token by token."""

import itertools
import math

import numpy as np
import pytest

from experiments.tasks.formal.groups import make_group
from experiments.tasks.registry import make_task
from tests.experiments.tasks.drawing import Generator, assert_drawn_by, sample


def group_word(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
    """Swaps and the identity of S3, numbered as 012, 021, 102, 120, 201, 210; one blank, id 7, behind each."""
    elements = sorted(itertools.permutations(range(3)))
    row, scored, product = [6], {}, (0, 1, 2)
    for _ in range(5):
        element = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)][rng.integers(4)]
        product = tuple(product[point] for point in element)
        row += [elements.index(element), 7]
        scored[len(row) - 1] = elements.index(product)
    return row, scored


def flip_flop(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
    row, scored, memory = [], {}, 0
    for pair in range(7):
        instruction = "w" if pair == 0 else "r" if pair == 6 else rng.choice(list("wri"), p=(0.2, 0.2, 0.6))
        bit = memory if instruction == "r" else int(rng.integers(2))
        memory = bit if instruction == "w" else memory
        if instruction == "r":
            scored[len(row)] = bit
        row += [2 + "wri".index(instruction), bit]
    return row, scored


def multi_stack(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
    stacks: list[list[int]] = [[], [], []]
    row, scored, before = [], {}, 0
    for operation in range(5):
        stack = int(rng.integers(3))
        pops = bool(stacks[stack]) and rng.random() < 1 / 2
        if operation == 4 and not scored:
            stack, pops = before, True
        element = stacks[stack].pop() if pops else int(rng.integers(4))
        if pops:
            scored[len(row) + 1] = 6 + element
        else:
            stacks[stack].append(element)
        row += [1 + pops, 3 + stack, 6 + element]
        before = stack
    return [*row, 0], scored


def permutation_hops(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
    sizes = np.arange(3, 6)
    weights = 1 / (sizes + math.sqrt(5))
    count = rng.choice(sizes, p=weights / weights.sum())
    cycle = (4 + rng.permutation(7)[:count]).tolist()
    edges = [(cycle[place - 1], cycle[place]) for place in rng.permutation(count)]
    following, row, scored = dict(edges), [token for edge in edges for token in edge], {}
    for _ in range(2):
        hops, node = int(rng.integers(1, 4)), int(rng.choice(cycle))
        answer = node
        for _ in range(hops):
            answer = following[answer]
        row += [hops, node, answer]
        scored[len(row) - 2] = answer
    return row + [0] * (16 - len(row)), scored


def automata_icl(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
    count = int(rng.integers(4, 6))
    alphabet = rng.permutation(6)[: rng.integers(4, 7)]
    moves = []
    for state in range(count):
        out = int(rng.integers(1, 4))
        others = rng.permutation([other for other in range(count) if other != state])[:out]
        moves.append(list(zip(rng.permutation(alphabet)[:out].tolist(), others.tolist(), strict=True)))
    row, scored = [], {}
    for _ in range(int(rng.integers(2, 4))):
        row, state = [*row, 1], 0
        for _ in range(int(rng.integers(1, 5))):
            letter, state = moves[state][rng.integers(len(moves[state]))]
            scored[len(row) - 1] = 2 + letter
            row.append(2 + letter)
    return row + [0] * (15 - len(row)), scored


DEFINITIONS: dict[str, Generator] = {
    "group_word:length=5,most_moved=2,tokens=2": group_word,
    "flip_flop:length=14,ignore=0.6": flip_flop,
    "multi_stack:length=16,num_stacks=3,num_elements=4": multi_stack,
    "permutation_hops:num_nodes=5,max_hops=3,num_queries=2,num_names=7": permutation_hops,
    "automata_icl:min_strings=2,max_strings=3,string_length=4,num_letters=6,max_states=5": automata_icl,
}


@pytest.mark.slow
@pytest.mark.parametrize("spec", DEFINITIONS)
def test_rows_are_drawn_as_defined(spec: str):
    assert_drawn_by(make_task(spec), DEFINITIONS[spec])


@pytest.mark.parametrize(
    ("name", "order", "classes"),
    [("S3", 6, 2), ("S4", 24, 2), ("A5", 60, 1), ("S5", 120, 2), ("Z60", 60, 60), ("A4", 12, 3), ("A4xZ5", 60, 15)],
)
def test_groups_are_groups_of_their_order(name: str, order: int, classes: int):
    table = make_group(name).table
    assert table.shape == (order, order) and len(np.unique(make_group(name).classes)) == classes
    assert (table[0] == np.arange(order)).all() and (table[:, 0] == np.arange(order)).all()
    assert (np.sort(table, axis=0) == np.arange(order)[:, None]).all()
    assert (np.sort(table, axis=1) == np.arange(order)).all()
    one, other, third = np.random.default_rng(0).integers(0, order, (3, 1000))
    assert (table[table[one, other], third] == table[one, table[other, third]]).all()


def test_restricted_elements_are_as_many_as_published():
    assert [len(make_task(f"group_word:group=S5,most_moved={most}").allowed) for most in (2, 3, 0)] == [11, 31, 120]


@pytest.mark.parametrize(("ignore", "published"), [(0.8, 0.60), (0.98, 0.51), (0.1, 0.95)])
def test_the_bit_before_is_right_as_often_as_published(ignore: float, published: float):
    floors = make_task(f"flip_flop:length=512,ignore={ignore}").floors()
    assert floors["say the bit just before"] == pytest.approx(published, abs=0.005)


@pytest.mark.slow
def test_right_letters_are_those_that_ever_come():
    """After the same beginning they are the same, and 40 strings that begin alike go on with all of them."""
    task = make_task("automata_icl:min_strings=40,max_strings=40,string_length=2,num_letters=7")
    batch = sample(task)
    for row in range(100):
        right: dict[tuple[int, ...], set[int]] = {}
        came: dict[tuple[int, ...], list[int]] = {}
        beginning: tuple[int, ...] = ()
        letters = {int(batch.positions[row, column]): column for column in np.flatnonzero(batch.weights[row])}
        for position, token in enumerate(batch.inputs[row].tolist()):
            beginning = () if token == 1 else (*beginning, token)
            following = batch.inputs[row, position + 1] if position + 1 < task.input_length else 0
            if following < 2:
                continue
            column = letters[position]
            answers = {int(batch.targets[row, column]), *batch.also_right[row, column].tolist()} - {-1}
            assert right.setdefault(beginning, answers) == answers
            assert batch.slices["known"][row, column] == (beginning in came)
            came.setdefault(beginning, []).append(int(following))
        for beginning, found in came.items():
            assert set(found) <= right[beginning] and (len(found) < 35 or set(found) == right[beginning])


def test_every_bit_of_evidence_is_the_answer():
    """Of a flip-flop each is enough, so none may be a bit to ignore."""
    batch = sample(make_task("flip_flop:length=14,ignore=0.6"))
    bits = np.take_along_axis(batch.inputs[:, None], np.maximum(batch.evidence, 0), axis=2)
    counts = (batch.evidence >= 0) & (batch.weights > 0)[..., None]
    assert counts.any() and (bits == batch.targets[..., None])[counts].all()
