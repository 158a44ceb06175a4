"""What docs/studies.md says of learning in context."""

from tests.claims.scores import Claim, field, mean, near

_CHAINS, _REGRESSION = "markov_icl", "in_context_regression"
_WINDOW, _HYBRID = "sliding_window", "gated_delta+full"
_LEARN = ("full", "linear", "gated_delta", _HYBRID)
CLAIMS = [
    Claim(
        "markov_phases",
        "it has neither, and one head, and reaches 0.016",
        lambda s: (
            abs((s.row("full", num_layers="2;").mean("test_loss") or 0) - 0.016) < 0.0005
            and (field(s.row("full", num_layers="2;"), "short_conv"), field(s.row("full", num_layers="2;"), "mlp_dim"))
            == ("0;", "0;")
        ),
    ),
    Claim(
        "in_context",
        "full attention, linear attention, `gated_delta` and the hybrid reach 0.99 in all five seeds, within 1800 "
        "steps in the median, and their divergence from the Bayes posterior is 0.001. A window of 8 in two layers, "
        "which cannot count over the row, stays at 0.33.",
        lambda s: (
            all(
                row.solved == row.ended == 5
                and near(mean(row), 0.99)
                and (row.steps_to_solve or 9999) <= 1800
                and abs((row.mean("test_loss") or 0) - 0.001) < 0.0005
                for row in (s.row(name, task=_CHAINS) for name in _LEARN)
            )
            and near(s.accuracy(_WINDOW, task=_CHAINS), 0.33)
        ),
    ),
    Claim(
        "in_context",
        "`gated_delta` is at 0.61 and the hybrid at 0.54;",
        lambda s: (
            near(s.accuracy("gated_delta", task=_REGRESSION), 0.61)
            and near(s.accuracy(_HYBRID, task=_REGRESSION), 0.54)
            and not any(row.solved for row in s.rows(task=_REGRESSION))
        ),
    ),
    Claim(
        "in_context",
        "Linear attention is at 0.32, full attention at 0.28, both little above the floor of 0.23, and the window is "
        "below it. Both of the better ones were still improving.",
        lambda s: (
            near(s.accuracy("linear", task=_REGRESSION), 0.32)
            and near(s.accuracy("full", task=_REGRESSION), 0.28)
            and all(near(row.mean("floor"), 0.23) for row in s.rows(task=_REGRESSION))
            and s.accuracy(_WINDOW, task=_REGRESSION) < 0.23
            and {row.attention for row in s.rows() if row.still_improving} == {"gated_delta", _HYBRID}
            and all(field(row, "task").startswith(_REGRESSION) for row in s.rows() if row.still_improving)
        ),
    ),
    Claim(
        "in_context",
        "On its search seed full attention reached 0.61 at the chosen rate, and never more than 0.31 on the five "
        "others",
        lambda s: (
            near(s.row("full", task=_REGRESSION).choices[0].best, 0.61)
            and near(max(s.row("full", task=_REGRESSION).values("test_accuracy")), 0.31)
        ),
    ),
    Claim(
        "in_context",
        "the largest for the hybrid on regression and for linear attention on the chains, which it solves.",
        lambda s: s.edges("task") == {(_HYBRID, f"{_REGRESSION}:num_pairs=16,dim=4;"): 1, ("linear", f"{_CHAINS};"): 1},
    ),
]
