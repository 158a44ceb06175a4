"""What docs/studies.md says of tasks and models."""

import statistics

from tests.claims.scores import Claim, mean, near

# Tasks and tests on other rows, as far as it takes to tell them apart.
_FEW_HOPS = "variable_tracking:length=32,vocab_size=48,hops=2,num_chains=3,vary_hops=true"
_WRITTEN = f"{_FEW_HOPS},scratchpad=true"
_NEEDLES = "needle:vocab_size=160,num_keys=6,num_queries=6"
_MORE_DISTRACTORS, _UNSEEN_KEYS = f"{_NEEDLES},distractors=24", f"{_NEEDLES},distractors=8"


CLAIMS = [
    Claim("lost_in_the_middle", "Full attention finds every needle.", lambda s: min(s.bins("full", "depth")) > 0.99),
    Claim(
        "lost_in_the_middle",
        "comes within 0.01 of its ceiling",
        lambda s: 0 <= s.gap("sink_window") < 0.01,
    ),
    Claim(
        "lost_in_the_middle",
        "`retention` keeps what is recent: 0.09 at the beginning, and 0.75 near the end.",
        lambda s: near(s.bins("retention", "depth")[0], 0.09) and near(s.bins("retention", "depth")[8], 0.75),
    ),
    Claim(
        "lost_in_the_middle",
        "`linear` has no preferred depth and finds 0.96 of the needles, with a state of a fifteenth of the cache. It "
        "does so with the largest of the four rates; with the others it reaches 0.30 or less by validation",
        lambda s: (
            max(s.bins("linear", "depth")) - min(s.bins("linear", "depth")) < 0.02
            and near(s.accuracy("linear"), 0.96)
            and round(s.row("full").values("cache_bytes")[0] / s.row("linear").values("cache_bytes")[0]) == 15
            and near(max(score for _, score in s.row("linear").choices[0].curve[:-1]), 0.30)
        ),
    ),
    Claim(
        "lost_in_the_middle",
        "two of five runs reach 0.82 and 0.73, the others stay below 0.33.",
        lambda s: (
            [round(score, 2) for score in sorted(s.row("gated_delta").values("test_accuracy"))[3:]] == [0.73, 0.82]
            and sorted(s.row("gated_delta").values("test_accuracy"))[2] < 0.33
        ),
    ),
    Claim(
        "lost_in_the_middle",
        "the largest for `linear` and `retention`, the smallest for `gated_delta` and the window. A rate beyond them "
        "may be better.",
        lambda s: s.edges() == {("linear",): 1, ("retention",): 1, ("gated_delta",): -1, ("sliding_window",): -1},
    ),
    Claim(
        "dilution",
        "1.00 with no distractors and with 24",
        lambda s: near(s.bins("full", "distractors")[0], 1.00) and near(s.at("full", _MORE_DISTRACTORS), 1.00),
    ),
    Claim(
        "dilution",
        "States lose with each distractor, though they are large enough: within training `gated_linear` falls from "
        "0.98 to 0.72 and `linear` from 0.88 to 0.67; with 24 they reach 0.58 and 0.59. The seeds of `linear` lie "
        "between 0.45 and 0.91. `topk` loses nothing to distractors (0.78 and 0.77), nor does the window, which stays "
        "near its ceiling of 0.52.",
        lambda s: (
            all(
                near(s.bins(name, "distractors")[0], first)
                and near(s.bins(name, "distractors")[-1], most)
                and near(s.at(name, _MORE_DISTRACTORS), last)
                for name, first, most, last in (
                    ("gated_linear", 0.98, 0.72, 0.58),
                    ("linear", 0.88, 0.67, 0.59),
                    ("topk", 0.78, 0.78, 0.77),
                )
            )
            and all(s.row(name).mean("ceiling") == 1 for name in ("gated_linear", "linear"))
            and near(min(s.row("linear").values("test_accuracy")), 0.45)
            and near(max(s.row("linear").values("test_accuracy")), 0.91)
            and near(s.row("sliding_window").mean("ceiling"), 0.52)
            and s.gap("sliding_window") < 0.03
            and s.bins("sliding_window", "distractors")[0] - s.at("sliding_window", _MORE_DISTRACTORS) < 0.02
        ),
    ),
    Claim(
        "dilution",
        "`gated_delta` stays below the floor of 0.15 at all four rates (0.12): always answering with the row's most "
        "common value does better.",
        lambda s: (
            near(s.accuracy("gated_delta"), 0.12)
            and near(s.row("gated_delta").mean("floor"), 0.15)
            and all(score < s.row("gated_delta").mean("floor") for _, score in s.row("gated_delta").choices[0].curve)
        ),
    ),
    Claim(
        "dilution",
        "`gated_linear` and the window reach 0.11, below the floor of 0.14",
        lambda s: (
            near(s.at("gated_linear", _UNSEEN_KEYS), 0.11)
            and near(s.at("sliding_window", _UNSEEN_KEYS), 0.11)
            and near(s.test("topk", _UNSEEN_KEYS).floor, 0.14)
            and all(
                statistics.fmean(test.accuracies) <= s.at("gated_linear", _UNSEEN_KEYS)
                for row in s.rows()
                for test in row.other_rows[1:]
            )
        ),
    ),
    Claim(
        "dilution",
        "the smallest for full attention, which solves the task, and the largest for `linear`.",
        lambda s: s.edges() == {("full",): -1, ("linear",): 1} and s.row("full").solved == 5,
    ),
    Claim(
        "scratchpad",
        "all three solve the task in all five seeds, within 500 steps in the median.",
        lambda s: (
            [row.solved for row in s.rows(task=f"{_WRITTEN};")] == [5, 5, 5]
            and max(row.steps_to_solve or 9999 for row in s.rows(task=f"{_WRITTEN};")) == 500
        ),
    ),
    Claim(
        "scratchpad",
        "Without them no model reaches the floor of 0.64, which comes from looking the name up once, at any of four "
        "rates: one layer of full attention reaches 0.56, two reach 0.41, two of `gated_delta` 0.33.",
        lambda s: (
            [
                round(s.accuracy(name, task=f"{_FEW_HOPS};"), 2)
                for name in ("full", "full+full", "gated_delta+gated_delta")
            ]
            == [0.56, 0.41, 0.33]
            and all(
                near(row.mean("floor"), 0.64) and max(score for _, score in row.choices[0].curve) < 0.64
                for row in s.rows(task=f"{_FEW_HOPS};")
            )
        ),
    ),
    Claim(
        "scratchpad",
        "One layer answers the questions that need no hop (0.99) and guesses among the three chains where it takes one "
        "or two (0.33 and 0.34). No row was still improving.",
        lambda s: (
            near(s.bins("full", "hops", task=f"{_FEW_HOPS};")[0], 0.99)
            and near(s.bins("full", "hops", task=f"{_FEW_HOPS};")[1], 0.33)
            and near(s.bins("full", "hops", task=f"{_FEW_HOPS};")[2], 0.34)
            and not any(row.still_improving for row in s.rows())
        ),
    ),
    Claim(
        "scratchpad",
        "Rates at the edge of the four, without the steps: the smallest for full attention in one layer and in two, "
        "the largest for `gated_delta`.",
        lambda s: (
            s.edges("task")
            == {("full", f"{_FEW_HOPS};"): -1, ("full+full", f"{_FEW_HOPS};"): -1}
            | {("gated_delta+gated_delta", f"{_FEW_HOPS};"): 1}
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "`delta` answers every string of up to 256 symbols (1.00 in all three seeds)",
        lambda s: (
            min(s.test("delta:max_strength=2", "161-256").accuracies) > 0.995
            and s.row("delta:max_strength=2").ended == 3
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "So does `gated_delta` up to 160 symbols, and its best seed up to 256",
        lambda s: (
            min(s.test("gated_delta:max_strength=2", "81-160").accuracies) > 0.995
            and max(s.test("gated_delta:max_strength=2", "161-256").accuracies) > 0.995
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "`kimi_delta` solves the lengths of training, and loses longer strings in two of three seeds",
        lambda s: (
            s.row("kimi_delta:max_strength=2").solved == 3
            and sorted(each > 0.995 for each in s.test("kimi_delta:max_strength=2", "161-256").accuracies)
            == [False, False, True]
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "no delta rule rises above chance beyond 40 symbols",
        lambda s: all(
            max(s.test(name, test).accuracies) < 0.6
            for name in ("delta", "gated_delta", "kimi_delta")
            for test in ("41-80", "81-160", "161-256")
        ),
    ),
    Claim(
        "negative_eigenvalues",
        "do not even learn the strings of training (0.51 each)",
        lambda s: near(s.accuracy("delta"), 0.51) and near(s.accuracy("gated_delta"), 0.51),
    ),
    Claim(
        "vision",
        "No model solves it. `linformer`, whose queries see 16 learned mixtures of the patches, reaches 0.76, `linear`"
        " 0.70, full attention 0.64 and `nystrom` 0.61, over a floor of 0.51. A window with global tokens hardly rises"
        " above it (0.54), and a window in raster order stays below (0.42).",
        lambda s: (
            not any(row.solved for row in s.rows())
            and {row.ended for row in s.rows()} == {5}
            and [round(mean(row), 2) for row in s.rows()] == [0.76, 0.70, 0.64, 0.61, 0.54, 0.42]
            and [row.attention.partition(":")[0] for row in s.rows()]
            == ["linformer", "linear", "full", "nystrom", "global_window", "sliding_window"]
            and "rank=16" in s.rows()[0].attention
            and all(near(row.mean("floor"), 0.51) for row in s.rows())
        ),
    ),
    Claim(
        "vision",
        "Each additional shape is of another kind, and costs every model accuracy: `linformer` falls from 0.97 to "
        "0.63, and from 0.90 to 0.58.",
        lambda s: (
            all(
                bins[:4] == sorted(bins[:4], reverse=True) and bins[4:] == sorted(bins[4:], reverse=True)
                for bins in (s.bins(row.attention, "shapes") for row in s.rows())
            )
            and [round(s.bins("linformer", "shapes")[i], 2) for i in (0, 3, 4, 7)] == [0.97, 0.63, 0.90, 0.58]
        ),
    ),
    Claim(
        "vision",
        "No row was still improving. Rates at the edge of the four: the smallest for `nystrom` and both windows.",
        lambda s: (
            not any(row.still_improving for row in s.rows())
            and s.edges() == {("nystrom",): -1, ("global_window",): -1, ("sliding_window",): -1}
        ),
    ),
    Claim(
        "catalogue",
        "On recall of 8 pairs nine causal variants reach 0.99: `full`, `topk`, `native_sparse`, `forgetting`, "
        "`softmax_sink`, `differential`, `taylor`, `rwkv6` and `delta`.",
        lambda s: (
            {
                row.attention.removeprefix("conv+").partition(":")[0]
                for row in s.rows(task="mqar", bidirectional="False")
                if mean(row) >= 0.99
            }
            == {
                "full",
                "topk",
                "native_sparse",
                "forgetting",
                "softmax_sink",
                "differential",
                "taylor",
                "rwkv6",
                "delta",
            }
        ),
    ),
    Claim(
        "catalogue",
        "`kimi_delta` 0.959, `full` 0.940, `delta` 0.940; `gated_delta` 0.945 and 0.074 on its two seeds",
        lambda s: (
            near(s.accuracy("kimi_delta", task="selective"), 0.959)
            and near(s.accuracy("delta", task="selective"), 0.940)
            and near(s.accuracy("full", task="selective", bidirectional="False"), 0.940)
        ),
    ),
]
