"""What a model with a fixed state could get right: the bits that a task needs against those that the model can carry.

At some place in a row, all that decides the answers x_1 .. x_n has been read and no answer has been given
(`Task.stored`). What follows has the questions, and perhaps earlier answers, but nothing about later ones. A model
that decodes token by token carries S bits of state past that place. Hence at most S of the H = H(x_1 .. x_n) bits are
known after it:

    H - S <= H(x | state) = sum_j H(x_j | state, x_1 .. x_(j-1)) <= sum_j phi(e_j) <= n phi(e)

with e_j the chance that answer j is wrong, e their mean, and phi(e) = h(e) + e log2(M - 1) for answers out of M, where
h is the binary entropy: Fano's inequality for each answer, then concavity. phi grows up to e = 1 - 1/M. Hence the
least e with n phi(e) >= H - S bounds the accuracy by 1 - e. For independent uniform answers, H = n log2 M, that is the
rate-distortion function of Hamming error, which long codes reach: no tighter bound holds for all models.

A state of float32 is charged 32 bits per number, far more than training makes use of. A score above the bound is a
mistake; a score far below it is not explained by it.

References:
  Shannon 1959, "Coding theorems for a discrete source with a fidelity criterion"; Cover and Thomas 2006, "Elements of
  Information Theory", sections 2.10 and 10.3; Arora et al. 2024, "Based", arXiv:2402.18668, on recall and state size.
"""

import math

from experiments.components.mixers import Call
from experiments.config.run import Run
from experiments.tasks.base import Stored

_HALVINGS = 60


def highest_accuracy(stored: Stored, state_bits: float) -> float:
    """Returns an upper bound on the accuracy of a model that carries that many bits; the module derives it."""
    lacking = (stored.bits - state_bits) / stored.answers
    right, wrong = 0.0, 1 - 1 / stored.values
    if lacking <= 0:
        return 1.0
    if lacking >= math.log2(stored.values):
        return 1 / stored.values
    for _ in range(_HALVINGS):
        middle = (right + wrong) / 2
        right, wrong = (middle, wrong) if ambiguity(middle, stored.values) < lacking else (right, middle)
    return 1 - right


def ambiguity(error: float, values: int) -> float:
    """Returns phi: the most bits that can be unknown of one of `values` answers, given with this error rate."""
    return sum(p * math.log2(n / p) for p, n in ((error, values - 1), (1 - error, 1)) if p > 0)


def state_bits(run: Run, length: int) -> int | None:
    """Returns the bits that decoding carries past any token of a row; None where they grow with the row."""
    size, longer = state_bytes(run, length), state_bytes(run, 2 * length)
    return 8 * size if size == longer else None


def state_bytes(run: Run, length: int) -> int:
    """Returns the decoding state of one sequence of a length, all layers."""
    call = Call(length, length, True)
    return sum(mixer.cost(sizes, call).cache_bytes for mixer, sizes in run.built)
