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


def test_evidence_is_the_value_of_the_key_in_the_context_and_later_counts_those_that_follow():
    task = JointRecall(length=43, num_contexts=3, num_keys=3, num_values=3)  # orders of three have other inverses
    batch = sample(task)
    for row, column in np.argwhere(batch.weights[:200] > 0):
        inputs, evidence, position = batch.inputs[row], batch.evidence[row, column, 0], batch.positions[row, column]
        is_context = (inputs >= 3) & (inputs < task.first_key)
        assert inputs[evidence] == batch.targets[row, column] and inputs[evidence - 1] == inputs[position]
        stated, asked = (inputs[:end][is_context[:end]][-1] for end in (evidence, position))
        assert stated == asked and batch.slices["later"][row, column] == is_context[evidence:21].sum()
