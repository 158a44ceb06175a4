"""N-gram lookup against a generator by its definition."""

import numpy as np
import pytest

from experiments.tasks.recall.ngram_lookup import NgramLookup
from tests.experiments.tasks.drawing import assert_drawn_by


@pytest.mark.parametrize(
    "task",
    [
        NgramLookup(length=13, vocab_size=5, answer_length=2),
        NgramLookup(length=12, vocab_size=5, size=2, answer_length=3, key="prefix"),
        NgramLookup(length=10, vocab_size=9, size=1, answer_length=1),
    ],
)
def test_strings_and_places_are_drawn_together(task: NgramLookup):
    size, number = task.size, task.answer_length

    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        while True:
            string = rng.integers(1, task.vocab_size, task.string_length).tolist()
            start = int(rng.integers(task.string_length - size - number + 1))
            key, answer = string[start : start + size], string[start + size : start + size + number]
            if sum(string[c : c + size] == key for c in range(len(string))) == 1:
                break
        row = [*string, 0, *key, *answer] if task.key == "suffix" else [*key, 0, *string, 0, *answer]
        return row[:-1], dict(enumerate(answer, task.length - number))

    assert_drawn_by(task, generate)
