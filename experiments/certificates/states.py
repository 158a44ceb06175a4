"""Published scores of models that must keep a state: word problems."""

from collections.abc import Sequence

from experiments.certificates.certificate import Certificate, Check, number, ordering
from experiments.certificates.trained import best_beyond_training as _best
from experiments.studies.rows import Row

_SWAPS, _S3 = "group_word:group=S5,most_moved=2", "group_word:group=S3"
_LEARNED = 0.95  # mean accuracy beyond the lengths of training


def _not_learned(what: str, obtained: float) -> Check:
    return ordering(what, "not learned", f"{obtained:.3f}", obtained < _LEARNED)


def _swaps(rows: Sequence[Row]) -> list[Check]:
    return [
        number("DeltaNet, one layer, eigenvalues in [-1, 1]", 1.0, _best(rows, "delta:max_strength=2", _SWAPS), 0.02),
        _not_learned("DeltaNet, one layer, eigenvalues in [0, 1]", _best(rows, "delta", _SWAPS)),
    ]


def _rotations(rows: Sequence[Row]) -> list[Check]:
    return [
        number("two steps per token, eigenvalues in [-1, 1]", 1.0, _best(rows, "delta_product", _S3), 0.02),
        _not_learned("one step, eigenvalues in [-1, 1]", _best(rows, "delta:max_strength=2", _S3)),
        _not_learned("two steps, eigenvalues in [0, 1]", _best(rows, "delta_product:max_strength=1", _S3)),
        _not_learned("one step, eigenvalues in [0, 1]", _best(rows, "delta", _S3)),
    ]


CERTIFICATES = (
    Certificate(
        name="swaps_negative_eigenvalues",
        claim="One layer of the delta rule composes swaps of five things if its eigenvalues may be negative, else not.",
        source="Grazzi et al. 2024, arXiv:2411.12537, figure 4",
        configuration="configs/word_problems.py: trained on products of 32 elements, mean accuracy per token at 64 and "
        "128, best run. Width 64, 3000 steps; theirs are read off a figure, where the learned curve stays at 1.",
        judge=_swaps,
        study="word_problems",
    ),
    Certificate(
        name="rotations_two_steps",
        claim="One layer of DeltaProduct composes all permutations of three things with two steps per token, and with "
        "one, or without negative eigenvalues, it does not.",
        source="Siems et al. 2025, arXiv:2502.10297, section 5",
        configuration="configs/word_problems.py: trained on products of 32 elements where the paper has 128, mean "
        "accuracy per token at 64 and 128, best run.",
        judge=_rotations,
        study="word_problems",
    ),
)
