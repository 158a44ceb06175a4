"""Joint recall against a generator by its definition."""

import numpy as np

from experiments.tasks.recall.joint_recall import JointRecall
from tests.experiments.tasks.drawing import assert_drawn_by, sample

TASK = JointRecall(length=23, num_contexts=2, num_keys=2, num_values=3)  # contexts 3, 4, keys 5, 6, values 7..9


def test_tables_are_drawn_as_defined():
    def generate(rng: np.random.Generator) -> tuple[list[int], dict[int, int]]:
        table = rng.integers(7, 10, (2, 2))

        def spelled() -> list[int]:
            tokens = []
            for context in rng.permutation(2):
                tokens.append(3 + context)
                for key in rng.permutation(2):
                    tokens += [5 + key, table[context, key]]
            return tokens

        row = [1, *spelled(), 0, 0, 2, *spelled()]
        return row[:-1], {c: row[c + 1] for c in (15, 17, 20, 22)}

    assert_drawn_by(TASK, generate)


def test_later_counts_the_contexts_that_follow():
    batch = sample(TASK)
    for row, column in np.argwhere(batch.weights[:300] > 0):
        inputs, evidence = batch.inputs[row], batch.evidence[row, column, 0]
        assert batch.slices["later"][row, column] == np.isin(inputs[evidence:13], (3, 4)).sum()
        assert inputs[evidence] == batch.targets[row, column]
        assert inputs[evidence - 1] == inputs[batch.positions[row, column]]
