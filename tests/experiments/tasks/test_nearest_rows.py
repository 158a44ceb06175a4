"""No task of the second suite may have a floor below what a few thousand questions known by heart give away.

Strings of the first suite begin with one or two symbols, of which a few thousand are all there are; so `even_pairs`,
`cycle_navigation` and `reverse_string` can be answered better than their floors at the lengths of training, and are
scored at others. `memorization` is to know by heart.
"""

import pytest

from experiments.tasks.formal.group_word import GroupWord
from experiments.tasks.registry import make_task
from tests.experiments.tasks import nearest_rows

SECOND_SUITE = (
    *("group_word", "flip_flop", "copying:min_length=4", "duplicate_ngram", "ngram_lookup", "joint_recall"),
    *("markov_icl", "markov_lags", "automata_icl", "permutation_hops", "multi_stack", "set_intersection"),
    *("mqar_nback", "prefix_arithmetic", "induction"),
)


@pytest.mark.slow
@pytest.mark.parametrize("spec", SECOND_SUITE)
def test_the_nearest_known_question_answers_no_more_than_the_floors_say(spec: str):
    assert nearest_rows.weak_floor(make_task(spec)) == ""


def test_a_planted_weak_floor_is_caught():
    class Planted(GroupWord):
        def floors(self) -> dict[str, float]:
            return {"guess": 1 / 6}

    weak = nearest_rows.weak_floor(Planted(length=7))
    assert "the best floor is 0.1667 (guess)" in weak and float(weak[:6]) > 0.3
