"""What README.md says."""

from experiments.studies.rows import Row
from tests.claims.frontier import STATES
from tests.claims.scores import Claim, mean, near

_WIDTHS = ("32;", "64;")


def _floor(row: Row) -> float:
    return row.mean("floor") or 0.0


CLAIMS = [
    Claim(
        "frontier",
        "at width 64 `linear` and `delta` solve it on every seed, as full attention does, with 0.27 and 0.31 of its "
        "state and three to five times its training FLOPs. At width 32 they solve it on one and on two of five.",
        lambda s: (
            s.row("full", task="mqar", model_dim="64;").solved == 5
            and all(
                [s.row(name, task="mqar", model_dim=width).solved for width in _WIDTHS] == [narrow, 5]
                and near(s.times_full(name, "cache_bytes", task="mqar", model_dim="64;"), state)
                and 3 <= s.times_full(name, "train_flops_executed", task="mqar", model_dim="64;") <= 5
                for name, state, narrow in (("linear", 0.27, 1), ("delta", 0.31, 2))
            )
        ),
    ),
    Claim(
        "frontier",
        "full attention, sparse attention, a window that reaches the string and both hybrids solve it on every seed; "
        "the window keeps 0.27 of the state. Models with only a state spend more than ten times the training FLOPs and"
        " solve it in 8 of 60 runs.",
        lambda s: (
            all(
                row.solved == row.ended == 5
                for name in ("full", "native_sparse", "sliding_window", "sliding_window+full", "gated_delta+full")
                for row in s.rows(name, task="copying")
            )
            and all(
                near(s.times_full("sliding_window", "cache_bytes", task="copying", model_dim=w), 0.27) for w in _WIDTHS
            )
            and all(
                s.times_full(name, "train_flops_executed", task="copying", model_dim=width) > 10
                for name in STATES
                for width in _WIDTHS
            )
            and (states := [row for name in STATES for row in s.rows(name, task="copying")]) != []
            and (sum(row.solved for row in states), sum(row.ended for row in states)) == (8, 60)
        ),
    ),
    Claim(
        "frontier",
        "eleven models, full attention among them, stay under the floor. `delta` with strengths up to two gets clearly "
        "past it in four of ten runs.",
        lambda s: (
            all((mean(row) < _floor(row)) == (row not in s.rows("delta")) for row in s.rows(task="group_word"))
            and [
                sum(score > _floor(row) + 0.1 for row in rows for score in row.accuracies)
                for rows in (s.rows("delta", task="group_word"), s.rows(task="group_word"))
            ]
            == [4, 4]
        ),
    ),
    Claim(
        "quickstart",
        "Full attention solves the task in all five seeds and stops early, so it spends the fewest training FLOPs.",
        lambda s: (
            s.row("full").solved == s.row("full").ended == 5
            and s.row("full").mean("steps") < s.row("full").config["train.steps"]
            and s.row("full") == min(s.rows(), key=lambda row: row.mean("train_flops_executed") or 0.0)
        ),
    ),
    Claim(
        "quickstart",
        "The window of 32 and BigBird come within 0.03 of their ceilings: they *could not see* the rest. Strided "
        "attention sees more than it finds (0.33 of 0.45).",
        lambda s: (
            all(0 <= s.gap(name) < 0.03 for name in ("sliding_window", "bigbird"))
            and near(s.accuracy("strided_sparse"), 0.33)
            and near(s.row("strided_sparse").mean("ceiling"), 0.45)
        ),
    ),
    Claim(
        "quickstart",
        "Linear attention sees everything and keeps a seventh of the decoding state. It reaches 0.976 in 500 steps: no"
        " seed reaches the 0.99 that counts as solved.",
        lambda s: (
            s.row("linear").mean("ceiling") == 1
            and round(s.row("full").values("cache_bytes")[0] / s.row("linear").values("cache_bytes")[0]) == 7
            and round(s.accuracy("linear"), 3) == 0.976
            and s.row("linear").config["train.steps"] == 500
            and not any(row.still_improving for row in s.rows())
            and (s.row("linear").solved, s.row("linear").ended) == (0, 5)
            and s.row("linear").config["train.solved_at"] == 0.99
        ),
    ),
    Claim(
        "mqar",
        "In the study of recall below, with 1000 steps, four of five seeds do at this length.",
        lambda s: (
            s.row("linear", task="mqar:length=128,").config["train.steps"] == 1000
            and (s.row("linear", task="mqar:length=128,").solved, s.row("linear", task="mqar:length=128,").ended)
            == (4, 5)
        ),
    ),
    Claim(
        "quickstart",
        "The hybrid of the two solves the task in all five seeds with two fifths of the state, at the price of one "
        "more layer.",
        lambda s: (
            s.row("sliding_window+linear").solved == s.row("sliding_window+linear").ended == 5
            and near(
                s.row("sliding_window+linear").values("cache_bytes")[0] / s.row("full").values("cache_bytes")[0], 0.38
            )
            and s.row("sliding_window+linear").size.layers == s.row("full").size.layers + 1
        ),
    ),
    Claim(
        "quickstart",
        "Two rates are the smallest of the four, that of full attention, which solves the task with it, and that of "
        "the window; linear attention has the largest.",
        lambda s: (
            {row.attention for row in s.rows() if row.choices[0].edge == -1}
            == {"conv+full", "conv+sliding_window:window_size=32"}
            and [row for row in s.rows() if row.choices[0].edge == 1] == s.rows("linear")
        ),
    ),
    Claim(
        "catalogue_paper",
        "182 runs train 13 variants in layers as their papers have them, each at its own learning rate: ten solve the "
        "recall of eight pairs in two or three of three seeds, and `retention`, `hedgehog` and `gated_linear` in none.",
        lambda s: (
            len(s.study.rows) == 26
            and sum(len(row.results) + len(row.others) for row in s.rows()) == 182
            and {row.ended for row in s.rows()} == {3}
            and sum(row.solved >= 2 for row in s.rows(task="mqar")) == 10
            and {row.attention.removeprefix("conv+") for row in s.rows(task="mqar") if row.solved == 0}
            == {"retention", "hedgehog", "gated_linear"}
        ),
    ),
    Claim(
        "catalogue_longer",
        "With twice the steps, five seeds and a rate chosen anew, `retention` and `gated_linear` reach 0.98 and "
        "`hedgehog` 0.88.",
        lambda s: (
            {row.ended for row in s.rows()} == {5}
            and near(s.accuracy("gated_linear"), 0.98)
            and near(s.accuracy("retention"), 0.98)
            and near(s.accuracy("hedgehog"), 0.88)
        ),
    ),
    Claim(
        "mqar",
        "A window of 64 falls from 0.99 to 0.58, as its ceiling does. Linear attention stays at 0.99 and solves the "
        "task in 4 or 5 of five seeds, full attention in 2 to 4. With normalised queries and keys, tried for full "
        "attention alone, it solves the task in all five seeds at every length.",
        lambda s: (
            all(near(mean(row), 0.99) for row in s.rows("linear"))
            and {row.solved for row in s.rows("linear")} == {4, 5}
            and {row.attention for row in s.rows(qk_norm="True")} == {"conv+full"}
            and near(s.accuracy("sliding_window", task="mqar:length=64,"), 0.99)
            and near(s.accuracy("sliding_window", task="mqar:length=512"), 0.58)
            and all((row.mean("ceiling") or 0) - mean(row) < 0.03 for row in s.rows("sliding_window"))
            and {(row.solved, len(row.results)) for row in s.rows("full", qk_norm="True")} == {(5, 5)}
            and {row.solved for row in s.rows("full", qk_norm="False")} == {2, 3, 4}
        ),
    ),
    Claim(
        "bottleneck",
        "With full attention after an LSTM or a GRU every length is solved in all five seeds, within 600 steps in the "
        "median. Two layers of GRU are at 0.80 with 32 letters after 4000 steps, still improving, and two layers of "
        "LSTM under the floor; a rate beyond the four may help both.",
        lambda s: (
            all(row.solved == 5 and (row.steps_to_solve or 999) <= 600 for row in s.rows() if "+full" in row.attention)
            and near(s.accuracy("gru", task="copying:length=64"), 0.80)
            and s.row("gru", task="copying:length=64").mean("steps") == 4000
            and s.row("gru", task="copying:length=64").still_improving
            and all(s.row(name, task="copying:length=64").choices[0].edge for name in ("gru", "lstm"))
            and s.accuracy("lstm", task="copying:length=64")
            < (s.row("lstm", task="copying:length=64").mean("floor") or 0)
        ),
    ),
    Claim(
        "lost_in_the_middle",
        "Nowhere with full attention; with a window and sinks, in the middle. Linear attention finds 0.96 of the facts "
        "at every depth, if its learning rate is large; decaying states keep what is recent. Five seeds.",
        lambda s: (
            near(s.accuracy("linear"), 0.96)
            and s.row("linear").choices[0].edge == 1
            and max(s.bins("linear", "depth")) - min(s.bins("linear", "depth")) < 0.02
            and all(s.bins(name, "depth")[8] > s.bins(name, "depth")[0] + 0.1 for name in ("retention", "gated_delta"))
            and {row.ended for row in s.rows()} == {5}
            and min(s.bins("full", "depth")) > 0.99
            and max(s.bins("sink_window", "depth")[2:7]) < 0.1 < 0.99 < min(s.bins("sink_window", "depth")[::9])
        ),
    ),
]
