"""What docs/studies.md says of heads and layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.claims.scores import Claim, Scores, mean, near

_INDUCTION, _RECALL, _JOINT, _ONE, _FOUR = "induction", "mqar", "joint_recall", "1;", "4;"
_WINDOW_FIRST, _WINDOW_LAST = "sliding_window:window_size=8+full", "full+sliding_window:window_size=8"
_EIGHT_PAIRS = "mqar:length=64,num_pairs=8;"
_EACH = ("1;", "2;", "4;", "8;")
_WINDOWS = "sliding_window:window_size=8+sliding_window:window_size=8"


def _unsolved(s: Scores) -> list[float]:
    """Returns the accuracy of each run of full attention that does not solve joint recall."""
    runs = [accuracy for row in s.rows("full", task=_JOINT) for accuracy in row.values("test_accuracy")]
    return [accuracy for accuracy in runs if accuracy < 0.99]


def _loss_at(lines: Sequence[Mapping[str, Any]], step: int) -> float:
    (loss,) = [line["validation_loss"] for line in lines if line["step"] == step]
    return loss


CLAIMS = [
    Claim(
        "head_specialisation",
        "Full attention solves both tasks in every seed.",
        lambda s: len(s.rows("full")) == 4 and all(row.solved == row.ended == 3 for row in s.rows("full")),
    ),
    Claim(
        "head_specialisation",
        "on induction to step 500 in place of 350, on recall to 250 in place of 150.",
        lambda s: (
            [
                s.row("full", task=task, num_heads=heads).steps_to_solve
                for task in (_INDUCTION, _RECALL)
                for heads in (_FOUR, _ONE)
            ]
            == [500, 350, 250, 150]
        ),
    ),
    Claim(
        "head_specialisation",
        "A window of 8 reaches its ceiling on recall (0.54) and learns nothing on induction.",
        lambda s: (
            near(s.accuracy("sliding_window", task=_RECALL, num_heads=_ONE), 0.54)
            and all(abs(s.gap("sliding_window", task=_RECALL, num_heads=heads)) < 0.02 for heads in (_ONE, _FOUR))
            and all(mean(row) < (row.mean("floor") or 0) for row in s.rows("sliding_window", task=_INDUCTION))
        ),
    ),
    Claim(
        "head_specialisation",
        "Linear attention recalls with one head (0.99) and not with four (0.39), which have a quarter of the state; on "
        "induction it gets to 0.22 at best.",
        lambda s: (
            near(s.accuracy("linear", task=_RECALL, num_heads=_ONE), 0.99)
            and near(s.accuracy("linear", task=_RECALL, num_heads=_FOUR), 0.39)
            and near(max(mean(row) for row in s.rows("linear", task=_INDUCTION)), 0.22)
        ),
    ),
    Claim(
        "head_specialisation",
        "none forms at any of the four rates. The largest, at the edge, is chosen with four heads on recall, where all "
        "four are alike.",
        lambda s: (
            s.edges("num_heads", task=_RECALL) == {("delta", _FOUR): 1}
            and s.edges("num_heads", task=_INDUCTION) == {}
            and all(score < 0.3 for row in s.rows("delta") for _, score in row.choices[0].curve)
            and max(score for _, score in s.row("delta", task=_RECALL, num_heads=_FOUR).choices[0].curve)
            - min(score for _, score in s.row("delta", task=_RECALL, num_heads=_FOUR).choices[0].curve)
            < 0.02
        ),
    ),
    Claim(
        "head_specialisation",
        "The delta rule stays at the floor of both.",
        lambda s: all(mean(row) < (row.mean("floor") or 0) + 0.01 for row in s.rows("delta")),
    ),
    Claim(
        "window_hybrid",
        "both tasks are solved in every seed, induction after 300 steps in the median and recall after 200, where two "
        "layers of full attention take 350 and 150.",
        lambda s: (
            {(row.solved, row.ended) for name in (_WINDOW_FIRST, "full+full") for row in s.rows(name)} == {(3, 3)}
            and [
                s.row(name, task=task).steps_to_solve
                for name in (_WINDOW_FIRST, "full+full")
                for task in (_INDUCTION, _RECALL)
            ]
            == [300, 200, 350, 150]
        ),
    ),
    Claim(
        "window_hybrid",
        "induction stays at its floor. On recall two of three seeds reach 0.98 or more, late, and one stays at its "
        "floor, as the search seed did at all four rates.",
        lambda s: (
            s.accuracy(_WINDOW_LAST, task=_INDUCTION) < (s.row(_WINDOW_LAST, task=_INDUCTION).mean("floor") or 0)
            and [round(each, 1) for each in sorted(s.row(_WINDOW_LAST, task=_RECALL).accuracies)] == [0.3, 1.0, 1.0]
            and sorted(s.row(_WINDOW_LAST, task=_RECALL).accuracies)[1] > 0.98
            and all(score < 0.288 for _, score in s.row(_WINDOW_LAST, task=_RECALL).choices[0].curve)
        ),
    ),
    Claim(
        "window_hybrid",
        "Two windows reach their ceiling on recall (0.54) and learn nothing on induction.",
        lambda s: (
            near(s.accuracy(_WINDOWS, task=_RECALL), 0.54)
            and abs(s.gap(_WINDOWS, task=_RECALL)) < 0.02
            and s.accuracy(_WINDOWS, task=_INDUCTION) < (s.row(_WINDOWS, task=_INDUCTION).mean("floor") or 0)
        ),
    ),
    Claim(
        "window_hybrid",
        "the window looks one token back (0.93, where layer 1 of two layers of full attention has 0.83), and the "
        "weight of the full layer lies on the evidence (0.99); without either layer accuracy is below the floor. "
        "In the other order layer 1 looks back at 0.11.",
        lambda s: (
            [s.head(each, _INDUCTION, "previous token, layer 1") for each in (_WINDOW_FIRST, "full+full", _WINDOW_LAST)]
            == [0.93, 0.83, 0.11]
            and s.head(_WINDOW_FIRST, _INDUCTION, "evidence, layer 2") == 0.99
            and all(s.head(_WINDOW_FIRST, _INDUCTION, f"without layer {n}") < 0.159 for n in (1, 2))
        ),
    ),
    Claim(
        "many_heads",
        "Full attention solves it in all five seeds with every number of heads, within 300 steps in the median. So "
        "does linear attention with 1, 2 and 4 heads",
        lambda s: (
            len(s.rows("full", task=_RECALL)) == 4
            and all(row.solved == 5 and (row.steps_to_solve or 999) <= 300 for row in s.rows("full", task=_RECALL))
            and all(s.row("linear", task=_RECALL, num_heads=heads).solved == 5 for heads in _EACH[:3])
        ),
    ),
    Claim(
        "many_heads",
        "With 8, which have a state of 6.1 kB where one head has 34.8 kB, it reaches 0.98 and solves the task in 2 of "
        "five seeds.",
        lambda s: (
            near(s.accuracy("linear", task=_RECALL, num_heads="8;"), 0.98)
            and s.row("linear", task=_RECALL, num_heads="8;").solved == 2
            and [s.row("linear", task=_RECALL, num_heads=heads).values("cache_bytes")[0] for heads in ("8;", _ONE)]
            == [6144, 34816]
        ),
    ),
    Claim(
        "many_heads",
        "Full attention does it in 4, 3, 0 and 2 of five seeds with 1, 2, 4 and 8 heads; the other seeds end between "
        "0.39 and 0.75, around the floor of 0.57, which is what one of the two tokens alone gives.",
        lambda s: (
            [s.row("full", task=_JOINT, num_heads=heads).solved for heads in _EACH] == [4, 3, 0, 2]
            and near(min(_unsolved(s)), 0.39)
            and near(max(_unsolved(s)), 0.75)
            and all(near(row.mean("floor"), 0.57) for row in s.rows(task=_JOINT))
        ),
    ),
    Claim(
        "many_heads",
        "on the search seed four heads solved the task with two rates, and on no other seed.",
        lambda s: (
            sum(score > 0.99 for _, score in s.row("full", task=_JOINT, num_heads=_FOUR).choices[0].curve) == 2
            and s.row("full", task=_JOINT, num_heads=_FOUR).solved == 0
        ),
    ),
    Claim(
        "many_heads",
        "Linear attention is at the floor, or under it, with any number of heads.",
        lambda s: all(mean(row) < (row.mean("floor") or 0) for row in s.rows("linear", task=_JOINT)),
    ),
    Claim(
        "many_heads",
        "the smallest for full attention with one head on both tasks, and with 4 and 8 on joint recall; the largest "
        "for linear attention with 2 and 8 heads on both. Full attention with 8 heads was still improving on joint "
        "recall.",
        lambda s: (
            s.edges("task", "num_heads")
            == {("full", task, _ONE): -1 for task in (_EIGHT_PAIRS, f"{_JOINT};")}
            | {("full", f"{_JOINT};", heads): -1 for heads in (_FOUR, "8;")}
            | {("linear", task, heads): 1 for task in (_EIGHT_PAIRS, f"{_JOINT};") for heads in ("2;", "8;")}
            and [row for row in s.rows() if row.still_improving] == s.rows("full", task=_JOINT, num_heads="8;")
        ),
    ),
    Claim(
        "markov_phases",
        "0.122 for one that counts the symbols so far.",
        lambda s: all(abs((row.task.loss_floor or 0) - 0.122) < 0.0005 for row in s.rows()),
    ),
    Claim(
        "markov_phases",
        "One layer reaches 0.112 and stays there, the unigrams' level. Two layers are at that level after 50 steps, "
        "below 0.04 after 200, and reach 0.016: they count what followed the present symbol, as published (Edelman et "
        "al. 2024). They do not reach the posterior: 0.52 of their distributions are within a total variation of 0.05 "
        "of it.",
        lambda s: (
            abs((s.row("full", num_layers=_ONE).mean("test_loss") or 0) - 0.112) < 0.0005
            and abs((s.row("full", num_layers="2;").mean("test_loss") or 0) - 0.016) < 0.0005
            and all(0.12 < _loss_at(lines, 50) < 0.14 for lines in s.row("full", num_layers="2;").metrics)
            and all(_loss_at(lines, 200) < 0.04 for lines in s.row("full", num_layers="2;").metrics)
            and near(s.accuracy("full", num_layers="2;"), 0.52)
            and all(row.task.tolerance == 0.05 for row in s.rows())
        ),
    ),
    Claim(
        "markov_phases",
        "The smallest of three rates is chosen for both, an edge that tells nothing, since the three are alike.",
        lambda s: all(
            row.choices[0].edge == -1
            and max(score for _, score in row.choices[0].curve) - min(score for _, score in row.choices[0].curve)
            < 0.006
            for row in s.rows()
        ),
    ),
    Claim(
        "markov_phases",
        "two layers are worst where it is rare and where it fills the row.",
        lambda s: (
            max(s.bins("full", "seen", num_layers="2;")[i] for i in (0, 1, -1))
            < min(s.bins("full", "seen", num_layers="2;")[2:-1])
        ),
    ),
]
