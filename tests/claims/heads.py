"""What docs/studies.md says of heads and layers."""

from tests.claims.scores import Claim, mean, near

_INDUCTION, _RECALL, _ONE, _FOUR = "induction", "mqar", "1;", "4;"
CLAIMS = [
    Claim(
        "head_specialisation",
        "Full attention solves both tasks in every seed.",
        lambda s: len(s.rows("full")) == 4 and all(row.solved == row.ended == 3 for row in s.rows("full")),
    ),
    Claim(
        "head_specialisation",
        "on induction to step 500 in place of 350, on recall to 200 in place of 150.",
        lambda s: (
            [
                s.row("full", task=task, num_heads=heads).steps_to_solve
                for task in (_INDUCTION, _RECALL)
                for heads in (_FOUR, _ONE)
            ]
            == [500, 350, 200, 150]
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
        "The delta rule stays at the floor of both.",
        lambda s: all(mean(row) < (row.mean("floor") or 0) + 0.01 for row in s.rows("delta")),
    ),
]
