"""Copying, needles, variables, common words and the harder forms of MQAR against generators by their definitions."""

import itertools

import numpy as np
import pytest

from experiments.tasks.base import Batch
from experiments.tasks.recall.mqar_variants import CompositionalMQAR, ForgettingMQAR
from experiments.tasks.recall.needle import Needle
from experiments.tasks.sequences.common_words import CommonWords
from experiments.tasks.sequences.copying import Copying, Reverse, Sorting
from experiments.tasks.sequences.duplicate_ngram import DuplicateNgram
from experiments.tasks.sequences.variable_tracking import VariableTracking
from tests.experiments.tasks.drawing import Generator, assert_drawn_by, sample


@pytest.mark.parametrize(
    "kind, order", [(Copying, lambda prefix: prefix), (Reverse, lambda prefix: prefix[::-1]), (Sorting, sorted)]
)
def test_the_answer_is_the_prefix_in_order(kind, order):
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        prefix = rng.integers(1, 7, 7).tolist()
        answer = list(order(prefix))
        return [*prefix, 0, *answer[:-1]], dict(enumerate(answer, 7))

    assert_drawn_by(kind(length=14, vocab_size=7), generate)


def test_prefixes_of_all_lengths_are_padded_to_the_longest():
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        prefix = rng.integers(1, 7, rng.integers(2, 8)).tolist()
        row = [*prefix, 0, *prefix[:-1]]
        return row + [0] * (14 - len(row)), dict(enumerate(prefix, len(prefix)))

    task = Copying(length=14, vocab_size=7, min_length=4)
    assert_drawn_by(task, generate)
    assert task.at_length(8) == Copying(length=8, vocab_size=7) and task.at_lengths(8, 12).prefix_sizes.tolist() == [
        4,
        5,
        6,
    ]
    assert sample(task).slices["length"][sample(task).weights > 0].min() == 4


def test_an_ngram_is_written_over_another_place():
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        prefix = rng.integers(1, 7, 7)
        places = [(i, j) for i in range(6) for j in range(i + 2, 6)]
        first, second = places[rng.integers(len(places))]
        prefix[second : second + 2] = prefix[first : first + 2]
        return [*prefix.tolist(), 0, *prefix[:-1].tolist()], dict(enumerate(prefix.tolist(), 7))

    assert_drawn_by(DuplicateNgram(length=14, vocab_size=7, size=2), generate)


def needles(task: Needle) -> Generator:
    """Vocabulary 15: keys 1..4, filler 5..9, values 10..14."""

    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        end = task.length - 1 - task.num_queries * task.num_values
        row = rng.integers(5, 10, end).tolist()
        more = rng.integers(task.distractors + 1) if task.vary_distractors else task.distractors
        keys = 1 + rng.permutation(4)[: task.num_keys + more]
        repeats = [task.num_values] * task.num_keys + [1] * more
        values: dict[int, list[int]] = {int(key): [] for key in keys}
        for slot, key in sorted(zip(rng.permutation(end // 2), np.repeat(keys, repeats).tolist(), strict=False)):
            values[key].append(int(rng.integers(10, 15)))
            row[2 * slot : 2 * slot + 2] = key, values[key][-1]
        row.append(0)
        scored = {}
        for key in keys[: task.num_queries].tolist():
            scored |= dict(enumerate(values[key], len(row)))
            row += [key, *values[key][:-1]]
        return row, scored

    return generate


@pytest.mark.parametrize(
    "task",
    [
        Needle(length=17, vocab_size=15),
        Needle(length=24, vocab_size=15, num_keys=2, num_values=3, num_queries=2, distractors=1),
        Needle(length=16, vocab_size=15, num_keys=2, distractors=2, vary_distractors=True),
    ],
)
def test_needles_are_drawn_as_defined(task: Needle):
    assert_drawn_by(task, needles(task))


def test_depth_is_uniform_over_ten_bins_and_distractors_are_counted():
    batch = sample(Needle(length=62, num_keys=2, distractors=3, vary_distractors=True))
    for name, kinds in (("depth", 10), ("distractors", 4)):
        share = np.bincount(batch.slices[name][:, 0]) / len(batch.inputs)
        assert len(share) == kinds and np.abs(share - 1 / kinds).max() < 4 * np.sqrt(1 / kinds / len(batch.inputs))
    tenth = batch.evidence[:, :, 0] // 2 * 10 // 30
    np.testing.assert_array_equal(tenth, batch.slices["depth"])
    keys = ((batch.inputs[:, :60] > 0) & (batch.inputs[:, :60] < 32)).sum(axis=1)
    np.testing.assert_array_equal(keys, 2 + batch.slices["distractors"][:, 0])


def chains(task: VariableTracking) -> Generator:
    """Vocabulary 23: names 2..10, values 11..22."""

    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        end = task.length - 2 - task.hops * task.scratchpad
        row = [0] * end
        size = task.hops + 1
        names = (2 + rng.permutation(9)[: task.num_chains * size]).reshape(-1, size).tolist()
        values = (11 + rng.permutation(12)[: task.num_chains]).tolist()
        slots = np.sort(rng.permutation(end // 2)[: task.num_chains * size].reshape(-1, size), axis=1)
        for chain, value, places in zip(names, values, slots.tolist(), strict=True):
            for name, source, slot in zip(chain, [value, *chain], places, strict=False):
                row[2 * slot : 2 * slot + 2] = name, source
        hops = rng.integers(size) if task.vary_hops else task.hops
        way = [*names[0][hops::-1], values[0]]  # from the name asked for to the value
        if not task.scratchpad:
            return [*row, 1, way[0]], {end + 1: way[-1]}
        return [*row, 1, *way[:-1], *[0] * (task.hops - hops)], dict(enumerate(way[1:], end + 1))

    return generate


@pytest.mark.parametrize("scratchpad, vary_hops", [(False, False), (False, True), (True, False), (True, True)])
def test_chains_are_drawn_as_defined(scratchpad: bool, vary_hops: bool):
    task = VariableTracking(length=23, vocab_size=23, num_chains=3, scratchpad=scratchpad, vary_hops=vary_hops)
    assert_drawn_by(task, chains(task))


def every_row(task: VariableTracking) -> Batch:
    """Two chains of one hop in four slots, with a scratchpad; all names are in use, and two of six values."""
    rows, links = [], []
    orders = [slots for slots in itertools.permutations(range(4)) if slots[0] < slots[1] and slots[2] < slots[3]]
    for names, values, slots in itertools.product(
        itertools.permutations(range(2, 6)), itertools.permutations(range(6, 12), 2), orders
    ):
        a, b, c, d = names
        pairs = dict(zip(slots, ((a, values[0]), (b, a), (c, values[1]), (d, c)), strict=True))
        rows.append([*(token for slot in range(4) for token in pairs[slot]), 1, b, a, values[0]])
        links.append([[2 * slots[1] + 1], [2 * slots[0] + 1]])
    inputs = np.array(rows)
    steps_left = np.broadcast_to([1, 0], (len(rows), 2))
    slices = {"steps_left": steps_left, "hops": np.ones_like(steps_left)}
    return Batch(inputs[:, :-1], inputs[:, -2:], 9 + np.arange(2) + 0 * steps_left, 0 * steps_left + 1.0, links, slices)


def test_no_guess_beats_the_bound_whatever_is_in_sight():
    """The best guess of whoever sees some positions of the context, over all rows there are."""
    task = VariableTracking(length=11, vocab_size=12, hops=1, num_chains=2, scratchpad=True)
    batch = every_row(task)
    rates, evidence = task.guess_rate(batch), np.array(batch.evidence)[..., 0]
    best = np.zeros((256, 2))
    for seen, step in itertools.product(range(256), range(2)):
        hidden = (seen >> evidence[:, step]) & 1 == 0
        shown = [c for c in range(10 + step) if c >= 8 or seen >> c & 1]
        views = batch.inputs[hidden][:, shown] @ 12 ** np.arange(len(shown))
        views = np.unique(views, return_inverse=True)[1]
        counts = np.zeros((views.max(initial=-1) + 1, 12))
        np.add.at(counts, (views, batch.targets[hidden, step]), 1)
        best[seen, step] = counts.max(axis=1).sum() / max(hidden.sum(), 1)
        assert best[seen, step] <= rates[:, step].max() + 1e-9
    np.testing.assert_allclose(rates.max(axis=0), best.max(axis=0))  # elimination may settle a name, not a value


def test_one_chain_after_another_is_followed():
    task = VariableTracking(length=23, vocab_size=23, hops=3, num_chains=2)
    batch = sample(task)
    for row in range(100):
        links = batch.evidence[row, 0].tolist()  # from the value to the name asked for
        assert links == sorted(links)
        way = [int(batch.inputs[row, link - 1]) for link in links]
        assert [int(batch.inputs[row, link]) for link in links] == [int(batch.targets[row, 0]), *way[:-1]]
        assert way[-1] == batch.inputs[row, -1]


@pytest.mark.parametrize("rare_count", [1, 2])
def test_words_are_drawn_as_defined(rare_count: int):
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        words = (2 + rng.permutation(9)).tolist()
        rare = words[2 : 2 + 5 // rare_count]
        context = words[:2] * 4 + rare * rare_count + [0] * (5 % rare_count)
        answer = sorted(words[:2])
        return [*rng.permutation(context).tolist(), 1, answer[0]], dict(enumerate(answer, 13))

    task = CommonWords(length=15, vocab_size=11, num_common=2, common_count=4, rare_count=rare_count)
    assert_drawn_by(task, generate)


def test_one_common_word_fewer_is_not_missed_where_common_is_common():
    task = CommonWords(length=19, vocab_size=13, num_common=2, common_count=5)
    batch = sample(task)
    assert (task.guess_rate(batch) == 1).all()
    hidden = batch.inputs.copy()
    hidden[:, 0] = 0
    np.testing.assert_array_equal(task.solve(batch._replace(inputs=hidden)), batch.targets)


def recall(task: ForgettingMQAR | CompositionalMQAR) -> Generator:
    def statements(rng: np.random.Generator) -> list[tuple[int, ...]]:
        if isinstance(task, ForgettingMQAR):  # vocabulary 14: keys 1..6, values 7..13
            keys = (1 + rng.permutation(6)[: task.num_pairs]).tolist()
            return [(key,) for key in [*keys, *rng.permutation(keys)[: task.num_updates].tolist()]]
        grid = itertools.product(1 + rng.permutation(3)[: task.grid_size], 4 + rng.permutation(4)[: task.grid_size])
        return [tuple(map(int, cell)) for cell in rng.permutation(list(grid))]  # 12: 1..3, 4..7, values 8..11

    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        keys, first = statements(rng), task.first_value
        values = (first + rng.permutation(task.vocab_size - first)[: len(keys)]).tolist()
        row = [token for key, value in zip(keys, values, strict=True) for token in (*key, value)]
        value_of, width, scored = dict(zip(keys, values, strict=True)), len(keys[0]) + 1, {}
        front, size = len(row), task.length - len(row)
        row += rng.integers(0, task.vocab_size, size).tolist() if task.random_fillers else [0] * size
        weights = np.arange(1, size // width + 1) ** (task.power - 1)
        for key, value in value_of.items():  # in the order of first statements
            slot = rng.choice(len(weights), p=weights / weights.sum())
            weights[slot] = 0
            end = front + width * slot + width - 1
            row[end - width + 1 : end] = key
            scored[end - 1] = value
        return row, scored

    return generate


@pytest.mark.parametrize(
    "task",
    [
        ForgettingMQAR(length=19, vocab_size=14, num_pairs=3, num_updates=2, random_fillers=True),
        ForgettingMQAR(length=18, vocab_size=14, num_pairs=3, num_updates=3, power=1.0),
        CompositionalMQAR(length=28, vocab_size=12),
    ],
)
def test_harder_mqar_is_drawn_as_defined(task: ForgettingMQAR | CompositionalMQAR):
    assert_drawn_by(task, recall(task))
