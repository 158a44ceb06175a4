"""How well the operators closest to the root of a ListOps tree predict its value: what shortcuts score.

Reading `levels` of operators means seeing them, the digits among their children, and the kind of each operator below,
but nothing inside those. Their values are taken to be independent draws from the law of values of that operator, and
the guess is the likeliest value of the root. Expressions are in prefix form: digits, then _OPERATORS, then _CLOSE.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

_DIGITS = 10
_OPERATORS = _MIN, _MAX, _MED, _SM = 10, 11, 12, 13
_CLOSE = 14
_LEVELS = 3

_CERTAIN = np.eye(_DIGITS)
_LOW, _HIGH = np.indices((_DIGITS, _DIGITS))

Law = Float[np.ndarray, "10"]  # of a value
Tree = int | tuple[int, list["Tree"]]  # a digit; an operator and its children, empty if they are not seen


def floors(expressions: Sequence[Int[np.ndarray, " length"]], values: Int[np.ndarray, " rows"]) -> dict[str, float]:
    """Returns the accuracy of each shortcut over a sample of expressions and their values."""
    roots = np.array([expression[0] for expression in expressions])
    by_root = sum(np.bincount(values[roots == operator], minlength=1).max() for operator in _OPERATORS)
    trees = [_visible(expression) for expression in expressions]

    def share(levels: int) -> float:
        guesses = [guess(tree, levels) for tree in trees]
        return float(np.mean(guesses == values))

    return {
        "answer with the likeliest digit": float(np.bincount(values).max() / len(values)),
        "read the root's operator": float(by_root / len(values)),
        "read the root and its children": share(1),
        "read two levels of operators": share(2),
        "read three levels of operators": share(_LEVELS),
    }


def guess(tree: Tree, levels: int) -> int:
    """Returns the likeliest value of a tree of which `levels` of operators are seen."""
    return int(np.argmax(_law(tree, levels)))


def _visible(expression: Int[np.ndarray, " length"]) -> Tree:
    """Parses the part that _LEVELS of operators show."""
    opens, closes = (expression >= _MIN) & (expression < _CLOSE), expression == _CLOSE
    depth = np.cumsum(opens) - np.cumsum(closes) + closes
    return _parse(iter(expression[depth <= np.where(opens | closes, _LEVELS + 1, _LEVELS)].tolist()))


def _parse(tokens: Iterator[int]) -> Tree:
    token = next(tokens)
    if token < _DIGITS or token == _CLOSE:
        return token
    children = []
    while (child := _parse(tokens)) != _CLOSE:
        children.append(child)
    return token, children


def _law(tree: Tree, levels: int) -> Law:
    if isinstance(tree, int):
        return _CERTAIN[tree]
    operator, children = tree
    if levels == 0:
        return _hidden_laws()[operator]
    return _operate(operator, np.stack([_law(child, levels - 1) for child in children]))


@functools.cache
def _hidden_laws() -> dict[int, Law]:
    """Returns the law of an operator's value by its kind, from the last operators upwards until it converges."""
    law = np.full(_DIGITS, 1 / _DIGITS)
    for _ in range(6):
        laws = {
            operator: np.mean([_operate(operator, np.tile(law, (count, 1))) for count in range(2, 11)], axis=0)
            for operator in _OPERATORS
        }
        law = 3 / 4 / _DIGITS + np.mean(list(laws.values()), axis=0) / 4
    return laws


def _operate(operator: int, laws: Float[np.ndarray, "children 10"]) -> Law:
    """Returns the law of an operator's value from its children's, which are independent."""
    if operator == _MIN:
        return _operate(_MAX, laws[:, ::-1])[::-1]
    if operator == _MAX:
        return np.diff(np.cumsum(laws, axis=1).prod(axis=0), prepend=0)
    if operator == _SM:
        return np.fft.irfft(np.fft.rfft(laws, axis=1).prod(axis=0), _DIGITS)
    return _median(laws)


def _median(laws: Float[np.ndarray, "children 10"]) -> Law:
    """Returns the law of the median, rounded down, from P(low <= u and high <= v) of the middle two.

    That needs enough children at or below u, and at or below v: `table` counts both.
    """
    count = len(laws)
    u, v = np.minimum(_LOW, _HIGH), _HIGH
    certain = laws.max(axis=1) == 1
    below = np.cumsum(laws[certain].sum(axis=0)).astype(int)
    uncertain = np.cumsum(laws[~certain], axis=1)
    table = np.zeros((_DIGITS, _DIGITS, len(uncertain) + 1, len(uncertain) + 1))
    table[:, :, 0, 0] = 1
    for law in uncertain:
        at_u, at_v = law[u][..., None, None], law[v][..., None, None]
        moved_v, moved_both = np.roll(table, 1, axis=3), np.roll(table, (1, 1), axis=(2, 3))
        table = table * (1 - at_v) + moved_v * (at_v - at_u) + moved_both * at_u
    some = np.arange(len(uncertain) + 1)
    enough_low = below[u][..., None, None] + some[:, None] > (count - 1) // 2
    enough_high = below[v][..., None, None] + some > count // 2
    joint = np.sum(table * enough_low * enough_high, axis=(2, 3))
    joint = np.diff(np.diff(joint, axis=0, prepend=0), axis=1, prepend=0)
    return np.bincount(((_LOW + _HIGH) // 2).ravel(), joint.ravel(), _DIGITS)
